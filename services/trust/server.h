// The server license of the Cloud-Ready variant: two files in one folder.
#pragma once

#include "common/server_license.h"

struct server_files {
    char *cert_path, *key_path; // malloc'd
    struct server_license license;
    struct crypto_key *key;
    char *pem; // the certificate, malloc'd
};

// The vendor's CA: compiled in, or from vendor_ca_path. *pem is malloc'd: its text.
int server_vendor_ca(struct crypto_ca **out, char **pem, const char *vendor_ca_path,
                     struct error *err);

// Loads and verifies <folder>/server-license.pem and .key. 0 or negative; err names the files.
int server_files_load(struct server_files *out, const char *folder,
                      const struct crypto_ca *vendor_ca, struct wall_time now, struct error *err);
void server_files_fini(struct server_files *files);
