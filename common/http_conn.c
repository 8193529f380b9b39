// Connections: their life, and how long each may take for what. At any time one is in one of three
// hands: the handshake's or nobody's (watched by our loop), or libmicrohttpd's (watched by it).
#include "common/http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

// ---- to and from libmicrohttpd ----

// It watches the socket from here on, reads at once what is there already, and may close. The
// connection is not to be touched after this.
static void conn_serve(struct http_conn *c)
{
    static const struct sockaddr_in nowhere = {.sin_family = AF_INET}; // it need not know
    struct http_server *s = c->server;
    loop_fd_del(s->loop, &c->watch);
    http_guard_pass(true);
    MHD_add_connection(s->daemon, c->fd, (const struct sockaddr *)&nowhere, sizeof nowhere);
    http_guard_pass(false);
    http_server_kick(s);
}

void http_conn_notify(void *cls, struct MHD_Connection *mhd, void **context,
                      enum MHD_ConnectionNotificationCode code)
{
    struct http_server *s = cls;
    s->progress++;
    if (code != MHD_CONNECTION_NOTIFY_STARTED)
        return; // close() follows
    struct http_conn *c = http_guard_find(
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
    c->mhd = mhd;
    *context = c;
}

static bool conn_watch(struct http_conn *c);

void http_conn_released(struct http_conn *c)
{
    bool parked = c->parking && !c->closing && !c->server->stopping;
    c->mhd = NULL;
    c->parking = false;
    if (!parked || !conn_watch(c))
        http_conn_free(c);
}

// To libmicrohttpd a connection that is parked looks like one that its client has closed: recv says
// so. Suspended and resumed, it has to look.
static void conn_park(struct http_conn *c)
{
    c->parking = true;
    MHD_suspend_connection(c->mhd);
    MHD_resume_connection(c->mhd);
    http_server_kick(c->server);
}

static bool conn_is_silent(const struct http_conn *c)
{
    return c->mhd && !c->current && !c->answering && c->framing.phase == HTTP_PHASE_IDLE &&
           c->framing.requests == c->completed && !http_tls_has_rest(c);
}

// ---- life ----

static void conn_shake_hands(struct http_conn *c)
{
    bool out = c->watch_out;
    int r = http_tls_handshake(c);
    if (r == -EAGAIN) {
        if (c->watch_out != out)
            loop_fd_mod(c->server->loop, &c->watch, c->watch_out ? EPOLLOUT : EPOLLIN);
        return;
    }
    if (r) {
        http_conn_free(c);
        return;
    }
    c->handshaken = true;
    // A resumed session brings the certificate in its ticket, and GnuTLS does not verify it again:
    // the CA may have changed meanwhile.
    if (!http_credentials_verify(c->credentials, c->session)) {
        http_server_refused(c->server, "client-certificate", c->address);
        http_conn_free(c);
    } else if (http_tls_has_rest(c)) {
        conn_serve(c);
    } else if (c->watch_out) {
        c->watch_out = false;
        loop_fd_mod(c->server->loop, &c->watch, EPOLLIN);
    }
}

static void on_watch(void *ctx, uint32_t events)
{
    struct http_conn *c = ctx;
    if (c->closing)
        http_conn_free(c);
    else if (c->handshaken)
        conn_serve(c);
    else
        conn_shake_hands(c);
}

static bool conn_watch(struct http_conn *c)
{
    return loop_fd_add(c->server->loop, &c->watch, c->fd, EPOLLIN, on_watch, c) == 0;
}

void http_conn_new(struct http_server *s, int fd, const struct in6_addr *address)
{
    struct http_conn *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    c->server = s;
    c->fd = fd;
    c->since = loop_now(s->loop);
    c->next = s->conns;
    c->prev = &s->conns;
    if (c->next)
        c->next->prev = &c->next;
    s->conns = c;
    http_peer_format(address, c->address);
    http_peer_count(c, address);
    c->handshaken = !s->options.tls;
    if (!http_guard_attach(c) || (s->options.tls && http_tls_begin(c)) || !conn_watch(c))
        http_conn_free(c);
}

void http_conn_free(struct http_conn *c)
{
    struct http_server *s = c->server;
    loop_fd_del(s->loop, &c->watch);
    if (!c->handshaken && !c->closing)
        http_server_refused(s, "tls-handshake", c->address);
    else if (c->session && !c->closing && !c->refusal_sent)
        http_tls_bye(c);
    http_tls_end(c);
    http_peer_uncount(c);
    *c->prev = c->next;
    if (c->next)
        c->next->prev = c->prev;
    http_guard_detach(c);
    close(c->fd);
    free(c);
}

void http_conn_close(struct http_conn *c)
{
    if (c->closing)
        return;
    c->closing = true;
    http_peer_uncount(c);
    shutdown(c->fd, SHUT_RDWR);
    c->server->progress++;
    http_server_kick(c->server);
}

// ---- deadlines ----

static bool past(struct http_conn *c, struct mono_time from, int64_t ms)
{
    return loop_now(c->server->loop).ms - from.ms >= ms;
}

static void conn_expire(struct http_conn *c, const char *reason)
{
    if (reason)
        http_server_refused(c->server, reason, c->address);
    http_conn_close(c);
}

static void conn_check_input(struct http_conn *c)
{
    const struct http_limits *limits = &c->server->options.limits;
    switch (c->framing.phase) {
    case HTTP_PHASE_IDLE:
        if (!c->handshaken && c->session) {
            if (past(c, c->since, limits->header_deadline_ms))
                conn_expire(c, "handshake-timeout");
        } else if (!c->framing.headers) {
            if (past(c, c->since, limits->header_deadline_ms))
                conn_expire(c, "header-timeout");
        } else if (past(c, c->since, limits->idle_ms)) {
            conn_expire(c, NULL);
        } else if (past(c, c->since, HTTP_PARK_MS) && conn_is_silent(c) && !c->parking) {
            conn_park(c);
        }
        break;
    case HTTP_PHASE_HEADER:
        if (past(c, c->header_began, limits->header_deadline_ms))
            conn_expire(c, "header-timeout");
        break;
    case HTTP_PHASE_BODY:
        if (past(c, c->header_began, limits->request_deadline_ms))
            conn_expire(c, "body-timeout");
        break;
    case HTTP_PHASE_REFUSED:
        if (c->refusal_sent && past(c, c->refused_at, HTTP_LINGER_MS))
            conn_expire(c, NULL);
        break;
    }
}

static void conn_check(struct http_conn *c)
{
    if (c->closing)
        return;
    struct http_request *r = c->current;
    if (c->answering) {
        if (past(c, c->answer_began, c->server->options.limits.request_deadline_ms))
            conn_expire(c, "slow-reader");
    } else if (r && r->dispatched) {
        if (past(c, r->received, HTTP_ANSWER_MS))
            http_request_give_up(r);
    } else {
        conn_check_input(c);
    }
}

void http_conn_sweep(struct http_server *s)
{
    struct http_conn *next;
    for (struct http_conn *c = s->conns; c; c = next) {
        next = c->next;
        conn_check(c);
    }
}

void http_conn_refuse_waiting(struct http_server *s)
{
    s->refusals_waiting = false;
    for (struct http_conn *c = s->conns; c; c = c->next) {
        if (c->framing.phase != HTTP_PHASE_REFUSED || c->refusal_sent || c->closing)
            continue;
        http_guard_answer_refused(c);
        if (!c->refusal_sent)
            s->refusals_waiting = true;
    }
}
