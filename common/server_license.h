// The server license: an X.509 certificate of the vendor whose extension carries what it grants
// (trust.md, licenses.md "Certificates"). Verified first, parsed second.
#pragma once

#include "common/crypto.h"

#define SERVER_LICENSE_KEYS_MAX 16
#define SERVER_LICENSE_ADDONS_MAX 8

struct server_license {
    char server_id[65];
    char variant[16]; // on-premises, cloud-ready
    char addons[SERVER_LICENSE_ADDONS_MAX][32];
    size_t addons_len;
    uint8_t license_keys[SERVER_LICENSE_KEYS_MAX][32];
    size_t license_keys_len;
    char cloud_url[512]; // "" unless cloud-ready
    struct wall_time not_before, not_after;
};

// 0 good; 1 expired; 2 not yet valid (the struct is filled in all three); negative: refused.
int server_license_read(struct server_license *out, const struct crypto_cert *cert,
                        const struct crypto_ca *vendor_ca, struct wall_time now,
                        struct error *err);
