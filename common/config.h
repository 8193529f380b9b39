// The configuration file of all four processes (operations.md): YAML or JSON, read through libyaml
// against one table, config_keys.def, from which docs/reference/configuration.md and the commented
// sample are generated too.
#pragma once

#include "common/core/buf.h"
#include "common/core/error.h"
#include "common/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config_strings {
    char **items;
    size_t len;
};

// Paths are absolute or relative to the working directory already (they were resolved against the
// file's folder). NULL: not set. Durations are milliseconds.
struct config_tls {
    char *certificate, *key, *client_ca;
};

struct config {
    char *file;
    struct {
        struct {
            char *host;
            uint16_t port;
            struct config_tls tls;
            struct config_strings allowed_origins;
        } licenses;
        struct {
            bool enabled; // not a key: false under `berth serve licenses` (BERTH_SERVE_ADMIN_OFF=1)
            char *host;
            uint16_t port;
            char *token_file, *client_ca;
            struct config_tls tls; // unset members: those of licenses.tls
        } admin;
    } serve;
    struct {
        struct config_strings search_paths;
    } licenses;
    struct {
        int64_t revalidation_interval_ms;
        char *state_dir;
        uint32_t max_per_client;
    } sessions;
    struct {
        uint32_t calls_per_second, burst, connections_per_address;
    } limits;
    struct {
        char *vendor_ca, *state_dir, *server_license;
        bool dongle; // the key is present
        struct {
            int64_t grace_ms, check_interval_ms;
            char *proxy;
        } cloud;
    } trust;
    struct {
        char *directory, *token_file;
        bool open;
        int64_t max_period_ms, max_ahead_ms;
    } borrow;
    struct {
        char *pool, *trust, *borrow; // URLs
        char *keys;                  // folder of certificates, or NULL
        bool pool_written, trust_written, borrow_written; // in the file or the environment
    } rpc;
    struct {
        char *pool, *trust, *borrow; // host:port
    } ops;
    struct {
        enum log_level level;
        enum log_format format;
        char *file;
    } log;
};

// Reads, applies BERTH_… environment overrides, checks everything. path NULL: config.yaml next to
// the executable. 0, or -errno with all faults found (up to 20), one a line:
//     config.yaml:12: sessions.revalidation_interval: "2 weeks" is too long (1 s to 24 h)
int config_load(struct config **out, const char *path, struct error *err);
// Whether config.yaml lies next to the executable: commands that can do without take it if it does.
bool config_lies_beside(void);
// The same from memory: `file` is the name for messages, `base` the folder that paths resolve
// against.
int config_parse(struct config **out, const char *file, const char *base, const char *text,
                 size_t len, struct error *err);
void config_free(struct config **config);
// Names the first key whose value differs and that cannot be reloaded, or NULL.
const char *config_reload_blocker(const struct config *old_config, const struct config *new_config);
// docs/reference/configuration.md and deploy/config.sample.yaml.
void config_write_reference(struct buf *out);
void config_write_sample(struct buf *out);
