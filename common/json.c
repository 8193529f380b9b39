// The tree is built here and not by cJSON_Parse: of text that was checked nothing can be wrong,
// which makes it short, and it takes a third of the instructions, of which there are many in a
// request.
#include "common/json.h"

#include "common/core/json_check.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define EXACT_DIGITS 15 // that a double holds

struct build {
    struct arena *arena;
    const char *p, *end;
};

static cJSON *build_value(struct build *b);

static void skip_blanks(struct build *b)
{
    while (b->p < b->end && (*b->p == ' ' || *b->p == '\t' || *b->p == '\n' || *b->p == '\r'))
        b->p++;
}

static char *build_string(struct build *b)
{
    const char *first = b->p + 1;
    const char *quote = memchr(first, '"', (size_t)(b->end - first));
    bool escaped = memchr(first, '\\', (size_t)(quote - first)) != NULL;
    if (escaped) {
        for (quote = first; *quote != '"'; quote++)
            quote += *quote == '\\';
    }
    size_t len = (size_t)(quote - first);
    char *out = arena_alloc(b->arena, len + 1);
    if (escaped)
        len = json_unescape(first, len, out);
    else
        memcpy(out, first, len);
    out[len] = '\0';
    b->p = quote + 1;
    return out;
}

static bool is_of_number(char c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

static double read_number(struct build *b)
{
    const char *first = b->p;
    bool negative = *b->p == '-';
    int64_t n = 0;
    b->p += negative;
    const char *digits = b->p;
    for (; b->p < b->end && *b->p >= '0' && *b->p <= '9' && b->p - digits <= EXACT_DIGITS; b->p++)
        n = n * 10 + (*b->p - '0');
    if (b->p - digits <= EXACT_DIGITS && (b->p == b->end || !is_of_number(*b->p)))
        return negative ? -(double)n : (double)n;
    while (b->p < b->end && is_of_number(*b->p))
        b->p++;
    // No process sets a locale, so that the decimal point is one.
    return strtod(arena_strndup(b->arena, first, (size_t)(b->p - first)), NULL);
}

static void build_number(struct build *b, cJSON *node)
{
    double n = read_number(b);
    node->type = cJSON_Number;
    node->valuedouble = n;
    node->valueint = n >= INT_MAX ? INT_MAX : n <= (double)INT_MIN ? INT_MIN : (int)n;
}

// An object or an array, from its bracket on.
static void build_members(struct build *b, cJSON *node, char close)
{
    cJSON *last = NULL;
    node->type = close == '}' ? cJSON_Object : cJSON_Array;
    b->p++;
    skip_blanks(b);
    while (*b->p != close) {
        char *name = NULL;
        if (close == '}') {
            name = build_string(b);
            skip_blanks(b);
            b->p++; // the colon
        }
        cJSON *item = build_value(b);
        item->string = name;
        item->prev = last;
        if (last)
            last->next = item;
        else
            node->child = item;
        last = item;
        skip_blanks(b);
        if (*b->p == ',') {
            b->p++;
            skip_blanks(b);
        }
    }
    if (node->child)
        node->child->prev = last; // as cJSON has it
    b->p++;
}

static void build_literal(struct build *b, cJSON *node)
{
    node->type = *b->p == 't' ? cJSON_True : *b->p == 'f' ? cJSON_False : cJSON_NULL;
    node->valueint = *b->p == 't';
    b->p += *b->p == 'f' ? 5 : 4;
}

static cJSON *build_value(struct build *b)
{
    cJSON *node = arena_zalloc(b->arena, sizeof *node);
    skip_blanks(b);
    switch (*b->p) {
    case '{':
        build_members(b, node, '}');
        break;
    case '[':
        build_members(b, node, ']');
        break;
    case '"':
        node->type = cJSON_String;
        node->valuestring = build_string(b);
        break;
    case 't':
    case 'f':
    case 'n':
        build_literal(b, node);
        break;
    default:
        build_number(b, node);
    }
    return node;
}

cJSON *json_parse(struct arena *arena, const char *text, size_t len, struct error *err)
{
    return json_parse_ids(arena, text, len, NULL, err);
}

cJSON *json_parse_ids(struct arena *arena, const char *text, size_t len, struct json_ids *ids,
                      struct error *err)
{
    const char *why;
    size_t at;
    if (json_check(text, len, JSON_DEPTH_MAX, ids, &why, &at)) {
        error_set(err, "not acceptable JSON at byte %zu: %s", at, why);
        return NULL;
    }
    struct build b = {arena, text, text + len};
    return build_value(&b);
}
