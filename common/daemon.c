#include "common/daemon.h"

#include "common/clock.h"
#include "common/core/buf.h"
#include "common/harden.h"
#include "common/log.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define STOP_DEADLINE_MS 5000
#define READY_POLL_MS 200
#define USAGE_EXIT 2

// One service per process; the functions that are told only the loop find it here.
static struct daemon {
    const struct daemon_def *def;
    const char *config_path;
    struct config *config;
    struct loop *loop;
    void *service;
    struct loop_timer ready_timer, stop_timer;
    struct loop_hook ready_hook;
    bool ready, stopping;
    int exit_code;
} daemon_state;

// ---- telling the supervisor ----

void daemon_notify(const char *variable, const char *value)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof address.sun_path)
        return;
    size_t len = strlen(path);
    memcpy(address.sun_path, path, len);
    if (*path == '@')
        address.sun_path[0] = '\0';
    BUF_CLEANUP struct buf text = {0};
    buf_printf(&text, "%s=%s", variable, value);
    // A line feed would begin another variable.
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '\n')
            text.data[i] = ' ';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    // If nobody listens, there is nobody to tell.
    (void)sendto(fd, text.data, text.len, MSG_NOSIGNAL, (struct sockaddr *)&address, size);
    close(fd);
}

// ---- arguments ----

struct arguments {
    const char *config_path;
    bool health, alive;
};

static void print_usage(FILE *out, const struct daemon_def *def)
{
    fprintf(out,
            "%s: %s\n\n"
            "usage: %s [-c FILE]\n"
            "       %s [-c FILE] health [alive]\n\n"
            "  -c FILE       configuration file; default: config.yaml next to the executable\n"
            "  health        ask the running process whether it is ready; exit 0 if so, else 1\n"
            "  health alive  ask only whether it answers\n"
            "  -h, --help    this text\n"
            "  --version     the version\n",
            def->name, def->summary, def->name, def->name);
}

// 0: go on; else 1 + the exit code.
static int read_arguments(int argc, char **argv, const struct daemon_def *def,
                          struct arguments *out)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help")) {
            print_usage(stdout, def);
            return 1;
        }
        if (!strcmp(argv[i], "--version")) {
            printf("%s %s\n", def->name, BERTH_VERSION);
            return 1;
        }
        if (!strcmp(argv[i], "-c") && i + 1 < argc && !out->config_path) {
            out->config_path = argv[++i];
        } else if (!strcmp(argv[i], "health") && !out->health) {
            out->health = true;
        } else if (!strcmp(argv[i], "alive") && out->health && !out->alive) {
            out->alive = true;
        } else {
            fprintf(stderr, "%s: '%s' is not understood here\n", def->name, argv[i]);
            print_usage(stderr, def);
            return 1 + USAGE_EXIT;
        }
    }
    return 0;
}

static int run_health(const struct daemon_def *def, const struct arguments *arguments)
{
    struct error err = {{0}};
    struct config *config = NULL;
    if (config_load(&config, arguments->config_path, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return DAEMON_EXIT_FAULT;
    }
    int code = def->health ? def->health(config, arguments->alive) : DAEMON_EXIT_FAULT;
    config_free(&config);
    return code;
}

// ---- stop ----

static void stop_late(void *ctx)
{
    struct daemon *d = ctx;
    log_warn("process.stop_late", LOG_S("msg", "did not finish in time; stopping anyway"));
    loop_stop(d->loop);
}

static void on_stop(void *ctx)
{
    struct daemon *d = ctx;
    if (d->stopping)
        return;
    d->stopping = true;
    log_info("process.stopping");
    daemon_notify("STOPPING", "1");
    loop_timer_cancel(d->loop, &d->ready_timer);
    if (!d->def->stop) {
        loop_stop(d->loop);
        return;
    }
    loop_timer_arm(d->loop, &d->stop_timer, mono_after(clock_mono(), STOP_DEADLINE_MS));
    d->def->stop(d->service);
}

void daemon_stopped(struct loop *loop)
{
    loop_stop(loop);
}

void daemon_fail(struct loop *loop, int exit_code, const char *reason)
{
    if (!daemon_state.exit_code) {
        daemon_state.exit_code = exit_code;
        log_error("process.failed", LOG_I("code", exit_code), LOG_S("msg", reason));
        daemon_notify("STATUS", reason);
    }
    loop_stop(loop);
}

// ---- reload ----

// 0: the new configuration is in force. Else nothing changed, and err says why.
static int reload(struct daemon *d, struct error *err)
{
    struct config *config = NULL;
    int r = config_load(&config, d->config_path, err);
    if (r)
        return r;
    const char *blocker = config_reload_blocker(d->config, config);
    if (blocker) {
        error_set(err, "%s: %s cannot be changed without a restart", config->file, blocker);
        r = -EINVAL;
    }
    if (!r && d->def->reload)
        r = d->def->reload(d->service, config, err);
    // The file is the same: this fails only if it became unwritable, and then the old log goes on.
    if (!r && (config->log.level != d->config->log.level ||
               config->log.format != d->config->log.format))
        (void)log_init(d->def->name, config->log.level, config->log.format, config->log.file);
    if (r) {
        config_free(&config);
        return r;
    }
    config_free(&d->config);
    d->config = config;
    return 0;
}

static void on_reload(void *ctx)
{
    struct daemon *d = ctx;
    struct error err = {{0}};
    if (d->stopping)
        return;
    if (log_reopen())
        log_warn("log.reopen_failed", LOG_S("msg", "cannot open the log file again"));
    if (reload(d, &err))
        log_error("config.refused", LOG_S("msg", err.text));
    else
        log_info("config.reloaded", LOG_S("file", d->config->file));
}

// ---- readiness ----

// At the end of each turn: whoever sees the service ready by its own answer shall not find a
// supervisor that does not know it yet.
static bool check_ready(void *ctx)
{
    struct daemon *d = ctx;
    if (d->ready || d->stopping || (d->def->ready && !d->def->ready(d->service)))
        return false;
    d->ready = true;
    log_info("process.ready");
    daemon_notify("READY", "1");
    loop_timer_cancel(d->loop, &d->ready_timer);
    return false;
}

// Makes a turn: readiness may come with time alone.
static void look_again(void *ctx)
{
    struct daemon *d = ctx;
    if (!d->ready)
        loop_timer_arm(d->loop, &d->ready_timer, mono_after(loop_now(d->loop), READY_POLL_MS));
}

// ---- life ----

static void ignore(void *ctx)
{
    (void)ctx;
}

// The supervisor stops its children in order, so that Ctrl-C at a terminal, which reaches all of
// them, is its business alone. Returns whether to go on.
static bool follow_supervisor(void)
{
    const char *pid = getenv("BERTH_SUPERVISED");
    if (!pid)
        return true;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    return getppid() == (pid_t)atol(pid); // else it died before the line above
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        log_warn("process.file_limit", LOG_S("msg", strerror(errno)));
}

static int refuse(const char *name, int code, const char *text)
{
    fprintf(stderr, "%s: %s\n", name, text);
    daemon_notify("STATUS", text);
    return code;
}

static int watch_signals(struct daemon *d)
{
    bool supervised = getenv("BERTH_SUPERVISED");
    int r = loop_signal(d->loop, SIGTERM, on_stop, d);
    if (!r)
        r = loop_signal(d->loop, SIGINT, supervised ? ignore : on_stop, d);
    if (!r)
        r = loop_signal(d->loop, SIGHUP, on_reload, d);
    return r;
}

static int run_service(struct daemon *d)
{
    struct error err = {{0}};
    loop_timer_init(&d->ready_timer, look_again, d);
    loop_timer_init(&d->stop_timer, stop_late, d);
    int code = 0;
    if (d->config->rpc.keys && d->def->load_keys &&
        d->def->load_keys(d->config->rpc.keys, d->def->name + strlen("berth-"), &err))
        code = DAEMON_EXIT_CONFIG;
    if (!code)
        code = d->def->start(d->loop, d->config, &d->service, &err);
    if (code) {
        log_error("process.start_failed", LOG_I("code", code), LOG_S("msg", err.text));
        return refuse(d->def->name, code, err.text);
    }
    if (!harden_system_calls())
        log_info("process.not-confined",
                 LOG_S("msg", "this kernel does not filter system calls; all else is as always"));
    loop_timer_arm(d->loop, &d->ready_timer, clock_mono());
    loop_hook_add(d->loop, LOOP_TURN, &d->ready_hook, check_ready, d);
    int r = loop_run(d->loop);
    if (r && !d->exit_code)
        daemon_fail(d->loop, DAEMON_EXIT_FAULT, strerror(-r));
    loop_hook_del(d->loop, LOOP_TURN, &d->ready_hook);
    loop_timer_cancel(d->loop, &d->ready_timer);
    loop_timer_cancel(d->loop, &d->stop_timer);
    if (d->def->free)
        d->def->free(d->service);
    log_info("process.stopped", LOG_I("code", d->exit_code));
    return d->exit_code;
}

int daemon_main(int argc, char **argv, const struct daemon_def *def)
{
    struct daemon *d = &daemon_state;
    struct error err = {{0}};
    struct arguments arguments = {0};
    int code = read_arguments(argc, argv, def, &arguments);
    if (code)
        return code - 1;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); // a limit of the file size is a full disk: write says so
    signal(SIGXFSZ, SIG_IGN); // a limit on files is an error of a write, not a reason to die
    if (arguments.health)
        return run_health(def, &arguments);
    if (!follow_supervisor())
        return DAEMON_EXIT_FAULT;
    umask(077);
    harden_begin(def->holds_keys);
    *d = (struct daemon){.def = def, .config_path = arguments.config_path};
    if (config_load(&d->config, d->config_path, &err))
        return refuse(def->name, DAEMON_EXIT_CONFIG, err.text);
    const struct config *c = d->config;
    int r = log_init(def->name, c->log.level, c->log.format, c->log.file);
    if (r) {
        error_set(&err, "log.file: %s: %s", c->log.file, strerror(-r));
        code = refuse(def->name, DAEMON_EXIT_CONFIG, err.text);
    } else if ((r = loop_new(&d->loop)) || (r = watch_signals(d))) {
        code = refuse(def->name, DAEMON_EXIT_FAULT, strerror(-r));
    } else {
        log_info("process.start", LOG_S("version", BERTH_VERSION), LOG_S("config", c->file));
        raise_file_limit();
        code = run_service(d);
    }
    loop_free(&d->loop);
    config_free(&d->config);
    return code;
}
