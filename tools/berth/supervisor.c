#include "tools/berth/supervisor.h"

#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "tools/berth/child.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000
#define LIFE_GOOD_MS 30000 // who lived this long starts again with the shortest wait
#define STOP_DEADLINE_MS 6000
#define PRIVATE_DIR_MAX 80 // with the names in it, it must fit a socket's path

// Those before GATEWAY start at once. GATEWAY starts when they are ready, so that what clients meet
// is a server with its licenses loaded.
enum { TRUST, POOL, BORROW, GATEWAY, CHILDREN };

struct supervisor {
    const struct config *config;
    struct loop *loop;
    char dir[PRIVATE_DIR_MAX + 1]; // mode 0700: sockets of this instance
    struct child children[CHILDREN];
    struct loop_timer stop_timer;
    bool ready_once; // all of them
    bool stopping;
    bool others_told; // gateway has gone, the others were told to stop
    int exit_code;
};

// ---- the private directory ----

static int make_private_dir(struct supervisor *s)
{
    const char *const places[] = {getenv("XDG_RUNTIME_DIR"), "/run", "/tmp"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *place = places[i];
        if (!place || *place != '/' || access(place, W_OK | X_OK))
            continue;
        int n = snprintf(s->dir, sizeof s->dir, "%s/berth-XXXXXX", place);
        if (n > 0 && (size_t)n < sizeof s->dir && mkdtemp(s->dir))
            return 0;
    }
    s->dir[0] = '\0';
    return errno ? -errno : -ENOENT;
}

static void remove_private_dir(const struct supervisor *s)
{
    DIR *dir = *s->dir ? opendir(s->dir) : NULL;
    if (!dir)
        return;
    const struct dirent *entry;
    while ((entry = readdir(dir)))
        unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    rmdir(s->dir);
}

// How the processes reach each other, unless the configuration says so.
static void set_rpc_environment(const struct supervisor *s)
{
    const struct config *c = s->config;
    const struct {
        const char *variable, *name;
        bool written;
    } all[] = {{"BERTH_RPC_TRUST", "trust", c->rpc.trust_written},
               {"BERTH_RPC_POOL", "pool", c->rpc.pool_written},
               {"BERTH_RPC_BORROW", "borrow", c->rpc.borrow_written}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char url[PRIVATE_DIR_MAX + 32];
        snprintf(url, sizeof url, "ipc://%s/%s", s->dir, all[i].name);
        if (!all[i].written)
            setenv(all[i].variable, url, 1);
    }
}

// ---- stop ----

static bool any_runs(const struct supervisor *s)
{
    for (int i = 0; i < CHILDREN; i++) {
        if (s->children[i].pid)
            return true;
    }
    return false;
}

static void signal_all(const struct supervisor *s, int signo)
{
    for (int i = 0; i < CHILDREN; i++)
        child_signal(&s->children[i], signo);
}

// The next step of stopping: gateway first, since it still needs the others for what is in flight.
static void go_on_stopping(struct supervisor *s)
{
    if (s->children[GATEWAY].pid)
        return;
    if (!s->others_told) {
        s->others_told = true;
        signal_all(s, SIGTERM);
    }
    if (!any_runs(s))
        loop_stop(s->loop);
}

static void begin_stop(struct supervisor *s)
{
    if (s->stopping)
        return;
    s->stopping = true;
    daemon_notify("STOPPING", "1");
    for (int i = 0; i < CHILDREN; i++)
        loop_timer_cancel(s->loop, &s->children[i].restart);
    loop_timer_arm(s->loop, &s->stop_timer, mono_after(clock_mono(), STOP_DEADLINE_MS));
    child_signal(&s->children[GATEWAY], SIGTERM);
    go_on_stopping(s);
}

static void on_stop_deadline(void *ctx)
{
    struct supervisor *s = ctx;
    log_warn("server.stop_late", LOG_S("msg", "not all processes stopped in time; killing them"));
    signal_all(s, SIGKILL);
}

static void refuse_start(struct supervisor *s, const char *name, const char *reason)
{
    log_error("server.start_failed", LOG_S("child", name), LOG_S("msg", reason));
    fprintf(stderr, "berth: berth-%s: %s\n", name, reason);
    daemon_notify("STATUS", reason);
    s->exit_code = 1;
    begin_stop(s);
}

// ---- children ----

static void start_child(struct supervisor *s, struct child *c)
{
    // A socket that a killed process left behind.
    char path[PRIVATE_DIR_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", s->dir, c->name);
    unlink(path);
    int r = child_start(c, s->config->file);
    if (!r)
        return;
    if (!s->ready_once) {
        refuse_start(s, c->name, strerror(-r));
        return;
    }
    log_error("process.start_failed", LOG_S("child", c->name), LOG_S("msg", strerror(-r)));
    loop_timer_arm(s->loop, &c->restart, mono_after(clock_mono(), BACKOFF_MAX_MS));
}

static void on_restart(void *ctx)
{
    struct child *c = ctx;
    start_child(c->ctx, c);
}

static void announce(const struct supervisor *s)
{
    const char *host = s->config->serve.licenses.host;
    bool v6 = strchr(host, ':') && *host != '[';
    char text[400];
    snprintf(text, sizeof text, "berth is ready: https://%s%s%s:%u", v6 ? "[" : "", host,
             v6 ? "]" : "", s->config->serve.licenses.port);
    log_info("server.ready", LOG_S("msg", text));
    if (s->config->log.file)
        puts(text), fflush(stdout);
    daemon_notify("READY", "1");
    daemon_notify("STATUS", text);
}

// What follows when a process is ready for the first time.
static void go_on_starting(struct supervisor *s)
{
    int ready = 0;
    for (int i = 0; i < CHILDREN; i++)
        ready += s->children[i].ready_once;
    struct child *gateway = &s->children[GATEWAY];
    if (s->stopping || s->ready_once)
        return;
    if (ready == CHILDREN) {
        s->ready_once = true;
        announce(s);
    } else if (ready == GATEWAY && !gateway->ready_once && !gateway->pid) {
        start_child(s, gateway);
    }
}

static void listen_to(struct child *c)
{
    if (!child_listen(c))
        return;
    c->ready_once = true;
    go_on_starting(c->ctx);
}

static void on_notify(void *ctx, uint32_t events)
{
    (void)events;
    listen_to(ctx);
}

static void describe_end(int status, char *out, size_t size)
{
    if (WIFSIGNALED(status))
        snprintf(out, size, "ended by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(out, size, "ended with exit code %d", WEXITSTATUS(status));
}

static void restart_later(struct supervisor *s, struct child *c, int status, const char *how)
{
    bool refused = WIFEXITED(status) && WEXITSTATUS(status) == DAEMON_EXIT_CONFIG;
    int64_t lived = clock_mono().ms - c->started.ms;
    if (lived >= LIFE_GOOD_MS || !c->backoff_ms)
        c->backoff_ms = BACKOFF_MIN_MS;
    if (refused)
        c->backoff_ms = BACKOFF_MAX_MS; // it will not mend itself soon
    log_error("process.died", LOG_S("child", c->name), LOG_S("how", how),
              LOG_I("restart_in_ms", c->backoff_ms), LOG_S("msg", c->status));
    loop_timer_arm(s->loop, &c->restart, mono_after(clock_mono(), c->backoff_ms));
    c->backoff_ms = 2 * c->backoff_ms < BACKOFF_MAX_MS ? 2 * c->backoff_ms : BACKOFF_MAX_MS;
}

static void child_ended(struct supervisor *s, struct child *c, int status)
{
    char how[100];
    // What it said last; and the others, of which one may have become ready before this one died.
    for (int i = 0; i < CHILDREN; i++)
        listen_to(&s->children[i]);
    c->pid = 0;
    describe_end(status, how, sizeof how);
    if (s->stopping)
        go_on_stopping(s);
    else if (!s->ready_once)
        refuse_start(s, c->name, *c->status ? c->status : how);
    else
        restart_later(s, c, status, how);
}

static void on_child(void *ctx)
{
    struct supervisor *s = ctx;
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (int i = 0; i < CHILDREN; i++) {
            if (s->children[i].pid == pid)
                child_ended(s, &s->children[i], status);
        }
    }
}

// ---- life ----

static void on_stop(void *ctx)
{
    struct supervisor *s = ctx;
    if (!s->stopping)
        log_info("server.stopping");
    begin_stop(s);
}

static void on_reload(void *ctx)
{
    struct supervisor *s = ctx;
    if (log_reopen())
        log_warn("log.reopen_failed", LOG_S("msg", "cannot open the log file again"));
    signal_all(s, SIGHUP);
}

static int prepare(struct supervisor *s, const char *folder)
{
    static const char *const names[CHILDREN] = {"trust", "pool", "borrow", "gateway"};
    int r = make_private_dir(s);
    if (!r)
        r = loop_new(&s->loop);
    if (r)
        return r;
    loop_timer_init(&s->stop_timer, on_stop_deadline, s);
    const struct {
        int signo;
        void (*fn)(void *ctx);
    } signals[] = {{SIGTERM, on_stop}, {SIGINT, on_stop}, {SIGHUP, on_reload}, {SIGCHLD, on_child}};
    for (size_t i = 0; i < sizeof signals / sizeof *signals && !r; i++)
        r = loop_signal(s->loop, signals[i].signo, signals[i].fn, s);
    for (int i = 0; i < CHILDREN && !r; i++) {
        struct child *c = &s->children[i];
        c->name = names[i];
        c->ctx = s;
        snprintf(c->program, sizeof c->program, "%s/berth-%s", folder, c->name);
        loop_timer_init(&c->restart, on_restart, c);
        r = child_open(c, s->loop, s->dir, on_notify, c);
    }
    return r;
}

int supervisor_run(const struct supervisor_options *options)
{
    struct supervisor *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    s->config = options->config;
    int r = prepare(s, options->folder);
    if (!r) {
        set_rpc_environment(s);
        for (int i = 0; i < GATEWAY && !s->stopping; i++)
            start_child(s, &s->children[i]);
        r = loop_run(s->loop);
        loop_timer_cancel(s->loop, &s->stop_timer);
    }
    if (r) {
        fprintf(stderr, "berth: cannot start: %s\n", strerror(-r));
        s->exit_code = 1;
    }
    for (int i = 0; i < CHILDREN && s->loop; i++)
        child_close(&s->children[i], s->loop);
    remove_private_dir(s);
    loop_free(&s->loop);
    int code = s->exit_code;
    log_info("server.stopped", LOG_I("code", code));
    free(s);
    return code;
}
