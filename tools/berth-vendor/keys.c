// The vendor's folder: CA, license keys and their list.
#include "tools/berth-vendor/vendor.h"

#include "common/core/buf.h"
#include "common/core/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX_BYTES 65536

static int load_ca(struct vendor *vendor, bool with_key, struct error *err)
{
    char *path = path_join(vendor->dir, VENDOR_CA_CERT);
    int r = crypto_cert_load_file(&vendor->ca_cert, path, err);
    free(path);
    if (r == -ENOENT)
        error_set(err, "%s is no vendor's folder: it has no %s (berth-vendor init makes one)",
                  vendor->dir, VENDOR_CA_CERT);
    if (r || !with_key)
        return r;
    path = path_join(vendor->dir, VENDOR_CA_KEY);
    r = crypto_key_load(&vendor->ca_key, path, err);
    if (!r && !crypto_cert_matches_key(vendor->ca_cert, vendor->ca_key)) {
        error_set(err, "%s is not the key of %s", path, VENDOR_CA_CERT);
        r = -EINVAL;
    }
    free(path);
    return r;
}

int vendor_open(struct vendor *out, const char *dir, bool with_ca_key, struct error *err)
{
    *out = (struct vendor){.dir = strdup(dir)};
    if (!out->dir)
        abort();
    int r = load_ca(out, with_ca_key, err);
    return r ? r : vendor_keys_read(out, err);
}

void vendor_fini(struct vendor *vendor)
{
    free(vendor->dir);
    crypto_cert_free(&vendor->ca_cert);
    crypto_key_free(&vendor->ca_key);
    *vendor = (struct vendor){0};
}

static int parse_line(struct vendor *vendor, char *line)
{
    if (vendor->keys_len == VENDOR_KEYS_MAX)
        return -EINVAL;
    struct vendor_key *key = &vendor->keys[vendor->keys_len];
    char text[64];
    int end = 0;
    if (sscanf(line, "%39[A-Za-z0-9-] %16[0-9a-f] %63[A-Za-z0-9+/=]%n", key->name, key->id, text,
               &end) != 3 || line[end] != '\0')
        return -EINVAL;
    char id[17];
    if (base64_decode(text, strlen(text), key->public_key, 32) != 32)
        return -EINVAL;
    crypto_key_id(key->public_key, id);
    if (strcmp(id, key->id) != 0)
        return -EINVAL;
    vendor->keys_len++;
    return 0;
}

int vendor_keys_read(struct vendor *vendor, struct error *err)
{
    char *path = path_join(vendor->dir, VENDOR_KEY_LIST);
    char *text;
    size_t len;
    int r = file_read(path, LIST_MAX_BYTES, &text, &len, err);
    if (r) {
        free(path);
        return r;
    }
    unsigned number = 0;
    char *rest = text;
    for (char *line; !r && (line = strsep(&rest, "\n"));) {
        number++;
        line[strcspn(line, "\r")] = '\0';
        if (*line && *line != '#')
            r = parse_line(vendor, line);
    }
    if (r)
        error_set(err, "%s:%u: not \"name, key id, public key\", or more than %d keys", path,
                  number, VENDOR_KEYS_MAX);
    if (!r && !vendor->keys_len) {
        error_set(err, "%s names no license key", path);
        r = -EINVAL;
    }
    free(text);
    free(path);
    return r;
}

char *vendor_keys_text(const struct vendor *vendor)
{
    struct buf out = {0};
    buf_add_str(&out,
                "# License keys that new server licenses trust: name, key id, public key. Oldest\n"
                "# first, the last one signs. Remove the line of one that shall not be trusted.\n");
    for (size_t i = 0; i < vendor->keys_len; i++) {
        char text[45];
        base64_encode(vendor->keys[i].public_key, 32, text);
        buf_printf(&out, "%s %s %s\n", vendor->keys[i].name, vendor->keys[i].id, text);
    }
    return out.data;
}

int vendor_key_make(struct vendor *vendor, const char *name, struct error *err)
{
    if (vendor->keys_len == VENDOR_KEYS_MAX) {
        error_set(err, "%s has %d license keys already: remove the lines of those that need not be "
                  "trusted any longer", VENDOR_KEY_LIST, VENDOR_KEYS_MAX);
        return -ENOSPC;
    }
    struct vendor_key *slot = &vendor->keys[vendor->keys_len];
    snprintf(slot->name, sizeof slot->name, "%s", name);
    char *file;
    if (asprintf(&file, "%s.key", name) < 0)
        abort();
    char *path = path_join(vendor->dir, file);
    struct crypto_key *key = NULL;
    int r = crypto_key_new_ed25519(&key);
    if (r)
        error_set(err, "no Ed25519 key can be made");
    if (!r)
        r = crypto_key_save(key, path, err);
    if (!r && !crypto_key_public_raw(key, slot->public_key)) {
        crypto_key_id(slot->public_key, slot->id);
        vendor->keys_len++;
    }
    crypto_key_free(&key);
    free(path);
    free(file);
    return r;
}

int cert_create(const char *path, const struct crypto_cert *cert, struct error *err)
{
    char *pem = crypto_cert_pem(cert);
    int r = file_create(path, pem, strlen(pem), 0644, err);
    free(pem);
    return r;
}
