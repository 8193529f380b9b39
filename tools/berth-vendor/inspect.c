// Says what a file is, what it holds, and whether the vendor's signature on it is good.
#include "tools/berth-vendor/vendor.h"

#include "common/borrow_file.h"
#include "common/clock.h"
#include "common/core/license_block.h"
#include "common/license_load.h"
#include "common/server_license.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct inspection {
    const char *path;
    char *text;
    size_t len;
    struct crypto_ca *ca;   // NULL: nothing to check against
    struct vendor vendor;   // of --dir; keys_len 0 without
};

// --ca, else the CA of --dir, else a vendor-ca.pem beside the file.
static int find_ca(struct inspection *in, const char *ca, const char *dir, struct error *err)
{
    if (ca)
        return crypto_ca_load_file(&in->ca, ca, err);
    const char *slash = strrchr(in->path, '/');
    char *folder = dir     ? strdup(dir)
                   : slash ? strndup(in->path, (size_t)(slash - in->path + 1))
                           : strdup(".");
    char *path = path_join(folder, VENDOR_CA_CERT);
    int r = crypto_ca_load_file(&in->ca, path, err);
    free(path);
    free(folder);
    return r == -ENOENT && !dir ? 0 : r;
}

static void print_server_license(const struct server_license *license)
{
    printf("  server ID:   %s\n  variant:     %s\n  addons:     ", license->server_id,
           license->variant);
    for (size_t i = 0; i < license->addons_len; i++)
        printf(" %s", license->addons[i]);
    printf("%s\n", license->addons_len ? "" : " none");
    if (*license->cloud_url)
        printf("  backend:     %s\n", license->cloud_url);
    for (size_t i = 0; i < license->license_keys_len; i++) {
        char id[17];
        crypto_key_id(license->license_keys[i], id);
        printf("  license key: %s\n", id);
    }
}

static const char *certificate_kind(const struct crypto_cert *cert, enum crypto_usage *usage)
{
    static const char *const kinds[] = {
        [USAGE_SERVER_LICENSE] = "server license",
        [USAGE_BACKEND_TLS] = "TLS certificate of a backend",
        [USAGE_LICENSE_KEY] = "license-key certificate",
    };
    for (int u = USAGE_SERVER_LICENSE; u <= USAGE_LICENSE_KEY; u++) {
        if (crypto_cert_has_usage(cert, (enum crypto_usage)u)) {
            *usage = (enum crypto_usage)u;
            return kinds[u];
        }
    }
    return NULL;
}

static int check_certificate(const struct inspection *in, const struct crypto_cert *cert,
                             enum crypto_usage usage)
{
    struct error err = {""};
    struct server_license license;
    if (usage == USAGE_SERVER_LICENSE && !in->ca) {
        char *json = NULL;
        size_t len = 0;
        if (!crypto_cert_extension(cert, OID_SERVER_LICENSE_EXTENSION, &json, &len))
            printf("  extension:   %zu bytes (shown once the signature can be checked)\n", len);
        free(json);
    }
    if (!in->ca) {
        puts("  signature:   not checked: no vendor-ca.pem (give --ca FILE or --dir KEYS)");
        return 0;
    }
    int r = usage == USAGE_SERVER_LICENSE
                ? server_license_read(&license, cert, in->ca, clock_wall(), &err)
                : crypto_cert_verify(cert, in->ca, usage, clock_wall(), &err);
    if (r >= 0 && usage == USAGE_SERVER_LICENSE)
        print_server_license(&license);
    uint8_t raw[32];
    if (usage == USAGE_LICENSE_KEY && !crypto_cert_public_ed25519(cert, raw)) {
        char id[17];
        crypto_key_id(raw, id);
        printf("  key id:      %s\n", id);
    }
    if (r >= 0)
        printf("  signature:   good%s%s\n", r ? ", but " : "", err.text);
    else
        printf("  signature:   refused: %s\n", err.text);
    return r ? 1 : 0;
}

static int inspect_certificate(const struct inspection *in)
{
    struct crypto_cert *cert = NULL;
    struct error err = {""};
    if (crypto_cert_load_pem(&cert, in->text, in->len, &err))
        return vendor_fault("%s: %s", in->path, err.text);
    enum crypto_usage usage = USAGE_SERVER_LICENSE;
    bool ca = crypto_cert_is_ca(cert);
    const char *kind = ca ? NULL : certificate_kind(cert, &usage);
    printf("%s: %s\n", in->path,
           ca ? "CA certificate" : kind ? kind : "certificate of another use");
    BUF_CLEANUP struct buf text = {0};
    crypto_cert_describe(cert, &text);
    fputs(text.data, stdout);
    int status = kind ? check_certificate(in, cert, usage) : 0;
    crypto_cert_free(&cert);
    return status;
}

static void print_license(const struct license_fields *f)
{
    char modules[12], time[32];
    printf("  uuid:        %s\n  feature:     %s\n  version:     %s\n  edition:     %s\n", f->uuid,
           f->feature, f->version_text, edition_name(f->edition));
    printf("  modules:     %s\n  count:       %u\n  server ID:   %s\n",
           modules_format(f->modules, modules), f->count, f->server_id);
    printf("  issued:      %s\n", wall_format(f->issued, time));
    printf("  valid from:  %s\n",
           f->valid_from.s == WALL_MIN.s ? "unlimited" : wall_format(f->valid_from, time));
    printf("  valid until: %s\n",
           f->valid_until.s == WALL_MAX.s ? "unlimited" : wall_format(f->valid_until, time));
}

// What is in a block whose signature could not be checked, as far as it can be read.
static void print_unchecked(const struct inspection *in, unsigned line)
{
    struct arena *arena = arena_new(16384);
    struct license_file file;
    struct license_fields fields;
    struct error err = {""};
    if (!license_file_parse(arena, in->text, in->len, &file, &err)) {
        for (size_t i = 0; i < file.blocks_len; i++) {
            if (file.blocks[i].line == line &&
                !license_fields_parse(&file.blocks[i], &fields, &err))
                print_license(&fields);
        }
    }
    arena_free(&arena);
}

static int print_record(const struct inspection *in, const struct license_record *record)
{
    if (!record->line) {
        printf("  refused:     %s: %s\n", license_refusal_name(record->refusal), record->reason);
        return 1;
    }
    printf("block at line %u:\n", record->line);
    if (record->refusal == LICENSE_OK) {
        print_license(&record->fields);
        printf("  signature:   good, key id %s\n", record->key_id);
        return 0;
    }
    print_unchecked(in, record->line);
    if (record->refusal == LICENSE_UNKNOWN_KEY && !in->vendor.keys_len) {
        printf("  signature:   not checked: key id %s is not known here (give --dir KEYS)\n",
               record->key_id);
        return 0;
    }
    printf("  refused:     %s: %s\n", license_refusal_name(record->refusal), record->reason);
    return 1;
}

static int inspect_license_file(const struct inspection *in)
{
    uint8_t trusted[VENDOR_KEYS_MAX][ED25519_PUBLIC_BYTES];
    for (size_t i = 0; i < in->vendor.keys_len; i++)
        memcpy(trusted[i], in->vendor.keys[i].public_key, sizeof *trusted);
    struct license_keys keys = {
        .trusted = trusted,
        .trusted_len = in->vendor.keys_len,
        .vendor_ca = in->ca,
        .now = clock_wall(),
    };
    struct license_set *set = NULL;
    license_load_text(&set, in->text, in->len, &keys);
    printf("%s: license file, %zu blocks\n", in->path, set->records_len);
    for (size_t i = 0; i < set->servers_len; i++)
        printf("  server:      %s\n", set->servers[i]);
    int status = 0;
    for (size_t i = 0; i < set->records_len; i++)
        status |= print_record(in, &set->records[i]);
    license_set_free(&set);
    return status;
}

static int inspect_borrowed(const struct inspection *in)
{
    struct borrow_file file;
    struct error err = {""};
    char time[32];
    printf("%s: borrowed license file\n", in->path);
    if (!in->ca) {
        puts("  signatures:  not checked: no vendor-ca.pem (give --ca FILE or --dir KEYS)");
        return 0;
    }
    if (borrow_file_verify(&file, in->text, in->len, in->ca, &err)) {
        printf("  refused:     %s\n", err.text);
        return 1;
    }
    printf("  borrow ID:   %s\n  host:        %s\n", file.borrow.borrow_id, file.borrow.host_id);
    printf("  from:        %s\n", wall_format(file.borrow.valid_from, time));
    printf("  until:       %s\n", wall_format(file.borrow.valid_until, time));
    printf("  lent at:     %s\nof the license:\n", wall_format(file.borrow.issued, time));
    print_license(&file.license);
    puts("  signatures:  good, of vendor and server");
    return 0;
}

static int inspect_text(const struct inspection *in)
{
    if (!strncmp(in->text, "berth-ledger", strlen("berth-ledger")))
        return vendor_fault("%s belongs to a borrow ledger: berth-vendor restore-ledger says more",
                            in->path);
    if (strstr(in->text, BORROW_BEGIN_LINE))
        return inspect_borrowed(in);
    if (strstr(in->text, "-----BEGIN LICENSE-----"))
        return inspect_license_file(in);
    if (strstr(in->text, "PRIVATE KEY-----")) {
        printf("%s: private key (never printed)\n", in->path);
        return 0;
    }
    if (strstr(in->text, "-----BEGIN CERTIFICATE-----"))
        return inspect_certificate(in);
    return vendor_fault("%s is neither a certificate nor a license file", in->path);
}

int vendor_inspect(int argc, char **argv)
{
    struct option_value options[] = {{"FILE", OPTION_OPERAND},
                                     {"--ca", OPTION_OPTIONAL},
                                     {"--dir", OPTION_OPTIONAL},
                                     {NULL}};
    int status = options_read(options, argc, argv);
    if (status)
        return status;
    const char *dir = option_get(options, "--dir");
    struct inspection in = {.path = option_get(options, "FILE")};
    struct error err = {""};
    int r = file_read(in.path, LICENSE_FILE_MAX_BYTES, &in.text, &in.len, &err);
    if (!r && dir)
        r = vendor_open(&in.vendor, dir, false, &err);
    if (!r)
        r = find_ca(&in, option_get(options, "--ca"), dir, &err);
    status = r ? vendor_fail(&err) : inspect_text(&in);
    crypto_ca_free(&in.ca);
    vendor_fini(&in.vendor);
    free(in.text);
    return status;
}
