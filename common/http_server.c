// The server's life, and the passes over libmicrohttpd. It runs without threads of its own: its
// epoll descriptor is in our loop, and MHD_run is one pass over what is ready.
#include "common/http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define PASSES_PER_TURN 64
#define DRAIN_SWEEP_MS 50
// Connections that are being closed still count for libmicrohttpd.
#define CLOSING_SLACK 256

void http_server_refused(struct http_server *s, const char *reason, const char *address)
{
    if (s->options.refused)
        s->options.refused(s->options.ctx, reason, address);
}

// ---- passes ----

void http_server_kick(struct http_server *s)
{
    s->run = true;
    // From an idle hook there may be no further turn; a timer that is due makes one, without a
    // system call.
    if (!s->in_pass && !s->kick.heap_index)
        loop_timer_arm(s->loop, &s->kick, loop_now(s->loop));
}

static void on_kick(void *ctx)
{
    struct http_server *s = ctx;
    s->run = true;
}

static void on_epoll(void *ctx, uint32_t events)
{
    struct http_server *s = ctx;
    s->run = true;
}

static void drain_check(struct http_server *s)
{
    for (struct http_conn *c = s->conns; c; c = c->next) {
        if (!c->current && !c->answering && c->framing.phase == HTTP_PHASE_IDLE)
            http_conn_close(c);
    }
    if (s->conns && loop_now(s->loop).ms < s->drain_deadline.ms)
        return;
    s->drained = true;
    s->drain_done(s->drain_ctx);
}

// Work can be left without any event to come: an answer takes up to three passes, and a buffer of
// GnuTLS or of ours may hold more than one pass reads. So passes repeat while the last one moved
// anything; what then waits, waits for the socket or for a handler.
static void run_passes(struct http_server *s)
{
    for (int i = 0; s->run && i < PASSES_PER_TURN; i++) {
        uint64_t before = s->progress;
        http_guard_pass(true);
        MHD_run(s->daemon);
        http_guard_pass(false);
        if (s->refusals_waiting)
            http_conn_refuse_waiting(s);
        s->run = s->progress != before;
    }
}

static bool on_turn(void *ctx)
{
    struct http_server *s = ctx;
    if (s->run) {
        loop_timer_cancel(s->loop, &s->kick);
        s->in_pass = true;
        run_passes(s);
        s->in_pass = false;
    }
    bool more = s->run;
    if (s->draining && !s->drained)
        drain_check(s); // last: done may free the server
    return more;
}

// ---- deadlines ----

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void sweep_arm(struct http_server *s)
{
    const struct http_limits *l = &s->options.limits;
    int64_t ms = least(least(l->header_deadline_ms, l->request_deadline_ms), l->idle_ms) / 4;
    ms = ms < 10 ? 10 : least(ms, 1000);
    if (s->draining)
        ms = least(ms, DRAIN_SWEEP_MS);
    loop_timer_arm(s->loop, &s->sweep, mono_after(loop_now(s->loop), ms));
}

static void on_sweep(void *ctx)
{
    struct http_server *s = ctx;
    http_conn_sweep(s);
    sweep_arm(s);
}

// ---- life ----

static struct MHD_Daemon *daemon_start(struct http_server *s)
{
    // The Date is ours (http_request.c). TURBO: it reads at once from a connection that it is
    // given. Nothing is ever left suspended; that it may be is what http_conn.c needs to make it
    // look at a connection.
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_TURBO | MHD_USE_NO_LISTEN_SOCKET |
                                MHD_ALLOW_SUSPEND_RESUME | MHD_USE_SUPPRESS_DATE_NO_CLOCK,
                            0, NULL, NULL, http_request_access, s, MHD_OPTION_CONNECTION_LIMIT,
                            s->options.limits.connections + CLOSING_SLACK,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_POOL_BYTES,
                            MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_STRICT_FOR_CLIENT, 1,
                            MHD_OPTION_NOTIFY_COMPLETED, http_request_completed, s,
                            MHD_OPTION_NOTIFY_CONNECTION, http_conn_notify, s, MHD_OPTION_END);
}

static struct MHD_Response *empty_response(bool last)
{
    static char nothing[1];
    struct MHD_Response *r = MHD_create_response_from_buffer(0, nothing, MHD_RESPMEM_PERSISTENT);
    if (!r || (last && MHD_add_response_header(r, "Connection", "close") != MHD_YES))
        abort();
    return r;
}

static int server_start(struct http_server *s, struct error *err)
{
    s->daemon = daemon_start(s);
    s->empty = empty_response(false);
    s->empty_last = empty_response(true);
    if (!s->daemon)
        return error_set(err, "cannot start the HTTP server"), -EIO;
    int epoll_fd = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    int r = loop_fd_add(s->loop, &s->epoll, epoll_fd, EPOLLIN, on_epoll, s);
    if (r)
        return error_set(err, "cannot watch the HTTP server: %s", strerror(-r)), r;
    loop_hook_add(s->loop, LOOP_TURN, &s->turn, on_turn, s);
    sweep_arm(s);
    return http_listen_start(s, err);
}

int http_server_new(struct http_server **out, struct loop *loop,
                    const struct http_server_options *options, struct error *err)
{
    struct http_server *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    s->loop = loop;
    s->options = *options;
    s->framing_limits = (struct http_framing_limits){
        .header_bytes = HTTP_HEADER_BYTES,
        .fields = HTTP_FIELDS,
        .header_cost = HTTP_HEADER_COST_BYTES,
        .field_cost = HTTP_FIELD_COST_BYTES,
        .body_bytes = options->limits.max_body_bytes,
    };
    loop_timer_init(&s->kick, on_kick, s);
    loop_timer_init(&s->sweep, on_sweep, s);
    int r = options->tls ? http_tls_setup(s, err) : 0;
    if (!r)
        r = server_start(s, err);
    if (r)
        http_server_free(&s);
    *out = s;
    return r;
}

void http_server_free(struct http_server **server)
{
    struct http_server *s = *server;
    if (!s)
        return;
    s->stopping = true;
    http_listen_stop(s);
    loop_fd_del(s->loop, &s->epoll);
    loop_hook_del(s->loop, LOOP_TURN, &s->turn);
    if (s->daemon)
        MHD_stop_daemon(s->daemon); // gives back what it has; requests that wait become dead ones
    while (s->conns)
        http_conn_free(s->conns);
    if (s->empty) {
        MHD_destroy_response(s->empty);
        MHD_destroy_response(s->empty_last);
    }
    loop_timer_cancel(s->loop, &s->kick);
    loop_timer_cancel(s->loop, &s->sweep);
    http_request_free_spare(s);
    http_tls_teardown(s);
    free(s);
    *server = NULL;
}

uint16_t http_server_port(const struct http_server *s)
{
    return s->port;
}

void http_server_limit_address(struct http_server *s, unsigned connections)
{
    s->options.limits.connections_per_address = connections;
}

int http_server_reload_tls(struct http_server *s, const struct http_tls *tls, struct error *err)
{
    struct http_credentials *fresh = NULL;
    int r = http_credentials_new(&fresh, tls, err);
    if (r)
        return r;
    http_credentials_unref(&s->credentials);
    s->credentials = fresh;
    return 0;
}

struct wall_time http_server_certificate_until(const struct http_server *s)
{
    return s->credentials ? s->credentials->until : WALL_MAX;
}

bool http_server_names_host(const struct http_server *s, const char *host, size_t len)
{
    return s->credentials && http_credentials_name(s->credentials, host, len);
}

unsigned http_server_connections(const struct http_server *s)
{
    return s->connections;
}

unsigned http_server_idle_connections(const struct http_server *s)
{
    unsigned n = 0;
    for (const struct http_conn *c = s->conns; c; c = c->next)
        n += c->handshaken && !c->mhd && !c->closing;
    return n;
}

void http_server_drain(struct http_server *s, struct mono_time deadline, void (*done)(void *ctx),
                       void *ctx)
{
    if (s->draining)
        return;
    s->draining = true;
    s->drain_deadline = deadline;
    s->drain_done = done;
    s->drain_ctx = ctx;
    http_listen_stop(s);
    sweep_arm(s);
    http_server_kick(s);
}
