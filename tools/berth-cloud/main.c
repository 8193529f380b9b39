// berth-cloud: the reference backend of the Cloud-Ready variant, and the vendor's commands for it.
#include "common/clock.h"
#include "common/core/text.h"
#include "common/log.h"
#include "common/ops.h"
#include "tools/berth-cloud/protocol.h"
#include "tools/berth-cloud/serve.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define EXIT_REFUSED 1
#define EXIT_USAGE 2
#define SILENCE_S 600
#define NEXT_CHECK_S 60

static const char usage_text[] =
    "usage: berth-cloud serve --dir KEYS/cloud --listen HOST:PORT --state FILE\n"
    "       berth-cloud list --state FILE\n"
    "       berth-cloud health --ops HOST:PORT\n"
    "       berth-cloud revoke|restore|forget-ledger ID --state FILE\n"
    "       berth-cloud revoke-key|restore-key KEYID --state FILE\n"
    "\n"
    "The validation backend for servers with a Cloud-Ready license.\n"
    "  serve          answers servers; the folder is the one that berth-vendor init made\n"
    "  health         asks a running backend whether it is ready; exit 0 if so, else 1\n"
    "  list           the servers known, who holds what, and what is revoked\n"
    "  revoke ID      the server with this ID gets no license any more\n"
    "  restore ID     takes that back\n"
    "  forget-ledger ID  accepts whatever borrow ledger this server presents next\n"
    "  revoke-key, restore-key KEYID  a license key (16 hex digits) that servers must not trust\n"
    "\n"
    "  --dir DIR      cloud.pem, cloud.key and vendor-ca.pem\n"
    "  --listen HOST:PORT\n"
    "  --state FILE   what the backend remembers (SQLite)\n"
    "  --ops HOST:PORT  plain HTTP: /health/alive, /health/ready, /metrics (default: none)\n"
    "  --next-check SECONDS  when servers are told to ask again (1 to 3600, default 60)\n"
    "  --silence SECONDS  after this time without a word, another host may take a server\n"
    "                 license (default 600; lower it only for tests)\n"
    "  --log-level LEVEL  debug, info (default), warn, error\n"
    "  -h, --help     this text\n"
    "  --version      the version\n";

struct arguments {
    struct serve_options serve;
    enum log_level log_level;
    const char *command, *id;
};

static int parse_seconds(const char *text, uint64_t max, int64_t *out)
{
    uint64_t n = 0;
    if (parse_u64(text, strlen(text), 1, max, &n) < 0)
        return fprintf(stderr, "berth-cloud: \"%s\" is not 1 to %llu seconds\n", text,
                       (unsigned long long)max),
               -1;
    *out = (int64_t)n;
    return 0;
}

static int parse_level(const char *text, enum log_level *out)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(names[i], text) == 0)
            return *out = (enum log_level)i, 0;
    }
    return fprintf(stderr, "berth-cloud: \"%s\" is no log level\n", text), -1;
}

// -1: go on; else the exit code.
static int parse_options(struct arguments *a, int argc, char **argv)
{
    enum { DIR_OPT = 256, LISTEN, STATE, OPS, SILENCE, NEXT_CHECK, LEVEL, VERSION };
    static const struct option options[] = {
        {"dir", 1, NULL, DIR_OPT},         {"listen", 1, NULL, LISTEN},
        {"ops", 1, NULL, OPS},
        {"state", 1, NULL, STATE},         {"silence", 1, NULL, SILENCE},
        {"next-check", 1, NULL, NEXT_CHECK}, {"log-level", 1, NULL, LEVEL},
        {"help", 0, NULL, 'h'},            {"version", 0, NULL, VERSION},
        {NULL, 0, NULL, 0},
    };
    int o, bad = 0;
    int64_t seconds = NEXT_CHECK_S;
    while (bad == 0 && (o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (o) {
        case DIR_OPT: a->serve.dir = optarg; break;
        case LISTEN: a->serve.listen = optarg; break;
        case STATE: a->serve.state = optarg; break;
        case OPS: a->serve.ops = optarg; break;
        case SILENCE: bad = parse_seconds(optarg, SILENCE_S, &a->serve.silence_s); break;
        case NEXT_CHECK: bad = parse_seconds(optarg, 3600, &seconds); break;
        case LEVEL: bad = parse_level(optarg, &a->log_level); break;
        case 'h': return fputs(usage_text, stdout), 0;
        case VERSION: return printf("berth-cloud %s\n", BERTH_VERSION), 0;
        default: bad = 1; break;
        }
    }
    // A holder must be able to speak within the silence that would cost it the license.
    if (seconds > a->serve.silence_s / 2)
        seconds = a->serve.silence_s / 2 > 0 ? a->serve.silence_s / 2 : 1;
    a->serve.next_check_s = (unsigned)seconds;
    return bad != 0 ? EXIT_USAGE : -1;
}

static void print_server(void *ctx, const struct store_server *s)
{
    const struct lease_policy *policy = ctx;
    char seen[32] = "never", ledger[128] = "-";
    int64_t now = clock_wall().s;
    const char *status = store_status_name(store_status(s, now, policy));
    if (s->lease.last_seen_s > 0)
        wall_format((struct wall_time){s->lease.last_seen_s}, seen);
    if (s->head.present)
        snprintf(ledger, sizeof ledger, "%lld %s", (long long)s->head.sequence, s->head.hash);
    printf("%-32s %-8s %-20s %s\n", s->id, status, seen, ledger);
}

static int run_list(struct store *store, int64_t silence_s, struct error *err)
{
    static char keys[REVOKED_KEYS_MAX][17];
    struct lease_policy policy = {.silence_s = silence_s};
    printf("%-32s %-8s %-20s %s\n", "SERVER", "STATUS", "LAST SEEN", "LEDGER");
    int r = store_each(store, print_server, &policy, err);
    int n = r < 0 ? r : store_revoked_keys(store, keys, err);
    for (int i = 0; i < n; i++)
        printf("license key %s is revoked\n", keys[i]);
    return n < 0 ? n : 0;
}

static int forget_ledger(struct store *store, const char *id, struct error *err)
{
    struct store_server server;
    int r = store_read(store, id, &server, err);
    if (r < 0 || !server.head.present)
        return r < 0 ? r : 1;
    server.head = (struct ledger_head){0};
    return store_write(store, &server, err);
}

static int change(struct store *store, const struct arguments *a, struct error *err)
{
    const char *id = a->id;
    if (strcmp(a->command, "revoke") == 0)
        return store_revoke(store, id, true, clock_wall().s, err);
    if (strcmp(a->command, "restore") == 0)
        return store_revoke(store, id, false, 0, err);
    if (strcmp(a->command, "revoke-key") == 0)
        return store_revoke_key(store, id, true, err);
    if (strcmp(a->command, "restore-key") == 0)
        return store_revoke_key(store, id, false, err);
    return forget_ledger(store, id, err);
}

static int run_change(struct store *store, const struct arguments *a, struct error *err)
{
    int r = store_begin(store, err);
    if (r < 0)
        return r;
    r = change(store, a, err);
    int committed = r < 0 ? r : store_commit(store, err);
    if (committed < 0)
        return store_rollback(store), committed;
    printf(r == 0 ? "%s %s: done\n" : "%s %s: nothing to change\n", a->command, a->id);
    return 0;
}

static int run_command(const struct arguments *a)
{
    struct error err = {""};
    struct store *store = NULL;
    bool list = strcmp(a->command, "list") == 0;
    int r = store_open(&store, a->serve.state, !list, &err);
    if (r == 0)
        r = list ? run_list(store, a->serve.silence_s, &err) : run_change(store, a, &err);
    store_close(&store);
    if (r < 0)
        fprintf(stderr, "berth-cloud: %s\n", err.text);
    return r < 0 ? EXIT_REFUSED : 0;
}

static int usage_error(const char *what)
{
    fprintf(stderr, "berth-cloud: %s (berth-cloud -h shows how)\n", what);
    return EXIT_USAGE;
}

static int dispatch(const struct arguments *a)
{
    const char *c = a->command;
    if (strcmp(c, "health") == 0)
        return a->id != NULL || a->serve.ops == NULL ? usage_error("health needs --ops, no more")
                                                     : ops_health_check(a->serve.ops, false);
    if (a->serve.state == NULL)
        return usage_error("--state FILE is needed");
    if (strcmp(c, "serve") == 0) {
        if (a->id != NULL || a->serve.dir == NULL || a->serve.listen == NULL)
            return usage_error("serve needs --dir and --listen, and nothing more");
        log_init("berth-cloud", a->log_level, LOG_TEXT, NULL);
        return serve_run(&a->serve);
    }
    if (strcmp(c, "list") == 0)
        return a->id == NULL ? run_command(a) : usage_error("list takes no ID");
    bool key = strcmp(c, "revoke-key") == 0 || strcmp(c, "restore-key") == 0;
    if (!key && strcmp(c, "revoke") != 0 && strcmp(c, "restore") != 0 &&
        strcmp(c, "forget-ledger") != 0)
        return usage_error("this is no command");
    if (a->id == NULL || !cloud_server_id_valid(a->id))
        return usage_error("the ID is missing, or is none");
    if (key && (strlen(a->id) != 16 || strspn(a->id, "0123456789abcdef") != 16))
        return usage_error("a key ID is 16 hex digits");
    return run_command(a);
}

int main(int argc, char **argv)
{
    struct arguments a = {.serve = {.silence_s = SILENCE_S}, .log_level = LOG_INFO};
    int code = parse_options(&a, argc, argv);
    if (code >= 0)
        return code;
    if (optind >= argc || argc - optind > 2)
        return usage_error("a command is needed, and one ID at most");
    a.command = argv[optind];
    a.id = optind + 1 < argc ? argv[optind + 1] : NULL;
    umask(077);
    return dispatch(&a);
}
