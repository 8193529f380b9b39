// The configuration: what is read, what is refused and with which words, defaults, environment,
// reload, and that the generated sample means the same as no file at all.
#include "common/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define REQUIRED                                                                                   \
    "serve: {licenses: {tls: {certificate: c.pem, key: k.pem}}}\n"                                 \
    "trust: {vendor_ca: ca.pem, server_license: sl}\n"

static struct config *config;
static struct error err;

static int parse(const char *text)
{
    config_free(&config);
    err.text[0] = '\0';
    return config_parse(&config, "c.yaml", "/etc/b", text, strlen(text), &err);
}

static void accept(const char *text)
{
    if (parse(text))
        fail_msg("%s", err.text);
}

static void refuse(const char *text, const char *message)
{
    if (!parse(text))
        fail_msg("accepted: %s", text);
    if (!strstr(err.text, message))
        fail_msg("'%s' is not in: %s", message, err.text);
    assert_null(config);
}

static int end(void **state)
{
    (void)state;
    config_free(&config);
    return 0;
}

static void defaults(void **state)
{
    (void)state;
    accept(REQUIRED);
    assert_string_equal(config->serve.licenses.host, "0.0.0.0");
    assert_int_equal(config->serve.licenses.port, 22022);
    assert_string_equal(config->serve.licenses.tls.certificate, "/etc/b/c.pem");
    assert_null(config->serve.licenses.tls.client_ca);
    assert_true(config->serve.admin.enabled);
    assert_string_equal(config->serve.admin.host, "127.0.0.1");
    assert_int_equal(config->serve.admin.port, 22023);
    assert_string_equal(config->serve.admin.token_file, "/etc/b/admin.token");
    assert_int_equal(config->sessions.revalidation_interval_ms, 120000);
    assert_string_equal(config->sessions.state_dir, "/etc/b/state");
    assert_int_equal(config->limits.connections_per_address, 256);
    assert_string_equal(config->trust.server_license, "/etc/b/sl");
    assert_false(config->trust.dongle);
    assert_int_equal(config->trust.cloud.grace_ms, 4 * 3600000);
    assert_int_equal(config->trust.cloud.check_interval_ms, 300000);
    assert_string_equal(config->borrow.directory, ".");
    assert_int_equal(config->borrow.max_period_ms, 7 * INT64_C(86400000));
    assert_int_equal(config->borrow.max_ahead_ms, 42 * INT64_C(86400000));
    assert_string_equal(config->rpc.pool, "ipc:///run/berth/pool");
    assert_false(config->rpc.pool_written);
    assert_string_equal(config->ops.borrow, "127.0.0.1:22026");
    assert_int_equal(config->log.level, LOG_INFO);
    assert_int_equal(config->licenses.search_paths.len, 2); // the executable's folder and license/
}

static void values(void **state)
{
    (void)state;
    accept(REQUIRED
           "licenses: {search_paths: [., sub, /abs]}\n"
           "sessions: {revalidation_interval: 90, max_per_client: 7}\n"
           "limits: {calls_per_second: 20}\n"
           "borrow: {directory: b, open: true, max_period: 36 h, max_ahead: 90min}\n"
           "rpc: {pool: 'tcp://10.0.0.1:7000'}\n"
           "log: {level: warn, format: json, file: /var/log/b}\n");
    assert_int_equal(config->licenses.search_paths.len, 3);
    assert_string_equal(config->licenses.search_paths.items[0], "/etc/b");
    assert_string_equal(config->licenses.search_paths.items[1], "/etc/b/sub");
    assert_string_equal(config->licenses.search_paths.items[2], "/abs");
    assert_int_equal(config->sessions.revalidation_interval_ms, 90000);
    assert_int_equal(config->limits.burst, 20);
    assert_string_equal(config->borrow.directory, "/etc/b/b");
    assert_true(config->borrow.open);
    assert_int_equal(config->borrow.max_period_ms, 36 * 3600000);
    assert_int_equal(config->borrow.max_ahead_ms, 90 * 60000);
    assert_true(config->rpc.pool_written);
    assert_int_equal(config->log.level, LOG_WARN);
    assert_int_equal(config->log.format, LOG_JSON);
    accept("{\"serve\": {\"licenses\": {\"port\": 1, \"tls\": {\"certificate\": \"c\", \"key\":"
           " \"k\"}}},\n \"trust\": {\"vendor_ca\": \"v\", \"dongle\": {}},"
           " \"sessions\": {\"revalidation_interval\": \"500 s\"}}");
    assert_int_equal(config->serve.licenses.port, 1);
    assert_true(config->trust.dongle);
    assert_int_equal(config->sessions.revalidation_interval_ms, 500000);
}

static void refusals(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"sessions: {revalidation_intervall: 5}",
         "c.yaml:3: sessions.revalidation_intervall: no such key (did you mean "
         "sessions.revalidation_interval?)"},
        {"foo: 1", "c.yaml:3: foo: no such key; allowed here: serve, licenses, sessions, limits, "
                   "trust, borrow, rpc, ops, log"},
        {"\"serve.licenses\": {port: 1}", "c.yaml:3: serve.licenses: no such key"},
        {"log: {level: info}\nlog: {level: warn}", "c.yaml:4: log: stands twice"},
        {"log:\n  level: info\n  level: info", "c.yaml:5: log.level: stands twice"},
        {"ops: {pool: x}", "c.yaml:3: ops.pool: 'x' is not address:port"},
        {"ops: {pool: 'x:70000'}", "ops.pool"},
        {"rpc: {pool: 'http://x:1'}", "c.yaml:3: rpc.pool: 'http://x:1' is none of ipc:///path"},
        {"limits: {burst: '5'}", "c.yaml:3: limits.burst: must be a number, without quotes"},
        {"limits: {burst: -1}", "'-1' is not a whole number (0 to 1000000)"},
        {"limits: {burst: 1000001}", "is out of range (0 to 1000000)"},
        {"limits: {burst: 99999999999999999999}", "limits.burst"},
        {"limits: {burst: [1]}", "limits.burst: must be a single value"},
        {"limits: {burst: }", "limits.burst: must be a single value"},
        {"limits: 5", "limits: must be a group of keys"},
        {"log: {file: 5}", "log.file: must be a text"},
        {"log: {file: ''}", "log.file: must not be empty"},
        {"log: {level: trace}", "'trace' is not debug, info, warn or error"},
        {"log: {format: xml}", "'xml' is neither text nor json"},
        {"borrow: {open: 1}", "'1' is neither true nor false"},
        {"borrow: {max_period: 8 d}", "borrow.max_period: '8 d' is out of range (1 s to 7 d)"},
        {"borrow: {max_ahead: 43 d}", "borrow.max_ahead: '43 d' is out of range (1 s to 42 d)"},
        {"sessions: {revalidation_interval: 999 ms}", "is out of range (1 s to 24 h)"},
        {"sessions: {revalidation_interval: 25 h}", "is out of range (1 s to 24 h)"},
        {"sessions: {revalidation_interval: 2 weeks}", "is not a duration such as"},
        {"sessions: {revalidation_interval: -5 s}", "is not a duration such as"},
        {"licenses: {search_paths: x}", "licenses.search_paths: must be a list"},
        {"licenses: {search_paths: [{a: b}]}", "each item must be a text"},
        {"licenses: {search_paths: [~]}", "each item must be a text"},
        {"log: &a {level: info}", "c.yaml:3: anchors"},
        {"log: *a", "c.yaml:3: anchors"},
        {"log: {level: !!str info}", "tags (!) are not supported"},
        {"log: {level: info", "c.yaml:4: not YAML"},
        {"--- {}", "c.yaml:3: more than one document"},
        {"? [a]\n: b", "a key must be a text"},
        {"sessions: {state_dir: \"a\\0b\"}", "sessions.state_dir: must not hold a NUL"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        snprintf(text, sizeof text, REQUIRED "%s\n", cases[i].text);
        refuse(text, cases[i].message);
    }
}

static void whole(void **state)
{
    (void)state;
    refuse("", "c.yaml: serve.licenses.tls.certificate: is missing");
    refuse("", "c.yaml: serve.licenses.tls.key: is missing");
    refuse("", "trust: exactly one of server_license (Cloud-Ready) and dongle (On-Premises)");
    refuse("trust: {server_license: a,\n  dongle: {}}", "c.yaml:2: trust: exactly one of");
    refuse("trust: {dongle: {port: 1}}", "takes no keys");
    refuse("trust: {dongle: yes}", "trust.dongle: must be written as {}");
    refuse("serve: {admin: {tls: {key: k}}}", "serve.admin.tls: needs both");
    refuse("- a", "the file must be a group of keys");
    refuse("\xff", "not YAML");
    // All faults at once, but not without end.
    struct buf many = {0};
    for (int i = 0; i < 30; i++)
        buf_printf(&many, "k%d: 1\n", i);
    refuse(many.data, "rpc, ops, log\nc.yaml: and 14 more");
    // Depth.
    buf_clear(&many);
    for (int i = 0; i < 5000; i++)
        buf_add_char(&many, '[');
    assert_int_not_equal(parse(many.data), 0);
    buf_fini(&many);
}

static void environment(void **state)
{
    (void)state;
    setenv("BERTH_SERVE_LICENSES_PORT", "5", 1);
    setenv("BERTH_LOG_LEVEL", "error", 1);
    setenv("BERTH_SESSIONS_STATE_DIR", "/s", 1);
    setenv("BERTH_SOMETHING_ELSE", "5", 1);
    setenv("BERTH_RPC_POOL", "ipc:///x/pool", 1);
    setenv("BERTH_SERVE_ADMIN_OFF", "1", 1);
    accept(REQUIRED "log: {level: info}\n");
    assert_int_equal(config->serve.licenses.port, 5);
    assert_int_equal(config->log.level, LOG_ERROR);
    assert_string_equal(config->sessions.state_dir, "/s");
    assert_string_equal(config->rpc.pool, "ipc:///x/pool");
    assert_true(config->rpc.pool_written);
    assert_false(config->serve.admin.enabled);
    setenv("BERTH_SERVE_LICENSES_PORT", "x", 1);
    refuse(REQUIRED, "BERTH_SERVE_LICENSES_PORT: serve.licenses.port: 'x' is not a whole number");
    static const char *const names[] = {"BERTH_SERVE_LICENSES_PORT", "BERTH_LOG_LEVEL",
                                        "BERTH_SESSIONS_STATE_DIR",  "BERTH_SOMETHING_ELSE",
                                        "BERTH_RPC_POOL",            "BERTH_SERVE_ADMIN_OFF"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
}

static const char *blocker_after(const char *more)
{
    struct config *before = NULL;
    static char name[100];
    accept(REQUIRED);
    before = config;
    config = NULL;
    BUF_CLEANUP struct buf text = {0};
    buf_printf(&text, REQUIRED "%s\n", more);
    accept(text.data);
    const char *blocker = config_reload_blocker(before, config);
    config_free(&before);
    snprintf(name, sizeof name, "%s", blocker ? blocker : "");
    return name;
}

static void reload(void **state)
{
    (void)state;
    assert_string_equal(blocker_after(""), "");
    assert_string_equal(blocker_after("log: {level: debug}"), "");
    assert_string_equal(blocker_after("sessions: {revalidation_interval: 5}"), "");
    assert_string_equal(blocker_after("sessions: {state_dir: other}"), "sessions.state_dir");
    assert_string_equal(blocker_after("licenses: {search_paths: [x]}"), "licenses.search_paths");
    assert_string_equal(blocker_after("ops: {pool: '127.0.0.1:1'}"), "ops.pool");
    assert_string_equal(blocker_after("rpc: {pool: 'tcp://127.0.0.1:1'}"), "rpc.pool");
    assert_string_equal(blocker_after("log: {file: x}"), "log.file");
}

// Every key of the sample, its comment sign taken away, is a value that the parser takes; those of
// the other kind of protection excepted.
static void sample(void **state)
{
    (void)state;
    BUF_CLEANUP struct buf text = {0};
    BUF_CLEANUP struct buf all = {0};
    config_write_sample(&text);
    accept(text.data);
    const char *rest = text.data;
    while (*rest) {
        size_t len = strcspn(rest, "\n");
        size_t blanks = strspn(rest, " ");
        const char *colon = memchr(rest, ':', len);
        const char *name = rest + blanks + 2;
        bool key = !strncmp(rest + blanks, "# ", 2) && colon && colon > name &&
                   strspn(name, "abcdefghijklmnopqrstuvwxyz_") == (size_t)(colon - name) &&
                   colon[1] == ' ' && strncmp(name, "dongle", 6) != 0 &&
                   strncmp(name, "default", 7) != 0 && blanks;
        buf_add(&all, rest, blanks);
        buf_add(&all, rest + blanks + (key ? 2 : 0), len - blanks - (key ? 2 : 0));
        buf_add_char(&all, '\n');
        rest += len + (rest[len] == '\n');
    }
    accept(all.data);
    assert_string_equal(config->trust.cloud.proxy, "http://proxy.example.com:3128");
    assert_int_equal(config->serve.licenses.allowed_origins.len, 1);
}

static void files(void **state)
{
    (void)state;
    char dir[] = "/tmp/berth-config-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char path[64];
    config_free(&config);
    assert_true(config_load(&config, dir, &err) < 0);
    assert_non_null(strstr(err.text, "not a file"));
    snprintf(path, sizeof path, "%s/c.yaml", dir);
    assert_true(config_load(&config, path, &err) < 0);
    assert_non_null(strstr(err.text, "No such file"));
    FILE *f = fopen(path, "w");
    fputs(REQUIRED, f);
    fclose(f);
    assert_int_equal(config_load(&config, path, &err), 0);
    char expected[80];
    snprintf(expected, sizeof expected, "%s/state", dir);
    assert_string_equal(config->sessions.state_dir, expected);
    config_free(&config);
    f = fopen(path, "a");
    for (int i = 0; i < 1024 * 16; i++)
        fputs("# 345678901234567890123456789012345678901234567890123456789012345\n", f);
    fclose(f);
    assert_true(config_load(&config, path, &err) < 0);
    assert_non_null(strstr(err.text, "larger than 1 MiB"));
    remove(path);
    remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),    cmocka_unit_test(values), cmocka_unit_test(refusals),
        cmocka_unit_test(whole),       cmocka_unit_test(environment),
        cmocka_unit_test(reload),      cmocka_unit_test(sample), cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
