// Connections: how many, of whom, and how long each may take for what.
#include "common/http_internal.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

// ---- addresses ----

static struct in6_addr address_key(const struct sockaddr *addr)
{
    struct in6_addr key = {0};
    if (addr->sa_family == AF_INET6) {
        memcpy(&key, &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr, sizeof key);
    } else if (addr->sa_family == AF_INET) {
        key.s6_addr[10] = key.s6_addr[11] = 0xff; // mapped, as the same client shows on "::"
        memcpy(&key.s6_addr[12], &((const struct sockaddr_in *)(const void *)addr)->sin_addr, 4);
    }
    return key;
}

static void address_format(const struct in6_addr *key, char out[static INET6_ADDRSTRLEN])
{
    if (IN6_IS_ADDR_V4MAPPED(key))
        inet_ntop(AF_INET, &key->s6_addr[12], out, INET6_ADDRSTRLEN);
    else
        inet_ntop(AF_INET6, key, out, INET6_ADDRSTRLEN);
}

static struct http_peer **peer_find(struct http_server *s, const struct in6_addr *key)
{
    uint32_t words[4];
    memcpy(words, key, sizeof words);
    uint32_t hash = (words[0] * 31 + words[1]) * 31 + words[2] * 31 + words[3];
    hash = hash * 2654435761u >> 22; // the upper 10 bits
    struct http_peer **p = &s->peers[hash % HTTP_PEER_BUCKETS];
    while (*p && memcmp(&(*p)->address, key, sizeof *key))
        p = &(*p)->next;
    return p;
}

static void peer_count(struct http_conn *c, const struct in6_addr *key)
{
    struct http_peer **p = peer_find(c->server, key);
    if (!*p) {
        *p = calloc(1, sizeof **p);
        if (!*p)
            abort();
        (*p)->address = *key;
    }
    (*p)->connections++;
    c->peer = *p;
    c->server->connections++;
}

static void peer_uncount(struct http_conn *c)
{
    if (!c->peer)
        return;
    c->server->connections--;
    if (--c->peer->connections == 0) {
        struct http_peer **p = peer_find(c->server, &c->peer->address);
        struct http_peer *gone = *p;
        *p = gone->next;
        free(gone);
    }
    c->peer = NULL;
}

// ---- limits ----

static bool conn_busy(const struct http_conn *c)
{
    return c->current || c->answering || c->framing.phase == HTTP_PHASE_BODY;
}

// A new connection may be the good one, so that at the limit the one goes that has been silent
// longest: first those that never sent a request, then those kept alive. NULL: all are at work.
static struct http_conn *victim_find(struct http_server *s, const struct http_peer *peer)
{
    struct http_conn *best = NULL;
    for (struct http_conn *c = s->conns; c; c = c->next) {
        if (c->closing || conn_busy(c) || (peer && c->peer != peer))
            continue;
        bool served = c->framing.headers > 0, best_served = best && best->framing.headers > 0;
        if (!best || (!served && best_served) ||
            (served == best_served && c->since.ms <= best->since.ms))
            best = c;
    }
    return best;
}

static bool make_room(struct http_server *s, const struct http_peer *peer, const char *reason,
                      const char *address)
{
    http_server_refused(s, reason, address);
    struct http_conn *victim = victim_find(s, peer);
    if (victim)
        http_conn_close(victim);
    return victim != NULL;
}

enum MHD_Result http_conn_accept(void *cls, const struct sockaddr *addr, socklen_t len)
{
    struct http_server *s = cls;
    const struct http_limits *limits = &s->options.limits;
    struct in6_addr key = address_key(addr);
    char address[INET6_ADDRSTRLEN];
    address_format(&key, address);
    const struct http_peer *peer = *peer_find(s, &key);
    if (peer && peer->connections >= limits->connections_per_address &&
        !make_room(s, peer, "connections-per-address", address))
        return MHD_NO;
    if (s->connections >= limits->connections && !make_room(s, NULL, "connections", address))
        return MHD_NO;
    return MHD_YES;
}

// ---- life ----

void http_conn_close(struct http_conn *c)
{
    if (c->closing)
        return;
    c->closing = true;
    peer_uncount(c);
    shutdown(c->fd, SHUT_RDWR);
    c->server->progress++;
    http_server_kick(c->server);
}

static void conn_started(struct http_server *s, struct MHD_Connection *mhd, void **context)
{
    struct http_conn *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    c->server = s;
    c->mhd = mhd;
    c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    if (s->options.tls)
        c->session =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;
    c->since = loop_now(s->loop);
    c->next = s->conns;
    c->prev = &s->conns;
    if (c->next)
        c->next->prev = &c->next;
    s->conns = c;
    struct in6_addr key = address_key(
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr);
    address_format(&key, c->address);
    peer_count(c, &key);
    http_guard_attach(c);
    if (c->session) {
        c->credentials = http_credentials_ref(s->credentials);
        if (http_tls_begin(c))
            http_conn_close(c);
    }
    *context = c;
}

static void conn_closed(struct http_conn *c)
{
    struct http_server *s = c->server;
    if (c->session && !c->handshaken && !c->closing)
        http_server_refused(s, "tls-handshake", c->address);
    http_guard_detach(c);
    peer_uncount(c);
    *c->prev = c->next;
    if (c->next)
        c->next->prev = c->prev;
    http_credentials_unref(&c->credentials);
    free(c);
}

void http_conn_notify(void *cls, struct MHD_Connection *mhd, void **context,
                      enum MHD_ConnectionNotificationCode code)
{
    struct http_server *s = cls;
    s->progress++;
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        conn_started(s, mhd, context);
    else if (*context)
        conn_closed(*context);
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
