// The installation's own CA and a certificate for each process (trust.md, "Who may talk to trust").
// The CA's key is never written: all that it will ever sign is signed here, so that there is
// nothing left to steal. New certificates are a new folder.
#include "common/clock.h"
#include "common/crypto.h"
#include "common/files.h"
#include "tools/berth/berth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKDATE_S 3600 // clocks of other hosts may be a little behind
#define VALID_S (10LL * 366 * 86400)

static int cert_write(const char *dir, const char *name, const struct crypto_cert *cert,
                      struct error *err)
{
    char file[64];
    snprintf(file, sizeof file, "%s.pem", name);
    char *path = path_join(dir, file);
    char *pem = crypto_cert_pem(cert);
    int r = file_create(path, pem, strlen(pem), 0644, err);
    free(pem);
    free(path);
    return r;
}

static int key_write(const char *dir, const char *name, const struct crypto_key *key,
                     struct error *err)
{
    char file[64];
    snprintf(file, sizeof file, "%s.key", name);
    char *path = path_join(dir, file);
    int r = crypto_key_save(key, path, err);
    free(path);
    return r;
}

static int process_make(const char *dir, const char *name, const struct crypto_cert *ca,
                        const struct crypto_key *ca_key, struct error *err)
{
    struct crypto_key *key = NULL;
    struct crypto_cert *cert = NULL;
    const int64_t now = clock_wall().s;
    const struct crypto_issue what = {.common_name = name,
                                      .not_before = {now - BACKDATE_S},
                                      .not_after = {now + VALID_S},
                                      .usage = USAGE_RPC};
    int r = crypto_key_new_p256(&key);
    if (r)
        error_set(err, "no key can be made");
    if (!r)
        r = crypto_cert_issue(&cert, &what, key, ca, ca_key, err);
    if (!r)
        r = key_write(dir, name, key, err);
    if (!r)
        r = cert_write(dir, name, cert, err);
    crypto_cert_free(&cert);
    crypto_key_free(&key);
    return r;
}

static int ca_make(struct crypto_cert **ca, struct crypto_key **key, struct error *err)
{
    const int64_t now = clock_wall().s;
    const struct crypto_issue what = {.common_name = "Berth installation",
                                      .not_before = {now - BACKDATE_S},
                                      .not_after = {now + VALID_S},
                                      .ca = true};
    if (crypto_key_new_p256(key))
        return error_set(err, "no key can be made"), -1;
    return crypto_cert_issue(ca, &what, *key, NULL, NULL, err);
}

int command_rpc_keys(int argc, char **argv)
{
    static const char *const processes[] = {"gateway", "pool", "trust", "borrow"};
    if (argc != 2 || argv[1][0] == '-')
        return BERTH_USAGE;
    const char *dir = argv[1];
    struct error err = {{0}};
    struct crypto_cert *ca = NULL;
    struct crypto_key *ca_key = NULL;
    int r = dir_make(dir, 0700, &err);
    if (!r)
        r = ca_make(&ca, &ca_key, &err);
    if (!r)
        r = cert_write(dir, "ca", ca, &err);
    for (size_t i = 0; !r && i < sizeof processes / sizeof *processes; i++)
        r = process_make(dir, processes[i], ca, ca_key, &err);
    crypto_cert_free(&ca);
    crypto_key_free(&ca_key);
    if (r) {
        fprintf(stderr, "berth: %s\n", err.text);
        return BERTH_REFUSED;
    }
    printf("%s: ca.pem, and a certificate and key for gateway, pool, trust and borrow\n", dir);
    return BERTH_OK;
}
