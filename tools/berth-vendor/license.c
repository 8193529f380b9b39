// Signs a license file.
#include "tools/berth-vendor/vendor.h"

#include "common/clock.h"
#include "common/core/buf.h"
#include "common/core/license_block.h"
#include "common/core/text.h"
#include "common/files.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERVER_URL_DEFAULT "https://localhost:22022"

static void new_uuid(char out[static 37])
{
    uint8_t b[16];
    crypto_random(b, sizeof b);
    b[6] = (uint8_t)(0x40 | (b[6] & 0x0f)); // version 4
    b[8] = (uint8_t)(0x80 | (b[8] & 0x3f)); // RFC 4122
    char hex[33];
    hex_encode(b, sizeof b, hex);
    snprintf(out, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

// A value stands on one line and keeps its form when the block is normalised.
static int check_value(const char *option, const char *value)
{
    size_t len = strlen(value);
    bool good = len <= 1000 && utf8_valid(value, len);
    for (size_t i = 0; good && i < len; i++)
        good = (unsigned char)value[i] > ' ' && value[i] != 0x7f;
    return good ? 0 : vendor_fault("%s: \"%s\" is not one word", option, value);
}

static int check_url(const char *url)
{
    if (strncmp(url, "https://", 8) != 0 || !url[8] || strchr(url + 8, '/'))
        return vendor_fault("--server-url: \"%s\" is not https://HOST:PORT", url);
    return 0;
}

static void add_field(struct buf *block, const char *key, const char *value)
{
    // Without a blank behind the colon of an empty value: it would be lost in normalising.
    buf_printf(block, "%s:%s%s\n", key, *value ? " " : "", value);
}

static int add_time(struct buf *block, const struct option_value *options, const char *option,
                    enum wall_date_rule rule, bool now_if_absent)
{
    const char *given = option_get(options, option);
    if (!given && !now_if_absent)
        return 0;
    struct wall_time t = clock_wall();
    if (given && vendor_time(option, given, rule, &t))
        return 1;
    char text[32];
    add_field(block, option + 2, wall_format(t, text));
    return 0;
}

// The options in the order of the file format; option and key have the same name.
static int build_block(struct buf *block, const struct option_value *options)
{
    static const char *const plain[] = {"--feature", "--version", "--edition",
                                        "--modules", "--count",   "--server-id"};
    char uuid[37];
    const char *given = option_get(options, "--uuid");
    if (!given)
        new_uuid(uuid);
    if (given && check_value("--uuid", given))
        return 1;
    add_field(block, "format", "1");
    add_field(block, "uuid", given ? given : uuid);
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        const char *value = option_get(options, plain[i]);
        if (check_value(plain[i], value))
            return 1;
        add_field(block, plain[i] + 2, value);
    }
    return add_time(block, options, "--issued", WALL_DATE_START, true) ||
           add_time(block, options, "--valid-from", WALL_DATE_START, false) ||
           add_time(block, options, "--valid-until", WALL_DATE_END, false);
}

static int sign(const struct vendor *vendor, const struct buf *block, uint8_t signature[static 64],
                struct error *err)
{
    const struct vendor_key *current = &vendor->keys[vendor->keys_len - 1];
    char file[48];
    snprintf(file, sizeof file, "%s.key", current->name);
    char *path = path_join(vendor->dir, file);
    struct crypto_key *key = NULL;
    BUF_CLEANUP struct buf text = {0};
    buf_add_str(&text, LICENSE_SIGN_LABEL);
    buf_add(&text, block->data, block->len);
    size_t len = 64;
    int r = crypto_key_load(&key, path, err);
    if (!r && (crypto_sign(key, text.data, text.len, signature, &len) || len != 64 ||
               !crypto_ed25519_verify(current->public_key, signature, text.data, text.len))) {
        error_set(err, "%s is not the key that %s names", path, VENDOR_KEY_LIST);
        r = -EINVAL;
    }
    crypto_key_free(&key);
    free(path);
    return r;
}

// A key that came by rotation is trusted through its certificate, which goes along.
static int add_certificate(const struct vendor *vendor, struct buf *out, struct error *err)
{
    char file[48];
    snprintf(file, sizeof file, "%s.pem", vendor->keys[vendor->keys_len - 1].name);
    char *path = path_join(vendor->dir, file);
    struct crypto_cert *cert = NULL;
    int r = crypto_cert_load_file(&cert, path, err);
    if (!r) {
        char *pem = crypto_cert_pem(cert);
        buf_add_str(out, pem);
        free(pem);
    }
    crypto_cert_free(&cert);
    free(path);
    return r == -ENOENT ? 0 : r;
}

static int build_file(const struct vendor *vendor, const struct option_value *options,
                      const struct buf *block, struct buf *out, struct error *err)
{
    uint8_t signature[64];
    char text[89];
    int r = sign(vendor, block, signature, err);
    if (r)
        return r;
    base64_encode(signature, 64, text);
    const struct option_value *urls = option_find(options, "--server-url");
    buf_printf(out, "# Berth license for %s: %s %s %s, %s seats\n",
               option_get(options, "--server-id"), option_get(options, "--feature"),
               option_get(options, "--version"), option_get(options, "--edition"),
               option_get(options, "--count"));
    for (size_t i = 0; i < urls->len; i++)
        buf_printf(out, "server=%s\n", urls->values[i]);
    if (!urls->len)
        buf_add_str(out, "server=" SERVER_URL_DEFAULT "\n");
    buf_printf(out, "-----BEGIN LICENSE-----\n%s-----END LICENSE-----\nsignature: %s %s\n",
               block->data, vendor->keys[vendor->keys_len - 1].id, text);
    return add_certificate(vendor, out, err);
}

// The rules for the values are the server's: what it would refuse is not written.
static int check_file(const struct buf *file, struct error *err)
{
    struct arena *arena = arena_new(16384);
    struct license_file parsed;
    struct license_fields fields;
    struct error why = {""};
    enum license_refusal refusal = license_file_parse(arena, file->data, file->len, &parsed, &why);
    if (!refusal && parsed.blocks_len == 1) {
        refusal = parsed.blocks[0].refusal;
        if (!refusal)
            refusal = license_fields_parse(&parsed.blocks[0], &fields, &why);
    }
    arena_free(&arena);
    if (!refusal)
        return 0;
    error_set(err, "not a license that a server would accept: %s", why.text);
    return -EINVAL;
}

static void hint_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (fnmatch("license*.dat", slash ? slash + 1 : path, 0))
        fprintf(stderr, "berth-vendor: note: servers look for license*.dat only: rename %s\n",
                path);
}

// A license is issued anew at will, and servers take a file over when it is replaced. What is no
// license file is never replaced: --out may be a slip.
static int place_file(const char *path, const struct buf *file, struct error *err)
{
    char *old = NULL;
    size_t len = 0;
    struct error ignored = {""};
    bool license = file_read(path, LICENSE_FILE_MAX_BYTES, &old, &len, &ignored) == 0 &&
                   strstr(old, "-----BEGIN LICENSE-----") != NULL;
    free(old);
    return license ? file_replace(path, file->data, file->len, err)
                   : file_create(path, file->data, file->len, 0644, err);
}

static int deliver(const struct option_value *options, const struct buf *block)
{
    struct vendor vendor;
    struct error err = {""};
    BUF_CLEANUP struct buf file = {0};
    const char *path = option_get(options, "--out");
    int r = vendor_open(&vendor, option_get(options, "--dir"), false, &err);
    if (!r)
        r = build_file(&vendor, options, block, &file, &err);
    if (!r)
        r = check_file(&file, &err);
    if (!r)
        r = place_file(path, &file, &err);
    if (!r) {
        hint_name(path);
        printf("%s: %s %s %s, %s seats, for %s\n", path, option_get(options, "--feature"),
               option_get(options, "--version"), option_get(options, "--edition"),
               option_get(options, "--count"), option_get(options, "--server-id"));
    }
    vendor_fini(&vendor);
    return r ? vendor_fail(&err) : 0;
}

int vendor_license(int argc, char **argv)
{
    struct option_value options[] = {
        {"--dir", OPTION_REQUIRED},        {"--server-id", OPTION_REQUIRED},
        {"--feature", OPTION_REQUIRED},    {"--version", OPTION_REQUIRED},
        {"--edition", OPTION_REQUIRED},    {"--modules", OPTION_REQUIRED},
        {"--count", OPTION_REQUIRED},      {"--uuid", OPTION_OPTIONAL},
        {"--issued", OPTION_OPTIONAL},     {"--valid-from", OPTION_OPTIONAL},
        {"--valid-until", OPTION_OPTIONAL}, {"--server-url", OPTION_REPEATED},
        {"--out", OPTION_REQUIRED},        {NULL},
    };
    int status = options_read(options, argc, argv);
    if (status)
        return status;
    const struct option_value *urls = option_find(options, "--server-url");
    for (size_t i = 0; i < urls->len; i++) {
        if (check_value("--server-url", urls->values[i]) || check_url(urls->values[i]))
            return 1;
    }
    BUF_CLEANUP struct buf block = {0};
    if (build_block(&block, options))
        return 1;
    return deliver(options, &block);
}
