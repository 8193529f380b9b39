// What libmicrohttpd reads and writes. It reaches a descriptor by recv, send, sendmsg, setsockopt
// and close; this program defines them, and the dynamic linker binds libmicrohttpd to ours (a test
// fails where it does not). For a connection of an http_server they do TLS, every byte of a request
// passes the framing check, and closing gives the connection back to us. All other descriptors, and
// other threads use these functions too, go straight to the kernel.
#include "common/http_internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FDS 65536
#define DISCARD_BYTES (1 << 20)

static _Atomic(struct http_conn *) guarded[FDS]; // by descriptor

// ---- the kernel ----

ssize_t http_raw_recv(int fd, void *data, size_t len, int flags)
{
    return syscall(SYS_recvfrom, fd, data, len, flags, NULL, NULL);
}

ssize_t http_raw_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    return syscall(SYS_sendmsg, fd, msg, flags);
}

// By way of what is loaded before libc: umockdev, for one, keeps account of what is open.
static int raw_close(int fd)
{
    static _Atomic(int (*)(int)) next;
    int (*found)(int) = atomic_load(&next);
    if (!found) {
        void *symbol = dlsym(RTLD_NEXT, "close");
        memcpy(&found, &symbol, sizeof found);
        atomic_store(&next, found);
    }
    return found ? found(fd) : (int)syscall(SYS_close, fd);
}

// ---- which connection ----

bool http_guard_attach(struct http_conn *c)
{
    http_framing_init(&c->framing);
    if (c->fd >= FDS)
        return false;
    atomic_store(&guarded[c->fd], c);
    return true;
}

void http_guard_detach(struct http_conn *c)
{
    if (c->fd < FDS)
        atomic_store(&guarded[c->fd], NULL);
}

struct http_conn *http_guard_find(int fd)
{
    return fd >= 0 && fd < FDS ? atomic_load_explicit(&guarded[fd], memory_order_acquire) : NULL;
}

// ---- reading ----

static ssize_t conn_recv(struct http_conn *c, void *data, size_t len)
{
    return c->session ? http_tls_recv(c, data, len) : http_raw_recv(c->fd, data, len, 0);
}

static ssize_t conn_again(void)
{
    errno = EAGAIN;
    return -1;
}

// What a refused client still sends is read and forgotten: closing with unread bytes would reset
// the connection before the client has read why.
static ssize_t conn_discard(struct http_conn *c)
{
    uint8_t data[4096];
    for (size_t total = 0; total < DISCARD_BYTES;) {
        ssize_t n = conn_recv(c, data, sizeof data);
        if (n <= 0)
            return n;
        total += (size_t)n;
    }
    http_conn_close(c);
    return conn_again();
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
    if (c->closing || c->parking)
        return 0;
    if (c->framing.phase == HTTP_PHASE_REFUSED)
        return conn_discard(c);
    ssize_t n = conn_recv(c, data, len);
    if (n <= 0)
        return n;
    c->server->progress++;
    enum http_phase before = c->framing.phase;
    uint64_t requests = c->framing.requests;
    size_t pass = http_framing_feed(&c->framing, &c->server->framing_limits, data, (size_t)n);
    track_phase(c, before, requests);
    if (c->framing.phase == HTTP_PHASE_REFUSED)
        conn_discard(c);
    return pass ? (ssize_t)pass : conn_again();
}

// ---- writing ----

static ssize_t conn_send(struct http_conn *c, const struct msghdr *msg)
{
    ssize_t n = c->session ? http_tls_send(c, msg->msg_iov, msg->msg_iovlen)
                           : http_raw_sendmsg(c->fd, msg, MSG_NOSIGNAL);
    if (n > 0)
        c->server->progress++;
    return n;
}

// libmicrohttpd sends the header of an empty answer, with a status line and whether the connection
// stays. Ours goes on behind that. Making it an answer of libmicrohttpd's takes as many
// instructions as TLS. head is the same at each call until all has gone.
static ssize_t send_answer(struct http_conn *c, struct http_request *r, const struct iovec *head)
{
    static const char empty[] = "Content-Length: 0\r\n\r\n";
    const size_t empty_len = sizeof empty - 1, end_len = 2;
    const char *end = (const char *)head->iov_base + head->iov_len;
    bool has_length = head->iov_len > empty_len && !memcmp(end - empty_len, empty, empty_len);
    size_t head_len = head->iov_len - (has_length ? empty_len : end_len);
    struct iovec iov[2] = {{head->iov_base, head_len}, {r->answer.data, r->answer.len}};
    size_t skip = r->sent < head_len ? r->sent : head_len;
    iov[0].iov_base = (char *)iov[0].iov_base + skip;
    iov[0].iov_len -= skip;
    iov[1].iov_base = r->answer.data + (r->sent - skip);
    iov[1].iov_len -= r->sent - skip;
    ssize_t n = conn_send(c, &(struct msghdr){.msg_iov = iov, .msg_iovlen = 2});
    if (n < 0)
        return n;
    r->sent += (size_t)n;
    return r->sent == head_len + r->answer.len ? (ssize_t)head->iov_len : conn_again();
}

static ssize_t guarded_send(struct http_conn *c, const struct msghdr *msg)
{
    return c->answering && msg->msg_iovlen == 1 ? send_answer(c, c->current, msg->msg_iov)
                                                : conn_send(c, msg);
}

// ---- what the dynamic linker finds ----

ssize_t recv(int fd, void *data, size_t len, int flags)
{
    struct http_conn *c = http_guard_find(fd);
    return c ? guarded_recv(c, data, len) : http_raw_recv(fd, data, len, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    struct http_conn *c = http_guard_find(fd);
    return c ? guarded_send(c, msg) : http_raw_sendmsg(fd, msg, flags);
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
    struct iovec iov = {(void *)(uintptr_t)data, len};
    struct http_conn *c = http_guard_find(fd);
    return c ? guarded_send(c, &(struct msghdr){.msg_iov = &iov, .msg_iovlen = 1})
             : syscall(SYS_sendto, fd, data, len, flags, NULL, 0);
}

int close(int fd)
{
    struct http_conn *c = http_guard_find(fd);
    if (!c)
        return raw_close(fd);
    http_conn_released(c);
    return 0;
}

// libmicrohttpd corks and uncorks the socket around each answer. Ours leave by one sendmsg, with
// TCP_NODELAY inherited from the listening socket, so that those system calls would only cost time,
// and what is left corked would wait.
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

// ---- refusing ----

static void write_refusal(struct http_conn *c, char *text, size_t len)
{
    struct iovec iov = {text, len};
    conn_send(c, &(struct msghdr){.msg_iov = &iov, .msg_iovlen = 1});
    if (c->session)
        http_tls_bye(c);
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
    if (c->framing.phase != HTTP_PHASE_REFUSED || c->refusal_sent || c->closing || c->answering ||
        c->framing.requests > c->completed)
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
