#include "common/core/json_check.h"

#include "common/core/text.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FEW_KEYS 16 // up to here keys of an object are compared one by one

struct key {
    const char *p;
    size_t len;   // of the raw text between the quotes
    bool escaped; // holds a backslash
};

struct scan {
    const char *begin, *p, *end;
    unsigned depth, max_depth;
    const char *why;
    struct json_ids *ids;
    // Keys of all objects that are open, innermost last.
    struct key *keys;
    size_t keys_len, keys_cap;
};

static int fail(struct scan *s, const char *why)
{
    if (!s->why)
        s->why = why;
    return -EINVAL;
}

static void skip_blanks(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

static int hex4(const char *p, const char *end)
{
    uint8_t bytes[2];
    if (end - p < 4 || hex_decode(p, 4, bytes, 2) != 2)
        return -1;
    return bytes[0] << 8 | bytes[1];
}

// At the character behind a backslash.
static int scan_escape(struct scan *s)
{
    if (s->p == s->end)
        return fail(s, "string without an end");
    if (*s->p != 'u')
        return strchr("\"\\/bfnrt", *s->p) && *s->p ? (s->p++, 0) : fail(s, "unknown escape");
    int code = hex4(s->p + 1, s->end);
    if (code < 0)
        return fail(s, "\\u without four hex digits");
    if (code == 0)
        return fail(s, "a NUL character");
    if (code >= 0xdc00 && code <= 0xdfff)
        return fail(s, "a lone surrogate");
    s->p += 5;
    if (code < 0xd800 || code > 0xdbff)
        return 0;
    int low = s->end - s->p >= 6 && s->p[0] == '\\' && s->p[1] == 'u' ? hex4(s->p + 2, s->end) : -1;
    if (low < 0xdc00 || low > 0xdfff)
        return fail(s, "a lone surrogate");
    s->p += 6;
    return 0;
}

// At the opening quote; leaves behind the closing one.
static int scan_string(struct scan *s, struct key *out)
{
    if (s->p == s->end || *s->p != '"')
        return fail(s, "a string was expected");
    const char *first = ++s->p;
    bool escaped = false;
    for (;;) {
        const char *p = s->p;
        while (p < s->end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20)
            p++;
        s->p = p;
        if (p == s->end || *p == '"')
            break;
        if (*p != '\\')
            return fail(s, "a control character in a string");
        s->p++;
        escaped = true;
        int r = scan_escape(s);
        if (r)
            return r;
    }
    if (s->p == s->end)
        return fail(s, "string without an end");
    if (out)
        *out = (struct key){first, (size_t)(s->p - first), escaped};
    s->p++;
    return 0;
}

static bool scan_digits(struct scan *s)
{
    const char *first = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    return s->p > first;
}

static int scan_number(struct scan *s)
{
    if (*s->p == '-')
        s->p++;
    if (s->p < s->end && *s->p == '0')
        s->p++;
    else if (!scan_digits(s))
        return fail(s, "not a number");
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (!scan_digits(s))
            return fail(s, "not a number");
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        if (!scan_digits(s))
            return fail(s, "not a number");
    }
    return 0;
}

static int scan_literal(struct scan *s, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(s->end - s->p) < len || memcmp(s->p, word, len) != 0)
        return fail(s, "not a JSON value");
    s->p += len;
    return 0;
}

// ---- duplicate keys ----

// One character of a key with its escapes undone: the next UTF-8 byte(s) as a code unit. Keys are
// equal if their streams of units are.
static uint32_t key_unit(const char **p)
{
    if (**p != '\\')
        return (unsigned char)*(*p)++;
    char c = (*p)[1];
    *p += 2;
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    if (c != 'u')
        return (unsigned char)to[strchr(from, c) - from];
    int code = hex4(*p, *p + 4);
    *p += 4;
    return 0x10000U + (uint32_t)code; // marked; json_unescape turns it into UTF-8
}

size_t json_unescape(const char *p, size_t len, char *out)
{
    const char *end = p + len;
    size_t n = 0;
    while (p < end) {
        uint32_t u = key_unit(&p);
        if (u < 0x10000) {
            out[n++] = (char)u;
            continue;
        }
        u -= 0x10000;
        if (u >= 0xd800 && u <= 0xdbff) {
            uint32_t low = key_unit(&p) - 0x10000;
            u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
        }
        if (u < 0x80) {
            out[n++] = (char)u;
        } else if (u < 0x800) {
            out[n++] = (char)(0xc0 | u >> 6);
            out[n++] = (char)(0x80 | (u & 63));
        } else if (u < 0x10000) {
            out[n++] = (char)(0xe0 | u >> 12);
            out[n++] = (char)(0x80 | (u >> 6 & 63));
            out[n++] = (char)(0x80 | (u & 63));
        } else {
            out[n++] = (char)(0xf0 | u >> 18);
            out[n++] = (char)(0x80 | (u >> 12 & 63));
            out[n++] = (char)(0x80 | (u >> 6 & 63));
            out[n++] = (char)(0x80 | (u & 63));
        }
    }
    return n;
}

static int key_compare(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    return memcmp(x->p, y->p, x->len);
}

// Keys first … keys_len - 1 are those of the object that ends here.
static int check_duplicates(struct scan *s, size_t first)
{
    struct key *keys = s->keys + first;
    size_t n = s->keys_len - first;
    if (n < 2)
        return 0;
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += keys[i].escaped ? keys[i].len : 0;
    char *decoded = bytes ? malloc(bytes) : NULL;
    if (bytes && !decoded)
        abort();
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        if (!keys[i].escaped)
            continue;
        size_t len = json_unescape(keys[i].p, keys[i].len, decoded + used);
        keys[i] = (struct key){decoded + used, len, false};
        used += len;
    }
    bool duplicate = false;
    if (n > FEW_KEYS) {
        qsort(keys, n, sizeof *keys, key_compare);
        for (size_t i = 1; i < n && !duplicate; i++)
            duplicate = key_compare(&keys[i - 1], &keys[i]) == 0;
    } else {
        for (size_t i = 1; i < n && !duplicate; i++) {
            for (size_t k = 0; k < i && !duplicate; k++)
                duplicate = key_compare(&keys[k], &keys[i]) == 0;
        }
    }
    free(decoded);
    return duplicate ? fail(s, "a key stands twice in one object") : 0;
}

// An escaped spelling of "id" is the member "id" as well: cJSON sees it so.
static bool key_is_id(struct key key)
{
    char decoded[12];
    if (!key.escaped)
        return key.len == 2 && !memcmp(key.p, "id", 2);
    return key.len <= sizeof decoded && json_unescape(key.p, key.len, decoded) == 2 &&
           !memcmp(decoded, "id", 2);
}

static void push_key(struct scan *s, struct key key)
{
    if (s->keys_len == s->keys_cap) {
        s->keys_cap = s->keys_cap ? s->keys_cap * 2 : 64;
        s->keys = realloc(s->keys, s->keys_cap * sizeof *s->keys);
        if (!s->keys)
            abort();
    }
    s->keys[s->keys_len++] = key;
}

// ---- values ----

static int scan_value(struct scan *s, struct json_span *id);

// After an element: 1 = another one follows, 0 = the closing bracket was eaten.
static int scan_separator(struct scan *s, char close)
{
    skip_blanks(s);
    if (s->p < s->end && *s->p == ',') {
        s->p++;
        skip_blanks(s);
        return 1;
    }
    if (s->p < s->end && *s->p == close) {
        s->p++;
        return 0;
    }
    return fail(s, close == '}' ? "',' or '}' was expected" : "',' or ']' was expected");
}

static int scan_object(struct scan *s, struct json_span *id)
{
    size_t first_key = s->keys_len;
    s->p++;
    skip_blanks(s);
    int more = 1;
    if (s->p < s->end && *s->p == '}') {
        s->p++;
        more = 0;
    }
    while (more > 0) {
        struct key key;
        int r = scan_string(s, &key);
        if (r)
            return r;
        push_key(s, key);
        skip_blanks(s);
        if (s->p == s->end || *s->p != ':')
            return fail(s, "':' was expected");
        s->p++;
        skip_blanks(s);
        const char *value = s->p;
        r = scan_value(s, NULL);
        if (r)
            return r;
        if (id && key_is_id(key))
            *id = (struct json_span){value, (size_t)(s->p - value)};
        more = scan_separator(s, '}');
    }
    if (more < 0)
        return more;
    int r = check_duplicates(s, first_key);
    s->keys_len = first_key;
    return r;
}

static int scan_array(struct scan *s, bool top)
{
    s->p++;
    skip_blanks(s);
    if (s->p < s->end && *s->p == ']') {
        s->p++;
        return 0;
    }
    int more = 1;
    while (more > 0) {
        struct json_span id = {NULL, 0};
        int r = scan_value(s, top ? &id : NULL);
        if (r)
            return r;
        if (top && s->ids) {
            if (s->ids->len < s->ids->cap)
                s->ids->items[s->ids->len] = id;
            s->ids->len++;
        }
        more = scan_separator(s, ']');
    }
    return more;
}

static int scan_value(struct scan *s, struct json_span *id)
{
    if (s->p == s->end)
        return fail(s, "the text ends too early");
    bool top = s->depth == 0;
    int r;
    switch (*s->p) {
    case '{':
    case '[':
        if (s->depth == s->max_depth)
            return fail(s, "nested too deeply");
        s->depth++;
        r = *s->p == '{' ? scan_object(s, id) : scan_array(s, top);
        s->depth--;
        return r;
    case '"':
        return scan_string(s, NULL);
    case 't':
        return scan_literal(s, "true");
    case 'f':
        return scan_literal(s, "false");
    case 'n':
        return scan_literal(s, "null");
    default:
        if (*s->p == '-' || (*s->p >= '0' && *s->p <= '9'))
            return scan_number(s);
        return fail(s, "not a JSON value");
    }
}

int json_check(const char *text, size_t len, unsigned max_depth, struct json_ids *ids,
               const char **why, size_t *at)
{
    struct scan s = {
        .begin = text, .p = text, .end = text + len, .max_depth = max_depth, .ids = ids};
    struct json_span id = {NULL, 0};
    int r = 0;
    if (!utf8_valid(text, len))
        r = fail(&s, "not UTF-8");
    else if (memchr(text, 0, len))
        r = fail(&s, "a NUL character");
    if (!r) {
        skip_blanks(&s);
        if (ids) {
            ids->len = 0;
            ids->batch = s.p < s.end && *s.p == '[';
        }
        r = scan_value(&s, &id);
    }
    if (!r) {
        skip_blanks(&s);
        if (s.p != s.end)
            r = fail(&s, "text behind the value");
    }
    if (!r && ids && !ids->batch) {
        if (ids->cap)
            ids->items[0] = id;
        ids->len = 1;
    }
    free(s.keys);
    if (why)
        *why = s.why;
    if (at)
        *at = (size_t)(s.p - s.begin);
    return r;
}
