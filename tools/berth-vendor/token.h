// Provisioning of the PIV token that is plugged in (dongle-license --token).
#pragma once

#include "tools/berth-vendor/vendor.h"

// What a token wants to see before it lets its keys and certificates be changed.
struct management_key {
    uint8_t bytes[32];
    size_t len;
    bool is_default; // the one that every new token has, and everybody knows
};

// Hex digits in a file; without a path the public default.
int management_key_read(struct management_key *out, const char *path, struct error *err);

// A new key is made in the token, a certificate is issued for it and put beside it, and the token
// has to prove both. *out is the certificate, also after a failure behind its issue.
int token_provision(const struct server_order *order, const struct vendor *vendor,
                    const struct management_key *management, struct crypto_cert **out,
                    struct error *err);
