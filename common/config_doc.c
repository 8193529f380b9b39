// The reference page and the commented sample, from the table of keys.
#include "common/config_internal.h"

#include <string.h>

static const char *type_name(enum config_type type)
{
    switch (type) {
    case CONFIG_PATH:
        return "path";
    case CONFIG_BOOL:
        return "true or false";
    case CONFIG_UINT:
        return "number";
    case CONFIG_PORT:
        return "port";
    case CONFIG_DURATION:
        return "duration";
    case CONFIG_STRINGS:
        return "list of texts";
    case CONFIG_PATHS:
        return "list of paths";
    case CONFIG_LEVEL:
        return "debug, info, warn, error";
    case CONFIG_FORMAT:
        return "text, json";
    case CONFIG_PRESENT:
        return "{}";
    case CONFIG_ADDRESS:
        return "address:port";
    case CONFIG_URL:
        return "ipc:///path or tcp://host:port";
    default:
        return "text";
    }
}

void config_write_reference(struct buf *out)
{
    buf_add_str(
        out,
        "# Configuration reference\n\n"
        "This page is made from the table that the server itself reads its configuration by\n"
        "(`common/config_keys.def`): `berth check-config --reference`. A test keeps it true.\n\n"
        "One file, YAML or JSON, serves all four processes; `-c FILE`, else `config.yaml` next\n"
        "to the executable. `berth check-config FILE` says whether it is right.\n\n"
        "- Paths resolve against the folder of the file.\n"
        "- Durations are a number and a unit (`500 ms`, `120 s`, `5 min`, `4 h`, `7 d`); a bare\n"
        "  number means seconds.\n"
        "- An environment variable, `BERTH_` and the path of the key with underscores for dots\n"
        "  (`BERTH_SERVE_LICENSES_PORT`), overrides a single value.\n"
        "- `SIGHUP` reloads the file: keys marked \"reload\" take effect. A change of any other\n"
        "  key, or any fault, refuses the whole reload.\n\n"
        "| Key | Type | Default | Range | Reload | Meaning |\n"
        "|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < config_keys_len; i++) {
        const struct config_key *k = &config_keys[i];
        bool fallback = k->fallback && *k->fallback;
        buf_printf(out, "| `%s` | %s | ", k->path, type_name(k->type));
        buf_printf(out, fallback ? "`%s`" : "%s", fallback ? k->fallback : "");
        buf_printf(out, " | %s%s%s | %s | %s |\n", k->min, *k->min ? " … " : "", k->max,
                   k->reloadable ? "reload" : "", k->description);
    }
}

// What stands in the sample for a key that has no default.
static const char *example(const struct config_key *key)
{
    static const char *const examples[][2] = {
        {"serve.licenses.tls.certificate", "tls.pem"},
        {"serve.licenses.tls.key", "tls.key"},
        {"serve.licenses.tls.client_ca", "clients-ca.pem"},
        {"serve.licenses.allowed_origins", "[apps.example.com]"},
        {"serve.admin.client_ca", "admins-ca.pem"},
        {"serve.admin.tls.certificate", "admin.pem"},
        {"serve.admin.tls.key", "admin.key"},
        {"licenses.search_paths", "[., license]"},
        {"trust.vendor_ca", "vendor-ca.pem"},
        {"trust.server_license", "server-license"},
        {"trust.dongle", "{}"},
        {"trust.cloud.proxy", "http://proxy.example.com:3128"},
        {"borrow.directory", "."},
        {"log.file", "berth.log"},
    };
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        if (!strcmp(examples[i][0], key->path))
            return examples[i][1];
    }
    return key->fallback;
}

// The keys without which a server does not start stand there, all others behind a #.
static bool is_active(const char *path)
{
    static const char *const active[] = {"serve.licenses.tls.certificate", "serve.licenses.tls.key",
                                         "trust.vendor_ca", "trust.server_license"};
    for (size_t i = 0; i < sizeof active / sizeof *active; i++) {
        if (!strcmp(active[i], path))
            return true;
    }
    return false;
}

// Writes the headings of the groups in which path lies and the one before did not. Returns the
// depth.
static int write_groups(struct buf *out, const char *before, const char *path)
{
    int depth = 0;
    size_t begin = 0;
    bool same = true;
    for (const char *dot; (dot = strchr(path + begin, '.')); depth++) {
        size_t end = (size_t)(dot - path);
        same = same && !strncmp(before, path, end + 1);
        if (!same) {
            if (!depth)
                buf_add_char(out, '\n');
            buf_printf(out, "%*s%.*s:\n", 2 * depth, "", (int)(end - begin), path + begin);
        }
        begin = end + 1;
    }
    return depth;
}

void config_write_sample(struct buf *out)
{
    buf_add_str(out, "# A configuration with all keys and their defaults; where a key has none,\n"
                     "# an example. Made by: berth check-config --sample\n"
                     "# To change a value, take the \"# \" before its key away.\n");
    const char *before = "";
    for (size_t i = 0; i < config_keys_len; i++) {
        const struct config_key *k = &config_keys[i];
        int depth = write_groups(out, before, k->path);
        buf_printf(out, "%*s# %s", 2 * depth, "", k->description);
        if (*k->min)
            buf_printf(out, " (%s to %s)", k->min, k->max);
        buf_printf(out, "\n%*s%s%s: %s\n", 2 * depth, "", is_active(k->path) ? "" : "# ",
                   strrchr(k->path, '.') + 1, example(k));
        before = k->path;
    }
}
