// The types of config_keys.def: from text to the member of struct config.
#include "common/config_internal.h"

#include "common/core/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX 64
#define SOCKET_PATH_MAX 107 // sun_path of a Unix socket

void *config_must(void *p)
{
    if (!p)
        abort();
    return p;
}

// "500 ms", "120 s", "4 h", "7 d", "90": milliseconds, or -EINVAL.
static int parse_duration(const char *text, int64_t *ms)
{
    static const struct {
        const char *name;
        int64_t ms;
    } units[] = {{"ms", 1},    {"", 1000},     {"s", 1000},    {"min", 60000},
                 {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    size_t digits = strspn(text, "0123456789");
    uint64_t n;
    if (!digits || parse_u64(text, digits, 0, 1000000000, &n))
        return -EINVAL;
    const char *unit = text + digits;
    unit += strspn(unit, " ");
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (!strcmp(unit, units[i].name)) {
            *ms = (int64_t)n * units[i].ms;
            return 0;
        }
    }
    return -EINVAL;
}

static int64_t limit(const struct config_key *key, const char *text)
{
    int64_t ms = 0;
    if (key->type == CONFIG_DURATION)
        parse_duration(text, &ms);
    else
        ms = atoll(text);
    return ms;
}

static char *resolve(const struct config_reader *r, const char *path)
{
    BUF_CLEANUP struct buf b = {0};
    if (*path == '/' || !r->base)
        buf_add_str(&b, path);
    else if (!strcmp(path, "."))
        buf_add_str(&b, r->base);
    else
        buf_printf(&b, "%s/%s", r->base, path);
    return config_must(strdup(b.data));
}

static char *copy(const struct config_reader *r, const struct config_key *key, const char *text)
{
    bool path = key->type == CONFIG_PATH || key->type == CONFIG_PATHS;
    return path ? resolve(r, text) : config_must(strdup(text));
}

static void replace(char **slot, char *value)
{
    free(*slot);
    *slot = value;
}

void config_append(struct config_strings *list, char *value)
{
    list->items = config_must(realloc(list->items, (list->len + 1) * sizeof *list->items));
    list->items[list->len++] = value;
}

void config_clear_list(struct config_reader *r, const struct config_key *key)
{
    struct config_strings *list = (void *)((char *)r->config + key->offset);
    for (size_t i = 0; i < list->len; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct config_strings){0};
}

static int word_index(const char *text, const char *const *words)
{
    for (int i = 0; words[i]; i++) {
        if (!strcmp(text, words[i]))
            return i;
    }
    return -1;
}

static const char *const level_words[] = {"debug", "info", "warn", "error", NULL};
static const char *const format_words[] = {"text", "json", NULL};
static const char *const bool_words[] = {"false", "true", "no", "yes", "off", "on", NULL};

static void set_number(struct config_reader *r, const struct config_key *key, const char *text,
                       size_t line, void *slot)
{
    int64_t value;
    uint64_t n;
    bool duration = key->type == CONFIG_DURATION;
    int bad =
        duration ? parse_duration(text, &value) : parse_u64(text, strlen(text), 0, INT64_MAX, &n);
    if (bad) {
        config_fault(r, line, "%s: '%.60s' is not %s (%s to %s)", key->path, text,
                     duration ? "a duration such as 500 ms, 120 s, 4 h, 7 d" : "a whole number",
                     key->min, key->max);
        return;
    }
    if (!duration)
        value = (int64_t)n;
    if (value < limit(key, key->min) || value > limit(key, key->max)) {
        config_fault(r, line, "%s: '%.60s' is out of range (%s to %s)", key->path, text, key->min,
                     key->max);
        return;
    }
    if (duration)
        *(int64_t *)slot = value;
    else if (key->type == CONFIG_PORT)
        *(uint16_t *)slot = (uint16_t)value;
    else
        *(uint32_t *)slot = (uint32_t)value;
}

static bool is_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;
    return colon && colon != text && !parse_u64(colon + 1, strlen(colon + 1), 0, 65535, &port) &&
           !strpbrk(text, " /");
}

static void set_where(struct config_reader *r, const struct config_key *key, const char *text,
                      size_t line, char **slot)
{
    if (key->type == CONFIG_ADDRESS && !is_address(text))
        config_fault(r, line, "%s: '%.60s' is not address:port, as 127.0.0.1:22024", key->path,
                     text);
    else if (key->type == CONFIG_URL && !strncmp(text, "ipc://", 6) && text[6] &&
             strlen(text + 6) > SOCKET_PATH_MAX)
        config_fault(r, line, "%s: the path is longer than %d bytes", key->path, SOCKET_PATH_MAX);
    else if (key->type == CONFIG_URL && !(!strncmp(text, "ipc://", 6) && text[6]) &&
             !(!strncmp(text, "tcp://", 6) && is_address(text + 6)) &&
             !(!strncmp(text, "tls+tcp://", 10) && is_address(text + 10)))
        config_fault(r, line,
                     "%s: '%.60s' is none of ipc:///path, tls+tcp://host:port and "
                     "tcp://host:port",
                     key->path, text);
    else
        replace(slot, config_must(strdup(text)));
}

static void set_word(struct config_reader *r, const struct config_key *key, const char *text,
                     size_t line, void *slot)
{
    int i;
    switch (key->type) {
    case CONFIG_BOOL:
        i = word_index(text, bool_words);
        if (i >= 0)
            *(bool *)slot = i % 2;
        else
            config_fault(r, line, "%s: '%.60s' is neither true nor false", key->path, text);
        break;
    case CONFIG_LEVEL:
        i = word_index(text, level_words);
        if (i >= 0)
            *(enum log_level *)slot = (enum log_level)i;
        else
            config_fault(r, line, "%s: '%.60s' is not debug, info, warn or error", key->path, text);
        break;
    default:
        i = word_index(text, format_words);
        if (i >= 0)
            *(enum log_format *)slot = (enum log_format)i;
        else
            config_fault(r, line, "%s: '%.60s' is neither text nor json", key->path, text);
    }
}

void config_set(struct config_reader *r, const struct config_key *key, const char *text,
                size_t line)
{
    void *slot = (char *)r->config + key->offset;
    bool list = key->type == CONFIG_STRINGS || key->type == CONFIG_PATHS;
    switch (key->type) {
    case CONFIG_STRING:
    case CONFIG_PATH:
    case CONFIG_STRINGS:
    case CONFIG_PATHS:
        if (!*text) {
            config_fault(r, line, "%s: must not be empty", key->path);
        } else if (list) {
            struct config_strings *items = slot;
            if (items->len == LIST_MAX)
                config_fault(r, line, "%s: more than %d items", key->path, LIST_MAX);
            else
                config_append(items, copy(r, key, text));
        } else {
            replace(slot, copy(r, key, text));
        }
        break;
    case CONFIG_ADDRESS:
    case CONFIG_URL:
        set_where(r, key, text, line, slot);
        break;
    case CONFIG_UINT:
    case CONFIG_PORT:
    case CONFIG_DURATION:
        set_number(r, key, text, line, slot);
        break;
    case CONFIG_BOOL:
    case CONFIG_LEVEL:
    case CONFIG_FORMAT:
        set_word(r, key, text, line, slot);
        break;
    case CONFIG_PRESENT:
        *(bool *)slot = true;
        break;
    }
}

bool config_is_text(enum config_type type)
{
    return type == CONFIG_STRING || type == CONFIG_PATH || type == CONFIG_ADDRESS ||
           type == CONFIG_URL;
}

static bool strings_equal(const struct config_strings *a, const struct config_strings *b)
{
    bool equal = a->len == b->len;
    for (size_t i = 0; equal && i < a->len; i++)
        equal = !strcmp(a->items[i], b->items[i]);
    return equal;
}

bool config_value_equal(const struct config_key *key, const struct config *a,
                        const struct config *b)
{
    const void *x = (const char *)a + key->offset;
    const void *y = (const char *)b + key->offset;
    const char *s, *t;
    switch (key->type) {
    case CONFIG_STRING:
    case CONFIG_PATH:
    case CONFIG_ADDRESS:
    case CONFIG_URL:
        s = *(char *const *)x;
        t = *(char *const *)y;
        return s && t ? !strcmp(s, t) : s == t;
    case CONFIG_STRINGS:
    case CONFIG_PATHS:
        return strings_equal(x, y);
    case CONFIG_BOOL:
    case CONFIG_PRESENT:
        return *(const bool *)x == *(const bool *)y;
    case CONFIG_PORT:
        return *(const uint16_t *)x == *(const uint16_t *)y;
    case CONFIG_DURATION:
        return *(const int64_t *)x == *(const int64_t *)y;
    default:
        return *(const uint32_t *)x == *(const uint32_t *)y;
    }
}
