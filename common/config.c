#include "common/config.h"

#include "common/config_internal.h"
#include "common/core/text.h"
#include "common/vendor_ca.h"

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

#define KEY(path, type, member, fallback, min, max, reloadable, description)                       \
    {path,       CONFIG_##type, offsetof(struct config, member), fallback, min, max,               \
     reloadable, description},
const struct config_key config_keys[] = {
#include "common/config_keys.def"
};
#undef KEY
const size_t config_keys_len = sizeof config_keys / sizeof *config_keys;

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

// ---- defaults, environment, checks ----

static char *executable_folder(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0)
        return config_must(strdup("."));
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    if (slash && slash != path)
        *slash = '\0';
    return config_must(strdup(path));
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
        config_append(&c->licenses.search_paths, folder);
        config_append(&c->licenses.search_paths, config_must(strdup(license.data)));
    }
    if (!c->borrow.directory)
        c->borrow.directory = config_must(strdup("."));
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
    r->config->serve.admin.enabled = !getenv("BERTH_SERVE_ADMIN_OFF");
}

// Whether the key was written, rightly or wrongly: a wrong value is not missing too.
static bool written(const struct config_reader *r, const char *path)
{
    for (size_t i = 0; i < config_keys_len; i++) {
        if (!strcmp(config_keys[i].path, path))
            return r->seen[i];
    }
    return false;
}

// The line of the later one of two keys, or 0.
static size_t line_of(const struct config_reader *r, const char *one, const char *other)
{
    size_t line = 0;
    for (size_t i = 0; i < config_keys_len; i++) {
        if ((!strcmp(config_keys[i].path, one) || !strcmp(config_keys[i].path, other)) &&
            r->lines[i] > line)
            line = r->lines[i];
    }
    return line;
}

static void check_whole(struct config_reader *r)
{
    static const char *const https[] = {"serve.licenses.tls.certificate", "serve.licenses.tls.key"};
    for (size_t i = 0; i < 2; i++) {
        if (!written(r, https[i]))
            config_fault(r, 0, "%s: is missing; it is required, as Berth serves HTTPS only",
                         https[i]);
    }
    if (written(r, "serve.admin.tls.certificate") != written(r, "serve.admin.tls.key"))
        config_fault(r, line_of(r, "serve.admin.tls.certificate", "serve.admin.tls.key"),
                     "serve.admin.tls: needs both certificate and key, or neither");
    if (written(r, "trust.server_license") == written(r, "trust.dongle"))
        config_fault(r, line_of(r, "trust.server_license", "trust.dongle"),
                     "trust: exactly one of server_license (Cloud-Ready) and dongle "
                     "(On-Premises) must be given");
    const char *const urls[] = {r->config->rpc.pool, r->config->rpc.trust, r->config->rpc.borrow};
    for (size_t i = 0; i < 3 && !r->config->rpc.keys; i++) {
        if (!strncmp(urls[i], "tls+", 4))
            config_fault(r, 0,
                         "rpc.keys: is missing; '%.60s' needs the folder that "
                         "'berth rpc-keys' makes",
                         urls[i]);
    }
    if (vendor_ca_compiled_in && written(r, "trust.vendor_ca"))
        config_fault(r, line_of(r, "trust.vendor_ca", ""),
                     "trust.vendor_ca: is not allowed, the vendor's CA is compiled in");
    if (!vendor_ca_compiled_in && !written(r, "trust.vendor_ca"))
        config_fault(r, 0, "trust.vendor_ca: is missing; the file of the vendor's CA certificate");
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
    r.config = config_must(calloc(1, sizeof *r.config));
    r.seen = config_must(calloc(config_keys_len, sizeof *r.seen));
    r.lines = config_must(calloc(config_keys_len, sizeof *r.lines));
    r.config->file = config_must(strdup(file));
    apply_defaults(&r);
    config_yaml_read(&r, text, len);
    apply_environment(&r);
    r.config->rpc.pool_written = written(&r, "rpc.pool");
    r.config->rpc.trust_written = written(&r, "rpc.trust");
    r.config->rpc.borrow_written = written(&r, "rpc.borrow");
    apply_late_defaults(r.config);
    if (!r.broken)
        check_whole(&r);
    free(r.seen);
    free(r.lines);
    int result = 0;
    if (r.faults_len > FAULTS_MAX)
        buf_printf(&r.faults, "\n%s: and %u more", file, r.faults_len - FAULTS_MAX);
    if (r.faults_len) {
        error_set(err, "%s", r.faults.data);
        config_free(&r.config);
        result = -EINVAL;
    }
    buf_fini(&r.faults);
    *out = r.config;
    return result;
}

static void add_default_path(struct buf *out)
{
    char *folder = executable_folder();
    buf_printf(out, "%s/config.yaml", folder);
    free(folder);
}

bool config_lies_beside(void)
{
    BUF_CLEANUP struct buf file = {0};
    add_default_path(&file);
    return !access(file.data, F_OK);
}

int config_load(struct config **out, const char *path, struct error *err)
{
    BUF_CLEANUP struct buf file = {0};
    if (path)
        buf_add_str(&file, path);
    else
        add_default_path(&file);
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
        if (config_is_text(key->type))
            free(*(char **)(void *)((char *)*config + key->offset));
        else if (key->type == CONFIG_STRINGS || key->type == CONFIG_PATHS)
            config_clear_list(&r, key);
    }
    free((*config)->file);
    free(*config);
    *config = NULL;
}

const char *config_reload_blocker(const struct config *old_config, const struct config *new_config)
{
    for (size_t i = 0; i < config_keys_len; i++) {
        const struct config_key *key = &config_keys[i];
        if (!key->reloadable && !config_value_equal(key, old_config, new_config))
            return key->path;
    }
    return NULL;
}
