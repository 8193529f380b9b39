// The fields of a license block: what is in it once its signature is known to be good.
#include "common/core/license_block.h"

#include "common/core/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_MAX 1000000
#define VERSION_NUMBER_MAX 99999
#define KEYS_MAX 256

// ---- edition, version, modules ----

static const char *const edition_names[] = {
    [EDITION_STEADY] = "Steady",
    [EDITION_PROGRESS] = "Progress",
    [EDITION_STEADY_PROGRESS] = "Steady-Progress",
};

int edition_parse(const char *s, size_t len, enum edition *out)
{
    for (int e = EDITION_STEADY; e <= EDITION_STEADY_PROGRESS; e++) {
        if (len == strlen(edition_names[e]) && !memcmp(s, edition_names[e], len)) {
            *out = (enum edition)e;
            return 0;
        }
    }
    return -EINVAL;
}

const char *edition_name(enum edition e)
{
    return edition_names[e];
}

int version_parse(const char *s, size_t len, struct version *out)
{
    struct version v = {{0}};
    const char *end = s + len;
    for (int i = 0; i < 4; i++) {
        const char *dot = memchr(s, '.', (size_t)(end - s));
        const char *stop = dot ? dot : end;
        uint64_t n;
        if (stop - s > 5 || parse_u64(s, (size_t)(stop - s), 0, VERSION_NUMBER_MAX, &n))
            return -EINVAL;
        v.n[i] = (uint32_t)n;
        if (!dot) {
            *out = v;
            return 0;
        }
        s = dot + 1;
    }
    return -EINVAL;
}

int version_compare(struct version a, struct version b)
{
    for (int i = 0; i < 4; i++) {
        if (a.n[i] != b.n[i])
            return a.n[i] < b.n[i] ? -1 : 1;
    }
    return 0;
}

int modules_parse(const char *s, size_t len, module_set *out)
{
    static const char letters[] = MODULE_LETTERS;
    module_set m = 0;
    int at = 0;
    for (size_t i = 0; i < len; i++) {
        while (letters[at] && letters[at] != s[i])
            at++;
        if (!letters[at])
            return -EINVAL;
        m |= (module_set)(1U << at++);
    }
    *out = m;
    return 0;
}

char *modules_format(module_set m, char buf[static 12])
{
    char *o = buf;
    for (int i = 0; MODULE_LETTERS[i]; i++) {
        if (m & 1U << i)
            *o++ = MODULE_LETTERS[i];
    }
    *o = '\0';
    return buf;
}

// ---- fields ----

struct value {
    const char *p;
    size_t len;
};

static int parse_format(struct value v, struct license_fields *f)
{
    uint64_t n;
    (void)f;
    return parse_u64(v.p, v.len, 1, 1, &n);
}

static int parse_uuid(struct value v, struct license_fields *f)
{
    if (v.len != 36)
        return -EINVAL;
    for (size_t i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? v.p[i] != '-' : !isxdigit((unsigned char)v.p[i]))
            return -EINVAL;
        f->uuid[i] = (char)tolower((unsigned char)v.p[i]);
    }
    return 0;
}

static bool is_name(struct value v)
{
    if (!v.len || v.len > 64)
        return false;
    for (size_t i = 0; i < v.len; i++) {
        if (!isalnum((unsigned char)v.p[i]) && (!v.p[i] || !strchr("_.-", v.p[i])))
            return false;
    }
    return true;
}

static int parse_feature(struct value v, struct license_fields *f)
{
    if (!is_name(v))
        return -EINVAL;
    memcpy(f->feature, v.p, v.len);
    return 0;
}

static int parse_server_id(struct value v, struct license_fields *f)
{
    if (!is_name(v))
        return -EINVAL;
    memcpy(f->server_id, v.p, v.len);
    return 0;
}

static int parse_version(struct value v, struct license_fields *f)
{
    if (v.len >= sizeof f->version_text || version_parse(v.p, v.len, &f->version))
        return -EINVAL;
    memcpy(f->version_text, v.p, v.len);
    return 0;
}

static int parse_edition(struct value v, struct license_fields *f)
{
    return edition_parse(v.p, v.len, &f->edition);
}

static int parse_modules(struct value v, struct license_fields *f)
{
    return modules_parse(v.p, v.len, &f->modules);
}

static int parse_count(struct value v, struct license_fields *f)
{
    uint64_t n;
    if (parse_u64(v.p, v.len, 1, COUNT_MAX, &n))
        return -EINVAL;
    f->count = (uint32_t)n;
    return 0;
}

static int parse_issued(struct value v, struct license_fields *f)
{
    return wall_parse(v.p, v.len, WALL_NO_DATE, &f->issued);
}

static int parse_valid_from(struct value v, struct license_fields *f)
{
    return wall_parse(v.p, v.len, WALL_DATE_START, &f->valid_from);
}

static int parse_valid_until(struct value v, struct license_fields *f)
{
    return wall_parse(v.p, v.len, WALL_DATE_END, &f->valid_until);
}

static const struct field {
    const char *key;
    bool optional;
    int (*parse)(struct value v, struct license_fields *f);
    const char *allowed;
} fields[] = {
    {"format", false, parse_format, "1"},
    {"uuid", false, parse_uuid, "8-4-4-4-12 hex digits"},
    {"feature", false, parse_feature, "1 to 64 of A-Z a-z 0-9 _ . -"},
    {"version", false, parse_version, "one to four numbers with dots"},
    {"edition", false, parse_edition, "Steady, Progress or Steady-Progress"},
    {"modules", false, parse_modules, "letters of " MODULE_LETTERS " in this order"},
    {"count", false, parse_count, "1 to 1000000"},
    {"server-id", false, parse_server_id, "1 to 64 of A-Z a-z 0-9 _ . -"},
    {"issued", false, parse_issued, "a time as 2026-11-24T08:00:00Z"},
    {"valid-from", true, parse_valid_from, "a time as 2026-11-24T08:00:00Z"},
    {"valid-until", true, parse_valid_until, "a time as 2026-11-24T08:00:00Z"},
};
#define FIELDS (sizeof fields / sizeof *fields)

struct seen {
    struct value keys[KEYS_MAX];
    size_t len;
    bool known[FIELDS];
};

static bool value_is(struct value v, const char *s)
{
    return v.len == strlen(s) && !memcmp(v.p, s, v.len);
}

// The format decides whether the rest can be understood at all, so it is looked at first.
static enum license_refusal check_format(struct value key, struct value value, struct error *err)
{
    uint64_t n;
    if (!value_is(key, "format")) {
        error_set(err, "the first line must be 'format: 1'");
        return LICENSE_FIELD;
    }
    int r = parse_u64(value.p, value.len, 1, 1, &n);
    bool zero = !parse_u64(value.p, value.len, 0, 0, &n);
    if (r == -ERANGE && !zero) {
        error_set(err, "format %.*s is not known to this version: update the server",
                  (int)value.len, value.p);
        return LICENSE_FORMAT;
    }
    if (r)
        error_set(err, "format must be 1");
    return r ? LICENSE_FIELD : LICENSE_OK;
}

static enum license_refusal take_field(struct seen *seen, struct value key, struct value value,
                                       struct license_fields *out, struct error *err)
{
    for (size_t i = 0; i < seen->len; i++) {
        if (seen->keys[i].len == key.len && !memcmp(seen->keys[i].p, key.p, key.len)) {
            error_set(err, "%.*s stands twice", (int)key.len, key.p);
            return LICENSE_FIELD;
        }
    }
    if (seen->len == KEYS_MAX) {
        error_set(err, "more than %d fields", KEYS_MAX);
        return LICENSE_TOO_LARGE;
    }
    seen->keys[seen->len++] = key;
    for (size_t i = 0; i < FIELDS; i++) {
        if (!value_is(key, fields[i].key))
            continue;
        seen->known[i] = true;
        if (fields[i].parse(value, out)) {
            error_set(err, "%s: '%.*s' is not %s", fields[i].key,
                      (int)(value.len < 80 ? value.len : 80), value.p, fields[i].allowed);
            return LICENSE_FIELD;
        }
        return LICENSE_OK;
    }
    if (key.len >= 5 && !memcmp(key.p, "must-", 5)) {
        error_set(err, "%.*s must be understood, and this version does not: update the server",
                  (int)(key.len < 80 ? key.len : 80), key.p);
        return LICENSE_MUST;
    }
    return LICENSE_OK;
}

// "key: value", the value without blanks around it. False: not of this form.
static bool split_line(const char *p, size_t len, struct value *key, struct value *value)
{
    const char *colon = memchr(p, ':', len);
    if (!colon || colon == p)
        return false;
    *key = (struct value){p, (size_t)(colon - p)};
    for (size_t i = 0; i < key->len; i++) {
        if (!isalnum((unsigned char)p[i]) && p[i] != '-' && p[i] != '_')
            return false;
    }
    const char *v = colon + 1;
    const char *end = p + len;
    while (v < end && (*v == ' ' || *v == '\t'))
        v++;
    *value = (struct value){v, (size_t)(end - v)};
    return true;
}

enum license_refusal license_format_check(const struct license_block *block, struct error *err)
{
    const char *p = block->signed_text + strlen(LICENSE_SIGN_LABEL);
    const char *lf = memchr(p, '\n', (size_t)(block->signed_text + block->signed_len - p));
    struct value key, value;
    if (!lf || !split_line(p, (size_t)(lf - p), &key, &value))
        return LICENSE_OK;
    return check_format(key, value, err) == LICENSE_FORMAT ? LICENSE_FORMAT : LICENSE_OK;
}

enum license_refusal license_fields_parse(const struct license_block *block,
                                          struct license_fields *out, struct error *err)
{
    *out = (struct license_fields){.valid_from = WALL_MIN, .valid_until = WALL_MAX};
    struct seen seen = {.len = 0};
    const char *p = block->signed_text + strlen(LICENSE_SIGN_LABEL);
    const char *end = block->signed_text + block->signed_len;
    while (p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        struct value key, value;
        if (!split_line(p, (size_t)(lf - p), &key, &value)) {
            error_set(err, "'%.*s' is not 'key: value'", (int)(lf - p < 80 ? lf - p : 80), p);
            return LICENSE_FIELD;
        }
        enum license_refusal r = seen.len ? LICENSE_OK : check_format(key, value, err);
        if (!r)
            r = take_field(&seen, key, value, out, err);
        if (r)
            return r;
        p = lf + 1;
    }
    for (size_t i = 0; i < FIELDS; i++) {
        if (!seen.known[i] && !fields[i].optional) {
            error_set(err, "%s is missing", fields[i].key);
            return LICENSE_FIELD;
        }
    }
    if (out->valid_from.s >= out->valid_until.s) {
        error_set(err, "valid-until is not after valid-from");
        return LICENSE_FIELD;
    }
    return LICENSE_OK;
}
