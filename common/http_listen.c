// The listening socket, and whom it lets in: how many connections there may be, and of one address.
#include "common/http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BIND_WAIT_MS 2000
#define BIND_RETRY_MS 10
#define BACKLOG 4096
#define ACCEPTS_PER_TURN 64
#define PAUSE_MS 100 // without descriptors; the kernel keeps who waits

// ---- addresses ----

static struct in6_addr address_key(const struct sockaddr_storage *addr)
{
    struct in6_addr key = {0};
    if (addr->ss_family == AF_INET6) {
        memcpy(&key, &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr, sizeof key);
    } else if (addr->ss_family == AF_INET) {
        key.s6_addr[10] = key.s6_addr[11] = 0xff; // mapped, as the same client shows on "::"
        memcpy(&key.s6_addr[12], &((const struct sockaddr_in *)(const void *)addr)->sin_addr, 4);
    }
    return key;
}

void http_peer_format(const struct in6_addr *key, char out[static INET6_ADDRSTRLEN])
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

void http_peer_count(struct http_conn *c, const struct in6_addr *key)
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

void http_peer_uncount(struct http_conn *c)
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

static bool admit(struct http_server *s, const struct in6_addr *key)
{
    const struct http_limits *limits = &s->options.limits;
    const struct http_peer *peer = *peer_find(s, key);
    char address[INET6_ADDRSTRLEN];
    http_peer_format(key, address);
    if (peer && peer->connections >= limits->connections_per_address &&
        !make_room(s, peer, "connections-per-address", address))
        return false;
    return s->connections < limits->connections || make_room(s, NULL, "connections", address);
}

// ---- accepting ----

static void on_listener(void *ctx, uint32_t events)
{
    struct http_server *s = ctx;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_storage addr;
        socklen_t len = sizeof addr;
        int fd =
            accept4(s->listener.fd, (struct sockaddr *)&addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == ECONNABORTED || errno == EINTR))
            continue;
        if (fd < 0) {
            if (errno == EAGAIN)
                return;
            // Nothing is left to accept with: asking again at once would be asking for ever.
            http_server_refused(s, "descriptors", "");
            loop_fd_mod(s->loop, &s->listener, 0);
            loop_timer_arm(s->loop, &s->listen_again, mono_after(loop_now(s->loop), PAUSE_MS));
            return;
        }
        struct in6_addr key = address_key(&addr);
        if (admit(s, &key))
            http_conn_new(s, fd, &key);
        else
            close(fd);
    }
}

static void on_listen_again(void *ctx)
{
    struct http_server *s = ctx;
    loop_fd_mod(s->loop, &s->listener, EPOLLIN);
}

// A predecessor that is about to end may still have the address: it is waited for.
static int bind_and_listen(int fd, const struct addrinfo *a)
{
    for (int waited_ms = 0;; waited_ms += BIND_RETRY_MS) {
        if (!bind(fd, a->ai_addr, a->ai_addrlen) && !listen(fd, BACKLOG))
            return 0;
        if (errno != EADDRINUSE || waited_ms >= BIND_WAIT_MS)
            return -errno;
        poll(NULL, 0, BIND_RETRY_MS);
    }
}

static int listen_on(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int on = 1, off = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    // Inherited by the accepted ones: without it a TLS 1.2 handshake takes 40 ms longer.
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (a->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    int r = bind_and_listen(fd, a);
    if (r) {
        close(fd);
        return r;
    }
    return fd;
}

static int server_listen(const struct http_server_options *o, struct error *err)
{
    char port[8];
    snprintf(port, sizeof port, "%u", o->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int r = getaddrinfo(o->host && *o->host ? o->host : NULL, port, &hints, &list);
    if (r)
        return error_set(err, "cannot resolve %s: %s", o->host, gai_strerror(r)), -EADDRNOTAVAIL;
    int fd = -EADDRNOTAVAIL;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
        fd = listen_on(a);
    freeaddrinfo(list);
    if (fd < 0)
        error_set(err, "cannot listen at %s port %u: %s", o->host, o->port, strerror(-fd));
    return fd;
}

static uint16_t socket_port(int fd)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    if (getsockname(fd, (struct sockaddr *)&addr, &len))
        return 0;
    if (addr.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&addr)->sin6_port);
    return ntohs(((struct sockaddr_in *)&addr)->sin_port);
}

int http_listen_start(struct http_server *s, struct error *err)
{
    loop_timer_init(&s->listen_again, on_listen_again, s);
    int fd = server_listen(&s->options, err);
    if (fd < 0)
        return fd;
    s->port = socket_port(fd);
    int r = loop_fd_add(s->loop, &s->listener, fd, EPOLLIN, on_listener, s);
    if (r) {
        close(fd);
        return error_set(err, "cannot watch port %u: %s", s->port, strerror(-r)), r;
    }
    return 0;
}

void http_listen_stop(struct http_server *s)
{
    loop_timer_cancel(s->loop, &s->listen_again);
    if (!s->listener.fn)
        return;
    int fd = s->listener.fd;
    loop_fd_del(s->loop, &s->listener);
    close(fd);
}
