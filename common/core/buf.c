#include "common/core/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    if (b->data)
        b->data[0] = '\0';
}

void buf_reserve(struct buf *b, size_t extra_bytes)
{
    if (extra_bytes >= SIZE_MAX / 4 || b->len >= SIZE_MAX / 4)
        abort();
    size_t need = b->len + extra_bytes + 1;
    if (need <= b->cap)
        return;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap *= 2;
    b->data = realloc(b->data, cap);
    if (!b->data)
        abort();
    b->cap = cap;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
    buf_reserve(b, len);
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void buf_add_str(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_add_char(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_add_u64(struct buf *b, uint64_t n)
{
    char digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    buf_add(b, digits + at, sizeof digits - at);
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    if (!format) // UBSan's own check of it makes gcc believe that it may be NULL
        abort();
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0)
        abort();
    buf_reserve(b, (size_t)len);
    vsnprintf(b->data + b->len, (size_t)len + 1, format, again);
    va_end(again);
    b->len += (size_t)len;
}

void buf_consume(struct buf *b, size_t len)
{
    if (len > b->len)
        abort();
    b->len -= len;
    if (b->data) {
        memmove(b->data, b->data + len, b->len);
        b->data[b->len] = '\0';
    }
}

// How many bytes at s need an escape as one unit (0: none).
static size_t escape_at(const unsigned char *s, size_t len, char out[static 8])
{
    static const char short_escapes[] = "b\bf\fn\nr\rt\t\"\"\\\\";
    for (const char *e = short_escapes; *e; e += 2) {
        if (*s == (unsigned char)e[1]) {
            snprintf(out, 8, "\\%c", e[0]);
            return 1;
        }
    }
    if (*s < 0x20 || *s == 0x7f || *s == '<' || *s == '>' || *s == '&') {
        snprintf(out, 8, "\\u%04x", *s);
        return 1;
    }
    if (len >= 3 && s[0] == 0xe2 && s[1] == 0x80 && (s[2] == 0xa8 || s[2] == 0xa9)) {
        snprintf(out, 8, "\\u20%02x", s[2] - 0x80);
        return 3;
    }
    return 0;
}

void buf_add_json_string(struct buf *b, const char *s, size_t len)
{
    const unsigned char *p = (const unsigned char *)s;
    buf_reserve(b, len + 2);
    buf_add_char(b, '"');
    size_t plain = 0; // begin of the run not yet copied
    for (size_t i = 0; i < len;) {
        char escape[8];
        size_t eaten = escape_at(p + i, len - i, escape);
        if (!eaten) {
            i++;
            continue;
        }
        buf_add(b, s + plain, i - plain);
        buf_add_str(b, escape);
        i += eaten;
        plain = i;
    }
    buf_add(b, s + plain, len - plain);
    buf_add_char(b, '"');
}
