#include "common/config.h"

#include "common/config_internal.h"
#include "common/core/text.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAULTS_MAX 20
#define FILE_MAX_BYTES (1024 * 1024)
#define LIST_MAX 64

#define KEY(path, type, member, fallback, min, max, reloadable, description)                       \
    {path, CONFIG_##type, offsetof(struct config, member), fallback, min, max, reloadable,         \
     description},
const struct config_key config_keys[] = {
#include "common/config_keys.def"
};
#undef KEY
const size_t config_keys_len = sizeof config_keys / sizeof *config_keys;

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

void config_fault(struct config_reader *r, size_t line, const char *format, ...)
{
    if (++r->faults_len > FAULTS_MAX)
        return;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (r->faults.len)
        buf_add_char(&r->faults, '\n');
    if (line)
        buf_printf(&r->faults, "%s:%zu: %s", r->file, line, text);
    else
        buf_printf(&r->faults, "%s: %s", r->file, text);
}

// ---- values ----

// "500 ms", "120 s", "4 h", "7 d", "90": milliseconds, or -EINVAL.
static int parse_duration(const char *text, int64_t *ms)
{
    static const struct {
        const char *name;
        int64_t ms;
    } units[] = {{"ms", 1},       {"", 1000},       {"s", 1000},
                 {"min", 60000},  {"m", 60000},     {"h", 3600000}, {"d", 86400000}};
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
    return must(strdup(b.data));
}

static void replace(char **slot, char *value)
{
    free(*slot);
    *slot = value;
}

static void append(struct config_strings *list, char *value)
{
    list->items = must(realloc(list->items, (list->len + 1) * sizeof *list->items));
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
    int bad = duration ? parse_duration(text, &value)
                       : parse_u64(text, strlen(text), 0, INT64_MAX, &n);
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

void config_set(struct config_reader *r, const struct config_key *key, const char *text, size_t line)
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
                append(items, key->type == CONFIG_PATHS ? resolve(r, text) : must(strdup(text)));
        } else {
            replace(slot, key->type == CONFIG_PATH ? resolve(r, text) : must(strdup(text)));
        }
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

// ---- defaults, environment, checks ----

static char *executable_folder(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0)
        return must(strdup("."));
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    if (slash && slash != path)
        *slash = '\0';
    return must(strdup(path));
}

static void apply_defaults(struct config_reader *r)
{
    for (size_t i = 0; i < config_keys_len; i++) {
        const struct config_key *key = &config_keys[i];
        if (key->fallback && *key->fallback)
            config_set(r, key, key->fallback, 0);
    }
}

static void apply_late_defaults(struct config *c)
{
    if (!c->licenses.search_paths.len) {
        char *folder = executable_folder();
        BUF_CLEANUP struct buf license = {0};
        buf_printf(&license, "%s/license", folder);
        append(&c->licenses.search_paths, folder);
        append(&c->licenses.search_paths, must(strdup(license.data)));
    }
    if (!c->borrow.directory)
        c->borrow.directory = must(strdup("."));
    if (!c->limits.burst)
        c->limits.burst = c->limits.calls_per_second;
}

// BERTH_SERVE_LICENSES_PORT for serve.licenses.port.
static void env_name(const char *path, char out[static 96])
{
    size_t n = (size_t)snprintf(out, 96, "BERTH_%s", path);
    for (size_t i = 6; i < n; i++)
        out[i] = out[i] == '.' ? '_' : (char)toupper((unsigned char)out[i]);
}

static void apply_environment(struct config_reader *r)
{
    const char *file = r->file;
    const char *base = r->base;
    for (size_t i = 0; i < config_keys_len; i++) {
        const struct config_key *key = &config_keys[i];
        char name[96];
        env_name(key->path, name);
        const char *value = getenv(name);
        if (!value || key->type == CONFIG_STRINGS || key->type == CONFIG_PATHS ||
            key->type == CONFIG_PRESENT)
            continue;
        r->file = name;
        config_set(r, key, value, 0);
        r->seen[i] = true;
    }
    r->file = file;
    r->base = base;
    r->config->serve.admin.enabled = !getenv("BERTH_SERVE_ADMIN_OFF");
}

static void check_whole(struct config_reader *r)
{
    struct config *c = r->config;
    if (!c->serve.licenses.tls.certificate)
        config_fault(r, 0, "serve.licenses.tls.certificate is missing: Berth serves HTTPS only");
    if (!c->serve.licenses.tls.key)
        config_fault(r, 0, "serve.licenses.tls.key is missing: Berth serves HTTPS only");
    if (!c->serve.admin.tls.certificate != !c->serve.admin.tls.key)
        config_fault(r, 0, "serve.admin.tls needs both certificate and key");
    if (!c->trust.server_license == !c->trust.dongle)
        config_fault(r, 0, "exactly one of trust.server_license (Cloud-Ready) and trust.dongle "
                           "(On-Premises) must be given");
#ifdef BERTH_VENDOR_CA
    if (c->trust.vendor_ca)
        config_fault(r, 0, "trust.vendor_ca is not allowed: the vendor's CA is compiled in");
#else
    if (!c->trust.vendor_ca)
        config_fault(r, 0, "trust.vendor_ca is missing: the file of the vendor's CA certificate");
#endif
}

// ---- life ----

static int read_file(const char *path, struct buf *out, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    int r = fd < 0 || fstat(fd, &st) ? -errno : 0;
    if (!r && !S_ISREG(st.st_mode)) {
        error_set(err, "%s: not a file", path);
        r = -EINVAL;
    } else if (r) {
        error_set(err, "%s: %s", path, strerror(-r));
    }
    ssize_t n = 1;
    while (!r && n > 0 && out->len <= FILE_MAX_BYTES) {
        buf_reserve(out, 65536);
        n = read(fd, out->data + out->len, 65536);
        if (n > 0)
            out->len += (size_t)n;
    }
    if (!r && (n < 0 || out->len > FILE_MAX_BYTES)) {
        error_set(err, "%s: %s", path, n < 0 ? strerror(errno) : "larger than 1 MiB");
        r = -EINVAL;
    }
    if (fd >= 0)
        close(fd);
    return r;
}

int config_parse(struct config **out, const char *file, const char *base, const char *text,
                 size_t len, struct error *err)
{
    struct config_reader r = {.file = file, .base = base};
    r.config = must(calloc(1, sizeof *r.config));
    r.seen = must(calloc(config_keys_len, sizeof *r.seen));
    r.config->file = must(strdup(file));
    apply_defaults(&r);
    config_yaml_read(&r, text, len);
    apply_environment(&r);
    for (size_t i = 0; i < config_keys_len; i++) {
        if (r.seen[i] && !strncmp(config_keys[i].path, "rpc.", 4))
            r.config->rpc.written = true;
    }
    apply_late_defaults(r.config);
    if (!r.faults_len)
        check_whole(&r);
    free(r.seen);
    int result = 0;
    if (r.faults_len) {
        error_set(err, "%s", r.faults.data);
        config_free(&r.config);
        result = -EINVAL;
    }
    buf_fini(&r.faults);
    *out = r.config;
    return result;
}

int config_load(struct config **out, const char *path, struct error *err)
{
    BUF_CLEANUP struct buf file = {0};
    if (path) {
        buf_add_str(&file, path);
    } else {
        char *folder = executable_folder();
        buf_printf(&file, "%s/config.yaml", folder);
        free(folder);
    }
    BUF_CLEANUP struct buf text = {0};
    int r = read_file(file.data, &text, err);
    if (r)
        return r;
    BUF_CLEANUP struct buf base = {0};
    const char *slash = strrchr(file.data, '/');
    if (slash)
        buf_add(&base, file.data, (size_t)(slash - file.data));
    else
        buf_add_str(&base, ".");
    return config_parse(out, file.data, base.data, text.data ? text.data : "", text.len, err);
}

void config_free(struct config **config)
{
    if (!*config)
        return;
    struct config_reader r = {.config = *config};
    for (size_t i = 0; i < config_keys_len; i++) {
        const struct config_key *key = &config_keys[i];
        if (key->type == CONFIG_STRING || key->type == CONFIG_PATH)
            free(*(char **)(void *)((char *)*config + key->offset));
        else if (key->type == CONFIG_STRINGS || key->type == CONFIG_PATHS)
            config_clear_list(&r, key);
    }
    free((*config)->file);
    free(*config);
    *config = NULL;
}

static bool strings_equal(const struct config_strings *a, const struct config_strings *b)
{
    bool equal = a->len == b->len;
    for (size_t i = 0; equal && i < a->len; i++)
        equal = !strcmp(a->items[i], b->items[i]);
    return equal;
}

static bool value_equal(const struct config_key *key, const struct config *a,
                        const struct config *b)
{
    const void *x = (const char *)a + key->offset;
    const void *y = (const char *)b + key->offset;
    const char *s, *t;
    switch (key->type) {
    case CONFIG_STRING:
    case CONFIG_PATH:
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

const char *config_reload_blocker(const struct config *old_config, const struct config *new_config)
{
    for (size_t i = 0; i < config_keys_len; i++) {
        if (!config_keys[i].reloadable && !value_equal(&config_keys[i], old_config, new_config))
            return config_keys[i].path;
    }
    return NULL;
}
