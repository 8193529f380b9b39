#include "common/core/borrow_block.h"

#include "common/core/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void borrow_block_write(const struct borrow_fields *f, struct buf *out)
{
    char from[32], until[32], issued[32];
    buf_printf(out, "format: 1\nborrow-id: %s\nuuid: %s\nfeature: %s\nhost-id: %s\n", f->borrow_id,
               f->uuid, f->feature, f->host_id);
    buf_printf(out, "valid-from: %s\nvalid-until: %s\nissued: %s\n",
               wall_format(f->valid_from, from), wall_format(f->valid_until, until),
               wall_format(f->issued, issued));
}

void borrow_block_write_signed(const struct borrow_fields *f, const uint8_t *signature,
                               size_t signature_len, struct buf *out)
{
    buf_add_str(out, BORROW_BEGIN_LINE "\n");
    borrow_block_write(f, out);
    buf_add_str(out, BORROW_END_LINE "\nsignature: server ");
    buf_reserve(out, 4 * ((signature_len + 2) / 3) + 1);
    out->len += base64_encode(signature, signature_len, out->data + out->len);
    buf_add_char(out, '\n');
}

struct lines {
    const char *p, *end;
    const char *bad; // the key of the first line that is not as it must be
};

// The value of the next line, which must have this key. *len is 0 when it has not.
static const char *take(struct lines *l, const char *key, size_t *len)
{
    size_t key_len = strlen(key), left = (size_t)(l->end - l->p);
    const char *lf = l->bad || !left ? NULL : memchr(l->p, '\n', left);
    size_t line = lf ? (size_t)(lf - l->p) : 0;
    *len = 0;
    if (line <= key_len + 2 || memcmp(l->p, key, key_len) || memcmp(l->p + key_len, ": ", 2)) {
        l->bad = l->bad ? l->bad : key;
        return "";
    }
    const char *value = l->p + key_len + 2;
    *len = line - key_len - 2;
    l->p = lf + 1;
    return value;
}

static void take_word(struct lines *l, const char *key, char *out, size_t cap)
{
    size_t len;
    const char *value = take(l, key, &len);
    if (!l->bad && len >= cap)
        l->bad = key;
    for (size_t i = 0; i < len; i++) {
        if (value[i] <= ' ' || value[i] > '~')
            l->bad = key;
    }
    if (l->bad)
        len = 0;
    memcpy(out, value, len);
    out[len] = '\0';
}

static struct wall_time take_time(struct lines *l, const char *key)
{
    size_t len;
    struct wall_time t = {0};
    const char *value = take(l, key, &len);
    if (!l->bad && wall_parse(value, len, WALL_NO_DATE, &t))
        l->bad = key;
    return t;
}

static const char *check(const struct borrow_fields *f)
{
    char host[HOSTID_MAX + 1];
    if (strlen(f->borrow_id) != BORROW_ID_LEN ||
        strspn(f->borrow_id, "0123456789abcdef") != BORROW_ID_LEN)
        return "borrow-id";
    if (strlen(f->uuid) != sizeof f->uuid - 1)
        return "uuid";
    if (hostid_parse(f->host_id, strlen(f->host_id), host, NULL) || strcmp(host, f->host_id))
        return "host-id";
    return f->valid_from.s < f->valid_until.s ? NULL : "valid-until";
}

int borrow_block_parse(const char *block, size_t len, struct borrow_fields *out, struct error *err)
{
    struct lines l = {block, block + len, NULL};
    char format[2];
    *out = (struct borrow_fields){{0}};
    take_word(&l, "format", format, sizeof format);
    if (!l.bad && strcmp(format, "1")) {
        error_set(err, "the borrow block has a format that this version does not know");
        return -EINVAL;
    }
    take_word(&l, "borrow-id", out->borrow_id, sizeof out->borrow_id);
    take_word(&l, "uuid", out->uuid, sizeof out->uuid);
    take_word(&l, "feature", out->feature, sizeof out->feature);
    take_word(&l, "host-id", out->host_id, sizeof out->host_id);
    out->valid_from = take_time(&l, "valid-from");
    out->valid_until = take_time(&l, "valid-until");
    out->issued = take_time(&l, "issued");
    const char *bad = l.bad ? l.bad : check(out);
    struct buf again BUF_CLEANUP = {0};
    if (!bad)
        borrow_block_write(out, &again);
    if (!bad && (again.len != len || memcmp(again.data, block, len)))
        bad = "format";
    if (bad)
        error_set(err, "the borrow block is malformed at '%s'", bad);
    return bad ? -EINVAL : 0;
}
