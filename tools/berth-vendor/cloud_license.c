// A Cloud-Ready server license: certificate and key for the server's installation.
#include "tools/berth-vendor/vendor.h"

#include "common/clock.h"
#include "common/core/buf.h"
#include "common/core/text.h"
#include "common/server_license.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CERT_FILE "server-license.pem"
#define KEY_FILE "server-license.key"

struct order {
    struct server_order license;
    const char *renew, *out;
    const struct option_value *addons;
};

// https://host[:port][/path]: the backend's paths are appended to it.
static bool is_cloud_url(const char *s)
{
    if (strncmp(s, "https://", 8) != 0 || strlen(s) > 500 || !s[8] || s[8] == '/' || s[8] == ':')
        return false;
    for (; *s; s++) {
        if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f || strchr("?#@\"\\<>", *s))
            return false;
    }
    return true;
}

static int check_order(const struct order *o)
{
    if (server_id_check(o->license.server_id))
        return 1;
    if (!is_cloud_url(o->license.cloud_url))
        return vendor_fault("--cloud-url: \"%s\" is not https://HOST[:PORT]", o->license.cloud_url);
    for (size_t i = 0; i < o->addons->len; i++) {
        if (strcmp(o->addons->values[i], "borrow") != 0)
            return vendor_fault("--addon: there is no addon \"%s\", only borrow",
                                o->addons->values[i]);
    }
    return 0;
}

// The certificate to renew must be a server license of this vendor for the same ID.
static int read_renewed(const struct order *o, const struct vendor *vendor,
                        struct crypto_cert **old, struct error *err)
{
    int r = crypto_cert_load_file(old, o->renew, err);
    if (r)
        return r;
    struct crypto_ca *ca = NULL;
    struct server_license license = {0};
    char *pem = crypto_cert_pem(vendor->ca_cert);
    r = crypto_ca_load_pem(&ca, pem, strlen(pem), err);
    if (!r) {
        int verdict = server_license_read(&license, *old, ca, clock_wall(), err);
        r = verdict < 0 ? verdict : 0; // an expired one may be renewed
    }
    if (r)
        error_prefix(err, "--renew %s", o->renew);
    crypto_ca_free(&ca);
    free(pem);
    if (!r && strcmp(license.server_id, o->license.server_id) != 0) {
        error_set(err, "--renew %s is the license of %s, not of %s", o->renew, license.server_id,
                  o->license.server_id);
        r = -EINVAL;
    }
    return r;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

// Usually the key is at the customer's. Where it lies beside the old certificate (a vendor that
// installs servers, or a test), the new folder is to be complete.
static int copy_key(const struct order *o, const struct crypto_cert *cert, const char *key_path,
                    struct error *err)
{
    const char *slash = strrchr(o->renew, '/');
    char *dir = slash ? strndup(o->renew, (size_t)(slash - o->renew + 1)) : strdup(".");
    char *beside = path_join(dir, KEY_FILE);
    struct crypto_key *key = NULL;
    struct error ignored;
    int r = 0;
    if (!same_file(beside, key_path) && !crypto_key_load(&key, beside, &ignored) &&
        crypto_cert_matches_key(cert, key) && !file_exists(key_path)) {
        r = crypto_key_save(key, key_path, err);
        if (!r)
            printf("%s (copied)\n", key_path);
    }
    crypto_key_free(&key);
    free(beside);
    free(dir);
    return r;
}

static int renew(const struct order *o, const struct vendor *vendor, const char *cert_path,
                 const char *key_path, struct error *err)
{
    struct crypto_cert *old = NULL, *cert = NULL;
    struct crypto_key *key = NULL;
    int r = read_renewed(o, vendor, &old, err);
    if (!r && crypto_cert_key(old, &key)) {
        error_set(err, "--renew %s: no usable public key", o->renew);
        r = -EINVAL;
    }
    if (!r)
        r = server_certificate_issue(&cert, &o->license, vendor, key, err);
    if (!r && same_file(o->renew, cert_path)) {
        char *pem = crypto_cert_pem(cert);
        r = file_replace(cert_path, pem, strlen(pem), err);
        free(pem);
    } else if (!r) {
        r = cert_create(cert_path, cert, err);
        if (!r)
            r = copy_key(o, cert, key_path, err);
    }
    crypto_key_free(&key);
    crypto_cert_free(&cert);
    crypto_cert_free(&old);
    return r;
}

static int make_new(const struct order *o, const struct vendor *vendor, const char *cert_path,
                    const char *key_path, struct error *err)
{
    if (file_exists(cert_path)) {
        error_set(err, "%s exists already and is not overwritten (--renew renews it)", cert_path);
        return -EEXIST;
    }
    struct crypto_key *key = NULL;
    struct crypto_cert *cert = NULL;
    int r = crypto_key_new_p256(&key);
    if (r)
        error_set(err, "no key can be made");
    if (!r)
        r = server_certificate_issue(&cert, &o->license, vendor, key, err);
    if (!r)
        r = crypto_key_save(key, key_path, err);
    if (!r) {
        r = cert_create(cert_path, cert, err);
        if (r)
            unlink(key_path);
        else
            printf("%s\n", key_path);
    }
    crypto_key_free(&key);
    crypto_cert_free(&cert);
    return r;
}

static int deliver(const struct order *o, const struct vendor *vendor, struct error *err)
{
    int r = dir_make(o->out, 0700, err);
    if (r)
        return r;
    char *cert_path = path_join(o->out, CERT_FILE);
    char *key_path = path_join(o->out, KEY_FILE);
    r = o->renew ? renew(o, vendor, cert_path, key_path, err)
                 : make_new(o, vendor, cert_path, key_path, err);
    char until[32];
    if (!r)
        printf("%s: server license of %s, cloud-ready%s, valid until %s\n", cert_path,
               o->license.server_id, o->addons->len ? " with borrow" : "",
               wall_format(o->license.not_after, until));
    free(cert_path);
    free(key_path);
    return r;
}

int vendor_cloud_license(int argc, char **argv)
{
    struct option_value options[] = {
        {"--dir", OPTION_REQUIRED},         {"--server-id", OPTION_REQUIRED},
        {"--cloud-url", OPTION_REQUIRED},   {"--addon", OPTION_REPEATED},
        {"--valid-until", OPTION_OPTIONAL}, {"--renew", OPTION_OPTIONAL},
        {"--out", OPTION_REQUIRED},         {NULL},
    };
    int status = options_read(options, argc, argv);
    if (status)
        return status;
    struct order order = {
        .license = {.server_id = option_get(options, "--server-id"),
                    .variant = "cloud-ready",
                    .cloud_url = option_get(options, "--cloud-url")},
        .renew = option_get(options, "--renew"),
        .out = option_get(options, "--out"),
        .addons = option_find(options, "--addon"),
    };
    if (check_order(&order))
        return 1;
    struct vendor vendor;
    struct error err = {""};
    int r = vendor_open(&vendor, option_get(options, "--dir"), true, &err);
    order.license.borrow = order.addons->len > 0;
    bool reported =
        !r && server_order_validity(&order.license, &vendor, option_get(options, "--valid-until"));
    if (!r && !reported)
        r = deliver(&order, &vendor, &err);
    vendor_fini(&vendor);
    return reported ? 1 : r ? vendor_fail(&err) : 0;
}
