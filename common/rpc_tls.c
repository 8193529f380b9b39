// tls+tcp:// between the processes. nng 1.5.2 has TLS of its own, but it cannot be asked whose
// certificate the peer has, and "a certificate of our CA" would make every process the equal of
// every other at trust. So nng carries the bytes, and OpenSSL makes them TLS.
#include "common/rpc_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct crypto_tls_identity *identity;

static const char *const role_names[] = {
    [BERTH__ROLE__GATEWAY] = "gateway", [BERTH__ROLE__POOL] = "pool",
    [BERTH__ROLE__TRUST] = "trust",     [BERTH__ROLE__BORROW] = "borrow",
    [BERTH__ROLE__TOOL] = "tool",
};

int rpc_keys_load(const char *folder, const char *process, struct error *err)
{
    char ca[4096], certificate[4096], key[4096];
    if (snprintf(ca, sizeof ca, "%s/ca.pem", folder) >= (int)sizeof ca - 64)
        return error_set(err, "rpc.keys: the path is too long"), -ENAMETOOLONG;
    snprintf(certificate, sizeof certificate, "%s/%s.pem", folder, process);
    snprintf(key, sizeof key, "%s/%s.key", folder, process);
    struct crypto_tls_identity *fresh;
    int r = crypto_tls_identity_load(&fresh, ca, certificate, key, err);
    if (r) {
        error_prefix(err, "rpc.keys");
        return r;
    }
    crypto_tls_identity_free(&identity);
    identity = fresh;
    return 0;
}

void rpc_keys_unload(void)
{
    crypto_tls_identity_free(&identity);
}

int rpc_tls_identity(const char **url, struct crypto_tls_identity **held)
{
    static const char scheme[] = "tls+";
    *held = NULL;
    if (strncmp(*url, scheme, sizeof scheme - 1) != 0)
        return 0;
    if (!identity)
        return -ENOKEY;
    *url += sizeof scheme - 1;
    *held = crypto_tls_identity_hold(identity);
    return 0;
}

bool rpc_tls_is(const struct crypto_tls *tls, Berth__Role role)
{
    if (!tls)
        return true;
    return (size_t)role < sizeof role_names / sizeof *role_names && role_names[role] &&
           strcmp(role_names[role], crypto_tls_peer(tls)) == 0;
}
