// A new license key. Servers trust it through its license-key certificate, which goes into the
// license files, so that no server license and no dongle has to be touched.
#include "tools/berth-vendor/vendor.h"

#include "common/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The first of license-key-2, -3, … of which neither file exists.
static void free_name(const struct vendor *vendor, char *name, size_t cap)
{
    for (unsigned n = 2;; n++) {
        char file[48];
        snprintf(name, cap, "license-key-%u", n);
        snprintf(file, sizeof file, "%s.key", name);
        char *key = path_join(vendor->dir, file);
        snprintf(file, sizeof file, "%s.pem", name);
        char *cert = path_join(vendor->dir, file);
        bool used = file_exists(key) || file_exists(cert);
        free(key);
        free(cert);
        if (!used)
            return;
    }
}

static int certify(const struct vendor *vendor, const struct vendor_key *made, struct error *err)
{
    char file[48], common_name[64];
    snprintf(file, sizeof file, "%s.key", made->name);
    char *key_path = path_join(vendor->dir, file);
    snprintf(file, sizeof file, "%s.pem", made->name);
    char *cert_path = path_join(vendor->dir, file);
    snprintf(common_name, sizeof common_name, "License key %s", made->id);
    struct crypto_issue what = {
        .common_name = common_name,
        .not_before = {clock_wall().s - 3600},
        // Licenses that it signs may be unlimited: an end of the key would end them.
        .not_after = crypto_cert_not_after(vendor->ca_cert),
        .usage = USAGE_LICENSE_KEY,
    };
    struct crypto_key *key = NULL;
    struct crypto_cert *cert = NULL;
    int r = crypto_key_load(&key, key_path, err);
    if (!r)
        r = crypto_cert_issue(&cert, &what, key, vendor->ca_cert, vendor->ca_key, err);
    if (!r)
        r = cert_create(cert_path, cert, err);
    crypto_cert_free(&cert);
    crypto_key_free(&key);
    free(key_path);
    free(cert_path);
    return r;
}

int vendor_rotate_license_key(int argc, char **argv)
{
    struct option_value options[] = {{"--dir", OPTION_REQUIRED}, {NULL}};
    int status = options_read(options, argc, argv);
    if (status)
        return status;
    struct vendor vendor;
    struct error err = {""};
    char name[40];
    int r = vendor_open(&vendor, option_get(options, "--dir"), true, &err);
    if (!r) {
        free_name(&vendor, name, sizeof name);
        r = vendor_key_make(&vendor, name, &err);
    }
    if (!r)
        r = certify(&vendor, &vendor.keys[vendor.keys_len - 1], &err);
    // The list is last, and replaced at once: until then the previous key signs.
    if (!r) {
        char *path = path_join(vendor.dir, VENDOR_KEY_LIST);
        char *text = vendor_keys_text(&vendor);
        r = file_replace(path, text, strlen(text), &err);
        free(text);
        free(path);
    }
    if (!r)
        printf("%s: licenses are signed with %s (key id %s) from now on. Servers trust it through "
               "its certificate, which is put into the license files.\n", vendor.dir, name,
               vendor.keys[vendor.keys_len - 1].id);
    vendor_fini(&vendor);
    return r ? vendor_fail(&err) : 0;
}
