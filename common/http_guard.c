// Every byte of a request passes the framing check before libmicrohttpd sees it. It reads through
// two functions of other libraries, gnutls_record_recv and recv; this program defines both, and the
// dynamic linker binds libmicrohttpd to ours (a test fails where it does not). What is not a
// connection of an http_server goes to the real function.
#include "common/http_internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PLAIN_FDS 65536
#define DISCARD_BYTES (1 << 20)

typedef ssize_t record_recv_fn(gnutls_session_t session, void *data, size_t len);
typedef ssize_t record_send_fn(gnutls_session_t session, const void *data, size_t len);

// Of GnuTLS; looked up before main, while there is one thread.
static record_recv_fn *real_record_recv;
static record_send_fn *real_record_send;
// Plain connections by descriptor: other threads of the process call recv as well.
static _Atomic(struct http_conn *) plain[PLAIN_FDS];

__attribute__((constructor)) static void find_real(void)
{
    // ISO C has no conversion between the two kinds of pointer.
    void *recv_symbol = dlsym(RTLD_NEXT, "gnutls_record_recv");
    void *send_symbol = dlsym(RTLD_NEXT, "gnutls_record_send");
    if (!recv_symbol || !send_symbol)
        abort();
    memcpy(&real_record_recv, &recv_symbol, sizeof recv_symbol);
    memcpy(&real_record_send, &send_symbol, sizeof send_symbol);
}

// libmicrohttpd corks and uncorks the socket around each answer. Ours leave as one record and one
// sendmsg (http_tls.c), with TCP_NODELAY inherited from the listening socket, so that those system
// calls would only cost time, and what is left corked would wait.
static _Thread_local bool in_pass;

void http_guard_pass(bool begins)
{
    in_pass = begins;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    if (in_pass && level == IPPROTO_TCP && (name == TCP_CORK || name == TCP_NODELAY))
        return 0;
    return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

void http_guard_attach(struct http_conn *c)
{
    http_framing_init(&c->framing);
    if (c->session)
        return;
    if (c->fd >= 0 && c->fd < PLAIN_FDS)
        atomic_store(&plain[c->fd], c);
    else
        http_conn_close(c); // it could not be watched
}

void http_guard_detach(struct http_conn *c)
{
    if (!c->session && c->fd >= 0 && c->fd < PLAIN_FDS)
        atomic_store(&plain[c->fd], NULL);
}

static ssize_t raw_recv(int fd, void *data, size_t len, int flags)
{
    return syscall(SYS_recvfrom, fd, data, len, flags, NULL, NULL);
}

static ssize_t conn_recv(struct http_conn *c, void *data, size_t len)
{
    if (!c->session)
        return raw_recv(c->fd, data, len, 0);
    for (;;) {
        ssize_t n = real_record_recv(c->session, data, len);
        // A message that is not data (a key update) ends the call although more may be buffered,
        // and for what is buffered no event will ever come.
        if (n != GNUTLS_E_AGAIN || c->pull_at == c->pull_len)
            return n;
    }
}

static ssize_t conn_again(const struct http_conn *c)
{
    if (c->session)
        return GNUTLS_E_AGAIN;
    errno = EAGAIN;
    return -1;
}

// What a refused client still sends is read and forgotten: closing with unread bytes would reset
// the connection before the client has read why.
static ssize_t conn_discard(struct http_conn *c, void *data, size_t len)
{
    for (size_t total = 0; total < DISCARD_BYTES;) {
        ssize_t n = conn_recv(c, data, len);
        if (n <= 0)
            return n;
        total += (size_t)n;
    }
    http_conn_close(c);
    return conn_again(c);
}

static void track_phase(struct http_conn *c, enum http_phase before, uint64_t requests_before)
{
    struct mono_time now = loop_now(c->server->loop);
    enum http_phase phase = c->framing.phase;
    bool another = c->framing.requests != requests_before;
    if (phase != HTTP_PHASE_IDLE && (before == HTTP_PHASE_IDLE || another))
        c->header_began = now;
    if (phase == HTTP_PHASE_REFUSED) {
        c->refused_at = now;
        c->server->refusals_waiting = true;
        http_server_refused(c->server, http_refusal_name(c->framing.refusal), c->address);
    } else if (another || phase != before) {
        c->since = now;
    }
}

static ssize_t guarded_recv(struct http_conn *c, void *data, size_t len)
{
    if (!c->handshaken) {
        c->handshaken = true;
        if (c->session && !http_tls_verified(c)) {
            http_server_refused(c->server, "client-certificate", c->address);
            http_conn_close(c);
        }
    }
    if (c->closing)
        return 0;
    if (c->framing.phase == HTTP_PHASE_REFUSED)
        return conn_discard(c, data, len);
    ssize_t n = conn_recv(c, data, len);
    if (n <= 0)
        return n;
    c->server->progress++;
    enum http_phase before = c->framing.phase;
    uint64_t requests = c->framing.requests;
    size_t pass = http_framing_feed(&c->framing, &c->server->framing_limits, data, (size_t)n);
    track_phase(c, before, requests);
    return pass ? (ssize_t)pass : conn_again(c);
}

ssize_t gnutls_record_recv(gnutls_session_t session, void *data, size_t len)
{
    struct http_conn *c = gnutls_db_get_ptr(session);
    return c && c->session == session ? guarded_recv(c, data, len)
                                      : real_record_recv(session, data, len);
}

ssize_t recv(int fd, void *data, size_t len, int flags)
{
    struct http_conn *c = fd >= 0 && fd < PLAIN_FDS && !flags ? atomic_load(&plain[fd]) : NULL;
    return c ? guarded_recv(c, data, len) : raw_recv(fd, data, len, flags);
}

// ---- sending ----
// libmicrohttpd sends the header and then the body, two records and two system calls. If a body
// follows, the header waits for it in GnuTLS.

static ssize_t corked_send(struct http_conn *c, const void *data, size_t len)
{
    if (!c->corked) {
        gnutls_record_cork(c->session);
        c->corked = true;
        return real_record_send(c->session, data, len);
    }
    if (!c->uncorking) {
        ssize_t n = real_record_send(c->session, data, len);
        if (n < 0)
            return n;
        c->uncorking = true;
    }
    // A part that does not fit into the socket stays in GnuTLS; the caller tries the same again.
    // It calls gnutls_record_send, which is ours.
    c->flushing = true;
    int n = gnutls_record_uncork(c->session, 0);
    c->flushing = false;
    if (n < 0)
        return n;
    c->corked = c->uncorking = false;
    if (c->current)
        c->current->has_body = false;
    return (ssize_t)len;
}

ssize_t gnutls_record_send(gnutls_session_t session, const void *data, size_t len)
{
    struct http_conn *c = gnutls_db_get_ptr(session);
    if (!c || c->session != session || c->flushing)
        return real_record_send(session, data, len);
    bool cork = c->corked || (c->answering && c->current && c->current->has_body);
    ssize_t n = cork ? corked_send(c, data, len) : real_record_send(session, data, len);
    if (n > 0)
        c->server->progress++;
    return n;
}

// ---- refusing ----

static void write_refusal(struct http_conn *c, const char *text, size_t len)
{
    // libmicrohttpd may have left the socket corked.
    int off = 0;
    setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &off, sizeof off);
    ssize_t n;
    if (c->session) {
        n = real_record_send(c->session, text, len);
        gnutls_bye(c->session, GNUTLS_SHUT_WR);
    } else {
        n = send(c->fd, text, len, MSG_NOSIGNAL);
    }
    (void)n; // a client that does not even take this gets nothing
    shutdown(c->fd, SHUT_WR);
}

static const char *reason_phrase(int status)
{
    return status == 413   ? "Content Too Large"
           : status == 431 ? "Request Header Fields Too Large"
           : status == 505 ? "HTTP Version Not Supported"
                           : "Bad Request";
}

void http_guard_answer_refused(struct http_conn *c)
{
    // Requests before the refused one are answered first.
    if (c->framing.phase != HTTP_PHASE_REFUSED || c->refusal_sent || c->closing ||
        c->answering || c->framing.requests > c->completed)
        return;
    c->refusal_sent = true;
    int status = http_refusal_status(c->framing.refusal);
    char body[128], text[512];
    int body_len = snprintf(body, sizeof body, "%s\n", reason_phrase(status));
    int len = snprintf(text, sizeof text,
                       "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                       "Content-Length: %d\r\nCache-Control: no-store\r\n"
                       "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n%s",
                       status, reason_phrase(status), body_len, body);
    write_refusal(c, text, (size_t)len);
    c->server->progress++;
}
