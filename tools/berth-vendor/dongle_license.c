// An On-Premises server license: the certificate for a key that was made in a token.
#include "tools/berth-vendor/token.h"

#include "common/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_BYTES_MAX 65536
#define ATTESTATION_MAX 8

// The vendor has compared the root with the maker's, or has not: so it is shown.
static int check_attestation(const struct crypto_key *key, const struct option_value *files,
                             struct error *err)
{
    struct crypto_cert *chain[ATTESTATION_MAX] = {0};
    int r = 0;
    size_t n = files->len;
    if (n > ATTESTATION_MAX)
        return error_set(err, "--attestation: more than %d certificates", ATTESTATION_MAX), -1;
    for (size_t i = 0; i < n && r == 0; i++)
        r = crypto_cert_load_file(&chain[i], files->values[i], err);
    if (r == 0)
        r = crypto_attestation_check(key, chain, n, clock_wall(), err);
    if (r == 0) {
        char hash[65];
        crypto_cert_fingerprint(chain[n - 1], hash);
        printf("the key was made in a token, says %s\n"
               "  (SHA-256 %s: compare it with the token maker's)\n",
               files->values[n - 1], hash);
    } else {
        error_prefix(err, "--attestation");
    }
    for (size_t i = 0; i < n; i++)
        crypto_cert_free(&chain[i]);
    return r;
}

static int load_request(struct crypto_key **key, const char *path, struct error *err)
{
    char *text = NULL;
    size_t len;
    int r = file_read(path, REQUEST_BYTES_MAX, &text, &len, err);
    if (r)
        return r;
    r = crypto_public_load(key, text, len, err);
    if (r)
        error_prefix(err, "--csr %s", path);
    free(text);
    return r;
}

static int deliver(const struct server_order *order, const struct crypto_cert *cert,
                   const char *path, struct error *err)
{
    char until[32];
    int r = cert_create(path, cert, err);
    if (!r)
        printf("%s: server license of %s, on-premises, valid until %s\n", path, order->server_id,
               wall_format(order->not_after, until));
    return r;
}

static int from_request(const struct server_order *order, const struct vendor *vendor,
                        const struct option_value *options, struct error *err)
{
    const struct option_value *attestation = option_find(options, "--attestation");
    const char *out = option_get(options, "--out");
    struct crypto_key *key = NULL;
    struct crypto_cert *cert = NULL;
    int r = load_request(&key, option_get(options, "--csr"), err);
    if (!r && attestation->len)
        r = check_attestation(key, attestation, err);
    if (!r)
        r = server_certificate_issue(&cert, order, vendor, key, err);
    if (!r)
        r = deliver(order, cert, out, err);
    if (!r)
        printf("Put it into the token: ykman piv certificates import 9e %s\n", out);
    crypto_key_free(&key);
    crypto_cert_free(&cert);
    return r;
}

static int from_token(const struct server_order *order, const struct vendor *vendor,
                      const struct option_value *options, struct error *err)
{
    struct management_key management;
    struct crypto_cert *cert = NULL;
    int r = management_key_read(&management, option_get(options, "--management-key-file"), err);
    if (!r)
        r = token_provision(order, vendor, &management, &cert, err);
    if (!r)
        r = deliver(order, cert, option_get(options, "--out"), err);
    if (!r)
        printf("The token is a dongle now.%s\n",
               management.is_default
                   ? " Its management key is still the public default, with which anybody can "
                     "overwrite it: ykman piv access change-management-key --generate --protect; "
                     "and change-pin, change-puk"
                   : "");
    crypto_wipe(&management, sizeof management);
    crypto_cert_free(&cert);
    return r;
}

static int issue(struct server_order *order, const struct option_value *options)
{
    struct vendor vendor;
    struct error err = {""};
    const char *out = option_get(options, "--out");
    if (file_exists(out)) // before a key is made in vain
        return vendor_fault("%s exists already and is not overwritten", out);
    int r = vendor_open(&vendor, option_get(options, "--dir"), true, &err);
    bool reported =
        !r && server_order_validity(order, &vendor, option_get(options, "--valid-until"));
    if (!r && !reported)
        r = option_get(options, "--csr") ? from_request(order, &vendor, options, &err)
                                         : from_token(order, &vendor, options, &err);
    vendor_fini(&vendor);
    return reported ? 1 : r ? vendor_fail(&err) : 0;
}

int vendor_dongle_license(int argc, char **argv)
{
    struct option_value options[] = {
        {"--dir", OPTION_REQUIRED},
        {"--server-id", OPTION_REQUIRED},
        {"--valid-until", OPTION_OPTIONAL},
        {"--csr", OPTION_OPTIONAL},
        {"--attestation", OPTION_LIST},
        {"--unattested", OPTION_FLAG},
        {"--token", OPTION_FLAG},
        {"--addon", OPTION_REPEATED},
        {"--out", OPTION_REQUIRED},
        {"--management-key-file", OPTION_OPTIONAL},
        {NULL},
    };
    int status = options_read(options, argc, argv);
    if (status)
        return status;
    bool csr = option_find(options, "--csr")->len > 0;
    bool attested = option_find(options, "--attestation")->len > 0;
    bool unattested = option_find(options, "--unattested")->len > 0;
    if (option_find(options, "--addon")->len)
        return vendor_fault("--addon: borrow exists only for cloud-ready server licenses");
    if (option_find(options, "--token")->len == csr)
        return vendor_fault("either --csr or --token is needed"), 2;
    if (csr && attested == unattested)
        return vendor_fault("--csr needs the token's --attestation, or --unattested, which says "
                            "that the key may be copyable"),
               2;
    struct server_order order = {.server_id = option_get(options, "--server-id"),
                                 .variant = "on-premises"};
    if (server_id_check(order.server_id))
        return 1;
    return issue(&order, options);
}
