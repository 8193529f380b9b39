// Walks a YAML (or JSON, which is YAML) document by libyaml's events. No anchors, aliases or tags:
// a configuration file has no use for them, and they are what makes YAML surprising.
#include "common/config_internal.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define DEPTH_MAX 8
#define PATH_MAX_BYTES 160

struct walk {
    struct config_reader *reader;
    yaml_parser_t parser;
    yaml_event_t event;
    bool broken; // cannot go on
};

static size_t event_line(const struct walk *w)
{
    return w->event.start_mark.line + 1;
}

// The next event, or false after a syntax error (which is reported).
static bool next(struct walk *w)
{
    yaml_event_delete(&w->event);
    if (w->broken)
        return false;
    if (!yaml_parser_parse(&w->parser, &w->event)) {
        config_fault(w->reader, w->parser.problem_mark.line + 1, "not YAML: %s",
                     w->parser.problem ? w->parser.problem : "unreadable");
        w->broken = true;
        return false;
    }
    bool bad = w->event.type == YAML_ALIAS_EVENT;
    if (w->event.type == YAML_SCALAR_EVENT)
        bad = w->event.data.scalar.anchor || w->event.data.scalar.tag;
    else if (w->event.type == YAML_MAPPING_START_EVENT)
        bad = w->event.data.mapping_start.anchor || w->event.data.mapping_start.tag;
    else if (w->event.type == YAML_SEQUENCE_START_EVENT)
        bad = w->event.data.sequence_start.anchor || w->event.data.sequence_start.tag;
    if (bad) {
        config_fault(w->reader, event_line(w),
                     "anchors (&), aliases (*) and tags (!) are not supported");
        w->broken = true;
    }
    return !bad;
}

// Skips the value whose first event is the current one.
static void skip_value(struct walk *w)
{
    int depth = 0;
    do {
        yaml_event_type_t t = w->event.type;
        if (t == YAML_MAPPING_START_EVENT || t == YAML_SEQUENCE_START_EVENT)
            depth++;
        else if (t == YAML_MAPPING_END_EVENT || t == YAML_SEQUENCE_END_EVENT)
            depth--;
    } while (depth > 0 && next(w));
}

static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    size_t row[PATH_MAX_BYTES + 1];
    if (m > PATH_MAX_BYTES || n > PATH_MAX_BYTES)
        return SIZE_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

// The names that may stand in the group with this path ("": the whole file).
static void add_allowed(struct buf *out, const char *group)
{
    size_t len = strlen(group), skip = len ? len + 1 : 0, last_len = 0;
    const char *last = "";
    for (size_t i = 0; i < config_keys_len; i++) {
        const char *path = config_keys[i].path;
        if (strncmp(path, group, len) != 0 || (len && path[len] != '.'))
            continue;
        const char *name = path + skip;
        size_t name_len = strcspn(name, ".");
        if (name_len == last_len && !strncmp(name, last, name_len))
            continue; // keys of one group stand together in the table
        buf_printf(out, "%s%.*s", last_len ? ", " : "", (int)name_len, name);
        last = name;
        last_len = name_len;
    }
}

static void report_unknown(struct walk *w, const char *group, const char *path, size_t line)
{
    const char *nearest = NULL;
    size_t best = 4; // farther away it is no typing error
    for (size_t i = 0; i < config_keys_len; i++) {
        size_t d = distance(path, config_keys[i].path);
        if (d < best) {
            best = d;
            nearest = config_keys[i].path;
        }
    }
    BUF_CLEANUP struct buf allowed = {0};
    add_allowed(&allowed, group);
    config_fault(w->reader, line, "%s: no such key%s%s%s; allowed here: %s", path,
                 nearest ? " (did you mean " : "", nearest ? nearest : "", nearest ? "?)" : "",
                 allowed.data);
}

static const struct config_key *find_key(const char *path, bool *is_section)
{
    size_t len = strlen(path);
    *is_section = false;
    for (size_t i = 0; i < config_keys_len; i++) {
        if (!strcmp(config_keys[i].path, path))
            return &config_keys[i];
        if (!strncmp(config_keys[i].path, path, len) && config_keys[i].path[len] == '.')
            *is_section = true;
    }
    return NULL;
}

static bool is_null(const yaml_event_t *e)
{
    const char *s = (const char *)e->data.scalar.value;
    return e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*s || !strcmp(s, "~") || !strcmp(s, "null"));
}

// Whether a scalar without quotes is what YAML and JSON take for a number or a truth value.
static bool is_bare_value(const yaml_event_t *e)
{
    const char *s = (const char *)e->data.scalar.value;
    char *end;
    if (e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    if (!strcmp(s, "true") || !strcmp(s, "false"))
        return true;
    // No hex, no "inf": what begins with a letter is a text.
    if (!strchr("+-.0123456789", *s) || s[strspn(s, "+-.0123456789eE")])
        return false;
    strtod(s, &end);
    return end != s && !*end;
}

// One scalar of the right kind; faults are reported.
static void read_scalar(struct walk *w, const struct config_key *key)
{
    const char *text = (const char *)w->event.data.scalar.value;
    size_t line = event_line(w);
    bool quoted = w->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (strlen(text) != w->event.data.scalar.length) {
        config_fault(w->reader, line, "%s: must not hold a NUL", key->path);
        return;
    }
    switch (key->type) {
    case CONFIG_UINT:
    case CONFIG_PORT:
    case CONFIG_BOOL:
        if (quoted) {
            config_fault(w->reader, line, "%s: must be %s, without quotes", key->path,
                         key->type == CONFIG_BOOL ? "true or false" : "a number");
            return;
        }
        break;
    case CONFIG_DURATION:
        break;
    default:
        if (is_bare_value(&w->event)) {
            config_fault(w->reader, line, "%s: must be a text; write \"%.60s\" if that is meant",
                         key->path, text);
            return;
        }
    }
    config_set(w->reader, key, text, line);
}

static void read_list(struct walk *w, const struct config_key *key)
{
    config_clear_list(w->reader, key);
    while (next(w) && w->event.type != YAML_SEQUENCE_END_EVENT) {
        if (w->event.type == YAML_SCALAR_EVENT && !is_null(&w->event)) {
            read_scalar(w, key);
        } else {
            config_fault(w->reader, event_line(w), "%s: each item must be a text", key->path);
            skip_value(w);
        }
    }
}

static void read_value(struct walk *w, const struct config_key *key)
{
    bool list = key->type == CONFIG_STRINGS || key->type == CONFIG_PATHS;
    size_t line = event_line(w);
    w->reader->seen[key - config_keys] = true;
    w->reader->lines[key - config_keys] = line;
    if (key->type == CONFIG_PRESENT) {
        if (w->event.type == YAML_MAPPING_START_EVENT) {
            config_set(w->reader, key, "", line);
            if (next(w) && w->event.type != YAML_MAPPING_END_EVENT) {
                config_fault(w->reader, line, "%s: takes no keys, write {}", key->path);
                while (w->event.type != YAML_MAPPING_END_EVENT) {
                    skip_value(w);
                    if (!next(w))
                        return;
                }
            }
        } else {
            config_fault(w->reader, line, "%s: must be written as {}", key->path);
            skip_value(w);
        }
    } else if (list && w->event.type == YAML_SEQUENCE_START_EVENT) {
        read_list(w, key);
    } else if (!list && w->event.type == YAML_SCALAR_EVENT && !is_null(&w->event)) {
        read_scalar(w, key);
    } else {
        config_fault(w->reader, line, "%s: must be %s", key->path,
                     list ? "a list, as [a, b]" : "a single value");
        skip_value(w);
    }
}

static void read_mapping(struct walk *w, const char *prefix, int depth)
{
    // Keys of this mapping so far, for duplicates.
    char *names[64];
    size_t names_len = 0;
    while (next(w) && w->event.type != YAML_MAPPING_END_EVENT) {
        size_t line = event_line(w);
        if (w->event.type != YAML_SCALAR_EVENT) {
            config_fault(w->reader, line, "a key must be a text");
            skip_value(w);
            if (next(w))
                skip_value(w);
            continue;
        }
        char path[PATH_MAX_BYTES];
        const char *name = (const char *)w->event.data.scalar.value;
        // "serve.licenses" as one key is not the group licenses in the group serve.
        bool plain_name = !strchr(name, '.') && strlen(name) == w->event.data.scalar.length;
        snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", name);
        bool twice = false;
        for (size_t i = 0; i < names_len; i++)
            twice |= !strcmp(names[i], path);
        if (!twice && names_len < 64)
            names[names_len++] = strdup(path);
        if (!next(w))
            break;
        bool section = false;
        const struct config_key *key = plain_name ? find_key(path, &section) : NULL;
        if (twice) {
            config_fault(w->reader, line, "%s: stands twice", path);
            skip_value(w);
        } else if (key) {
            read_value(w, key);
        } else if (!section) {
            report_unknown(w, prefix, path, line);
            skip_value(w);
        } else if (w->event.type == YAML_MAPPING_START_EVENT && depth < DEPTH_MAX) {
            read_mapping(w, path, depth + 1);
        } else if (!(w->event.type == YAML_SCALAR_EVENT && is_null(&w->event))) {
            config_fault(w->reader, line, "%s: must be a group of keys", path);
            skip_value(w);
        }
    }
    for (size_t i = 0; i < names_len; i++)
        free(names[i]);
}

void config_yaml_read(struct config_reader *r, const char *text, size_t len)
{
    struct walk w = {.reader = r};
    if (!yaml_parser_initialize(&w.parser))
        abort();
    yaml_parser_set_input_string(&w.parser, (const unsigned char *)text, len);
    bool document = false;
    while (next(&w) && w.event.type != YAML_STREAM_END_EVENT) {
        if (w.event.type == YAML_STREAM_START_EVENT || w.event.type == YAML_DOCUMENT_END_EVENT)
            continue;
        if (w.event.type == YAML_DOCUMENT_START_EVENT) {
            if (document) {
                config_fault(r, event_line(&w), "more than one document");
                break;
            }
            document = true;
        } else if (w.event.type == YAML_MAPPING_START_EVENT) {
            read_mapping(&w, "", 1);
        } else if (!(w.event.type == YAML_SCALAR_EVENT && is_null(&w.event))) {
            config_fault(r, event_line(&w), "the file must be a group of keys");
            skip_value(&w);
        }
    }
    r->broken = w.broken;
    yaml_event_delete(&w.event);
    yaml_parser_delete(&w.parser);
}
