// The vendor's CA, the license key, and the folder for the backend's host.
#include "tools/berth-vendor/vendor.h"

#include "common/clock.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 50 // " License CA" follows; a common name has at most 64
#define BACKDATE_S 3600   // clocks of other hosts may be a little behind
// RFC 5280's "no well-defined expiration": an expired CA would stop every installation.
#define CA_NOT_AFTER_S 253402300799 // 9999-12-31T23:59:59Z
#define CLOUD_VALID_S (10LL * 366 * 86400)

static bool is_host_label(const char *s, size_t len)
{
    if (!len || len > 63 || s[0] == '-' || s[len - 1] == '-')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)s[i]) && s[i] != '-')
            return false;
    }
    return true;
}

// A DNS name or an IP address.
static bool is_host(const char *name)
{
    struct in6_addr address;
    if (inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1)
        return true;
    if (strlen(name) > 253)
        return false;
    for (const char *p = name;; p++) {
        size_t len = strcspn(p, ".");
        if (!is_host_label(p, len))
            return false;
        p += len;
        if (!*p)
            return true;
    }
}

static int make_ca(struct vendor *vendor, const char *name, struct error *err)
{
    char common_name[80];
    snprintf(common_name, sizeof common_name, "%s License CA", name);
    struct crypto_issue what = {
        .common_name = common_name,
        .not_before = {clock_wall().s - BACKDATE_S},
        .not_after = {CA_NOT_AFTER_S},
        .ca = true,
    };
    char *key_path = path_join(vendor->dir, VENDOR_CA_KEY);
    char *cert_path = path_join(vendor->dir, VENDOR_CA_CERT);
    int r = crypto_key_new_p256(&vendor->ca_key);
    if (r)
        error_set(err, "no key can be made");
    if (!r)
        r = crypto_cert_issue(&vendor->ca_cert, &what, vendor->ca_key, NULL, NULL, err);
    if (!r)
        r = crypto_key_save(vendor->ca_key, key_path, err);
    if (!r)
        r = cert_create(cert_path, vendor->ca_cert, err);
    free(key_path);
    free(cert_path);
    return r;
}

static int save_cloud(const struct vendor *vendor, const struct crypto_key *key,
                      const struct crypto_cert *cert, struct error *err)
{
    char *dir = path_join(vendor->dir, "cloud");
    int r = dir_make(dir, 0700, err);
    char *key_path = path_join(dir, "cloud.key");
    char *cert_path = path_join(dir, "cloud.pem");
    char *ca_path = path_join(dir, VENDOR_CA_CERT);
    if (!r)
        r = crypto_key_save(key, key_path, err);
    if (!r)
        r = cert_create(cert_path, cert, err);
    if (!r)
        r = cert_create(ca_path, vendor->ca_cert, err);
    free(dir);
    free(key_path);
    free(cert_path);
    free(ca_path);
    return r;
}

static int make_cloud(struct vendor *vendor, const struct option_value *given, struct error *err)
{
    const char *names[OPTION_VALUES_MAX + 4] = {"localhost", "127.0.0.1"};
    memcpy(names + 2, given->values, given->len * sizeof *names);
    bool named = given->len && strlen(given->values[0]) <= 64;
    struct crypto_issue what = {
        .common_name = named ? given->values[0] : "localhost",
        .not_before = {clock_wall().s - BACKDATE_S},
        .not_after = {clock_wall().s + CLOUD_VALID_S},
        .usage = USAGE_BACKEND_TLS,
        .names = names,
    };
    struct crypto_key *key = NULL;
    struct crypto_cert *cert = NULL;
    int r = crypto_key_new_p256(&key);
    if (r)
        error_set(err, "no key can be made");
    if (!r)
        r = crypto_cert_issue(&cert, &what, key, vendor->ca_cert, vendor->ca_key, err);
    if (!r)
        r = save_cloud(vendor, key, cert, err);
    crypto_cert_free(&cert);
    crypto_key_free(&key);
    return r;
}

static int make_license_key(struct vendor *vendor, struct error *err)
{
    int r = vendor_key_make(vendor, "license-key", err);
    if (r)
        return r;
    char *path = path_join(vendor->dir, VENDOR_KEY_LIST);
    char *text = vendor_keys_text(vendor);
    r = file_create(path, text, strlen(text), 0644, err);
    free(text);
    free(path);
    return r;
}

// Nothing of an earlier init may be there: keys are never overwritten.
static int check_unused(const char *dir)
{
    static const char *const made[] = {VENDOR_CA_CERT, VENDOR_CA_KEY, VENDOR_KEY_LIST,
                                       "license-key.key", "cloud"};
    int status = 0;
    for (size_t i = 0; !status && i < sizeof made / sizeof *made; i++) {
        char *path = path_join(dir, made[i]);
        if (file_exists(path))
            status = vendor_fault("%s exists already; keys are never overwritten", path);
        free(path);
    }
    return status;
}

static int check_arguments(const char *name, const struct option_value *names)
{
    bool good = *name && strlen(name) <= NAME_MAX_BYTES;
    for (const char *p = name; good && *p; p++)
        good = !iscntrl((unsigned char)*p);
    if (!good)
        return vendor_fault("--name must have 1 to %d bytes of text", NAME_MAX_BYTES);
    for (size_t i = 0; i < names->len; i++) {
        if (!is_host(names->values[i]))
            return vendor_fault("--cloud-name: \"%s\" is neither a host name nor an IP address",
                                names->values[i]);
    }
    return 0;
}

int vendor_init(int argc, char **argv)
{
    struct option_value options[] = {{"--dir", OPTION_REQUIRED},
                                     {"--name", OPTION_OPTIONAL},
                                     {"--cloud-name", OPTION_REPEATED},
                                     {NULL}};
    int status = options_read(options, argc, argv);
    if (status)
        return status;
    const char *dir = option_get(options, "--dir");
    const char *name = option_get(options, "--name");
    const struct option_value *names = option_find(options, "--cloud-name");
    if (!name)
        name = "Berth Vendor";
    status = check_arguments(name, names);
    if (!status)
        status = check_unused(dir);
    if (status)
        return status;

    struct vendor vendor = {.dir = strdup(dir)};
    struct error err = {""};
    int r = dir_make(dir, 0700, &err);
    if (!r)
        r = make_ca(&vendor, name, &err);
    if (!r)
        r = make_license_key(&vendor, &err);
    if (!r)
        r = make_cloud(&vendor, names, &err);
    if (!r)
        printf("%s: made the vendor's keys. Keep the folder secret; copy %s/cloud to the backend's "
               "host, and give %s/%s to customers.\n", dir, dir, dir, VENDOR_CA_CERT);
    vendor_fini(&vendor);
    return r ? vendor_fail(&err) : 0;
}
