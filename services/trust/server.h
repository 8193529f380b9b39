// The server license of the Cloud-Ready variant: two files in one folder.
#pragma once

#include "common/server_license.h"

// What is known of the two files without reading them.
struct server_stamp {
    struct {
        uint64_t device, inode;
        int64_t bytes, changed_s, changed_ns;
    } files[2];
};

struct server_files {
    char *cert_path, *key_path; // malloc'd
    struct server_license license;
    struct crypto_cert *cert;
    struct crypto_key *key;
    char *pem; // the certificate, malloc'd
    struct server_stamp stamp;
};

// The vendor's CA: compiled in, or from vendor_ca_path. *pem is malloc'd: its text.
int server_vendor_ca(struct crypto_ca **out, char **pem, const char *vendor_ca_path,
                     struct error *err);

// Loads and verifies <folder>/server-license.pem and .key. 0 or negative; err names the files.
int server_files_load(struct server_files *out, const char *folder,
                      const struct crypto_ca *vendor_ca, struct wall_time now, struct error *err);
// Are the files others than those that were read? True also while one of them is away.
bool server_files_changed(const struct server_files *files, struct server_stamp *now);
void server_files_fini(struct server_files *files);
