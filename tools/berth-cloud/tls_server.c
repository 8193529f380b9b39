#include "tools/berth-cloud/tls_server.h"

#include "common/clock.h"
#include "common/core/buf.h"
#include "tools/berth-cloud/http_head.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_BYTES_MAX 8192
#define ACCEPTS_A_TURN 64

enum phase { PHASE_HANDSHAKE, PHASE_READ, PHASE_HANDLER, PHASE_WRITE };

struct tls_request {
    struct tls_server *server;
    struct tls_request *next, **prev;
    struct loop_fd fd;
    struct loop_timer deadline;
    SSL *ssl;
    enum phase phase;
    struct buf in, out;
    size_t head_len, written;
    struct http_head head;
    struct mono_time started;
    uint8_t *cert;
    size_t cert_len;
    char address[INET6_ADDRSTRLEN];
};

struct tls_server {
    struct loop *loop;
    struct tls_options options;
    SSL_CTX *context;
    struct loop_fd listener;
    bool accepting;
    struct tls_request *first;
    unsigned connections;
};

// ---- TLS ----

static int ssl_fault(struct error *err, const char *what)
{
    char text[160];
    unsigned long code = ERR_get_error();
    if (ERR_SYSTEM_ERROR(code))
        snprintf(text, sizeof text, "%s", strerror(ERR_GET_REASON(code)));
    else
        ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    error_set(err, "%s: %s", what, text);
    return -EINVAL;
}

// The handler verifies: here the client only has to prove that it has the key.
static int accept_any(int ok, X509_STORE_CTX *store)
{
    return 1;
}

static int context_load(SSL_CTX *c, const struct tls_options *o, struct error *err)
{
    SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
    SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                               SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER, accept_any);
    if (SSL_CTX_use_certificate_chain_file(c, o->certificate_file) != 1)
        return ssl_fault(err, o->certificate_file);
    if (SSL_CTX_use_PrivateKey_file(c, o->key_file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(c) != 1)
        return ssl_fault(err, o->key_file);
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(o->client_ca_file);
    if (names == NULL)
        return ssl_fault(err, o->client_ca_file);
    SSL_CTX_set_client_CA_list(c, names);
    return 0;
}

int tls_server_reload(struct tls_server *s, struct error *err)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL)
        return ssl_fault(err, "TLS");
    int r = context_load(context, &s->options, err);
    if (r < 0)
        return SSL_CTX_free(context), r;
    SSL_CTX_free(s->context);
    s->context = context;
    return 0;
}

// ---- a connection ----

static void request_free(struct tls_request *r)
{
    struct tls_server *s = r->server;
    int fd = r->fd.fd;
    loop_timer_cancel(s->loop, &r->deadline);
    loop_fd_del(s->loop, &r->fd);
    SSL_free(r->ssl);
    close(fd);
    *r->prev = r->next;
    if (r->next != NULL)
        r->next->prev = r->prev;
    s->connections--;
    OPENSSL_free(r->cert);
    buf_fini(&r->in);
    buf_fini(&r->out);
    free(r);
}

static void request_refuse(struct tls_request *r, const char *reason)
{
    r->server->options.refused(r->server->options.ctx, reason, r->address);
    request_free(r);
}

// False: the connection is broken (or closed by the peer).
static bool wait_for(struct tls_request *r, int result)
{
    int code = SSL_get_error(r->ssl, result);
    ERR_clear_error();
    if (code != SSL_ERROR_WANT_READ && code != SSL_ERROR_WANT_WRITE)
        return false;
    return loop_fd_mod(r->server->loop, &r->fd,
                       code == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT) == 0;
}

static void step_write(struct tls_request *r)
{
    while (r->written < r->out.len) {
        ERR_clear_error();
        int n = SSL_write(r->ssl, r->out.data + r->written, (int)(r->out.len - r->written));
        if (n <= 0) {
            if (!wait_for(r, n))
                request_free(r);
            return;
        }
        r->written += (size_t)n;
    }
    SSL_shutdown(r->ssl);
    ERR_clear_error();
    request_free(r);
}

static void answer_refusal(struct tls_request *r, int status)
{
    static const char body[] = "{\"error\":\"the request is not as it must be\"}";
    r->server->options.refused(r->server->options.ctx, status == 413 ? "too-large" : "bad-http",
                               r->address);
    r->phase = PHASE_HANDLER;
    tls_respond(r, status, "application/json", body, sizeof body - 1);
}

// True: the request is complete, or answered.
static bool request_parse(struct tls_request *r)
{
    if (r->head_len == 0) {
        const char *end = memmem(r->in.data, r->in.len, "\r\n\r\n", 4);
        if (end == NULL && r->in.len > HEAD_BYTES_MAX)
            return answer_refusal(r, 431), true;
        if (end == NULL)
            return false;
        r->head_len = (size_t)(end - r->in.data) + 4;
        int status = http_head_parse(&r->head, r->in.data, r->head_len,
                                     r->server->options.max_body_bytes);
        if (status != 0)
            return answer_refusal(r, status), true;
    }
    if (r->in.len < r->head_len + r->head.content_length)
        return false;
    r->phase = PHASE_HANDLER;
    loop_fd_mod(r->server->loop, &r->fd, 0);
    r->server->options.handler(r, r->server->options.ctx);
    return true;
}

static void step_read(struct tls_request *r)
{
    char block[4096];
    for (;;) {
        ERR_clear_error();
        int n = SSL_read(r->ssl, block, sizeof block);
        if (n <= 0) {
            if (!wait_for(r, n))
                request_refuse(r, "closed");
            return;
        }
        buf_add(&r->in, block, (size_t)n);
        if (request_parse(r))
            return;
    }
}

static void step_handshake(struct tls_request *r)
{
    ERR_clear_error();
    int n = SSL_accept(r->ssl);
    if (n != 1) {
        if (!wait_for(r, n))
            request_refuse(r, "tls-handshake");
        return;
    }
    X509 *cert = SSL_get0_peer_certificate(r->ssl);
    int len = cert != NULL ? i2d_X509(cert, &r->cert) : 0;
    r->cert_len = len > 0 ? (size_t)len : 0;
    r->phase = PHASE_READ;
    step_read(r);
}

static void on_event(void *ctx, uint32_t events)
{
    struct tls_request *r = ctx;
    if (r->phase == PHASE_HANDSHAKE)
        step_handshake(r);
    else if (r->phase == PHASE_READ)
        step_read(r);
    else if (r->phase == PHASE_WRITE)
        step_write(r);
    else // the peer hung up; the answer, which comes within this turn, finds that out
        loop_fd_mod(r->server->loop, &r->fd, 0);
}

static void on_deadline(void *ctx)
{
    struct tls_request *r = ctx;
    if (r->phase != PHASE_HANDLER)
        request_refuse(r, "deadline");
}

static void address_set(char out[static INET6_ADDRSTRLEN], const struct sockaddr_storage *a)
{
    const void *ip = a->ss_family == AF_INET
                         ? (const void *)&((const struct sockaddr_in *)a)->sin_addr
                         : (const void *)&((const struct sockaddr_in6 *)a)->sin6_addr;
    if (inet_ntop(a->ss_family, ip, out, INET6_ADDRSTRLEN) == NULL)
        out[0] = '\0';
}

static void connection_add(struct tls_server *s, int fd, const struct sockaddr_storage *peer)
{
    struct tls_request *r = calloc(1, sizeof *r);
    if (r == NULL)
        abort();
    r->server = s;
    r->started = clock_mono();
    address_set(r->address, peer);
    r->ssl = SSL_new(s->context);
    if (r->ssl == NULL)
        abort();
    SSL_set_fd(r->ssl, fd);
    loop_timer_init(&r->deadline, on_deadline, r);
    loop_timer_arm(s->loop, &r->deadline, mono_after(r->started, s->options.deadline_ms));
    r->next = s->first;
    r->prev = &s->first;
    if (s->first != NULL)
        s->first->prev = &r->next;
    s->first = r;
    s->connections++;
    r->fd.fd = fd;
    if (loop_fd_add(s->loop, &r->fd, fd, EPOLLIN, on_event, r) < 0)
        request_refuse(r, "no-resources");
}

static void on_accept(void *ctx, uint32_t events)
{
    struct tls_server *s = ctx;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t len = sizeof peer;
        int fd = accept4(s->listener.fd, (struct sockaddr *)&peer, &len,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (s->connections < s->options.connections) {
            connection_add(s, fd, &peer);
            continue;
        }
        char address[INET6_ADDRSTRLEN];
        address_set(address, &peer);
        s->options.refused(s->options.ctx, "too-many-connections", address);
        close(fd);
    }
}

// ---- life ----

static int listen_at(const char *host, uint16_t port, struct error *err)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    int code = getaddrinfo(host, service, &hints, &list);
    if (code != 0)
        return error_set(err, "%s: %s", host, gai_strerror(code)), -EINVAL;
    int fd = socket(list->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1, e = 0;
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, list->ai_addr, list->ai_addrlen) < 0 || listen(fd, 1024) < 0) {
        e = errno;
        error_set(err, "cannot listen at %s port %u: %s", host, port, strerror(e));
        if (fd >= 0)
            close(fd);
    }
    freeaddrinfo(list);
    return e != 0 ? -e : fd;
}

int tls_server_new(struct tls_server **out, struct loop *loop, const struct tls_options *options,
                   struct error *err)
{
    *out = NULL;
    int fd = listen_at(options->host, options->port, err);
    if (fd < 0)
        return fd;
    struct tls_server *s = calloc(1, sizeof *s);
    if (s == NULL)
        abort();
    s->loop = loop;
    s->options = *options;
    s->accepting = true;
    s->listener.fd = fd;
    int r = tls_server_reload(s, err);
    if (r == 0)
        r = loop_fd_add(loop, &s->listener, fd, EPOLLIN, on_accept, s);
    if (r < 0) {
        close(fd);
        SSL_CTX_free(s->context);
        free(s);
        return r;
    }
    *out = s;
    return 0;
}

uint16_t tls_server_port(const struct tls_server *s)
{
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof a;
    getsockname(s->listener.fd, (struct sockaddr *)&a, &len);
    return ntohs(a.ss_family == AF_INET ? ((struct sockaddr_in *)&a)->sin_port
                                        : ((struct sockaddr_in6 *)&a)->sin6_port);
}

unsigned tls_server_connections(const struct tls_server *s)
{
    return s->connections;
}

void tls_server_stop_accepting(struct tls_server *s)
{
    if (!s->accepting)
        return;
    int fd = s->listener.fd;
    s->accepting = false;
    loop_fd_del(s->loop, &s->listener);
    close(fd);
}

void tls_server_free(struct tls_server **server)
{
    struct tls_server *s = *server;
    if (s == NULL)
        return;
    tls_server_stop_accepting(s);
    while (s->first != NULL)
        request_free(s->first);
    SSL_CTX_free(s->context);
    free(s);
    *server = NULL;
}

// ---- the request, to the handler ----

const char *tls_request_method(const struct tls_request *r)
{
    return r->head.method;
}

const char *tls_request_path(const struct tls_request *r)
{
    return r->head.path;
}

const char *tls_request_content_type(const struct tls_request *r)
{
    return r->head.content_type;
}

const char *tls_request_body(const struct tls_request *r, size_t *len)
{
    *len = r->head.content_length;
    return r->in.data + r->head_len;
}

const char *tls_request_address(const struct tls_request *r)
{
    return r->address;
}

struct mono_time tls_request_started(const struct tls_request *r)
{
    return r->started;
}

const uint8_t *tls_request_client_cert(const struct tls_request *r, size_t *len)
{
    *len = r->cert_len;
    return r->cert;
}

void tls_respond(struct tls_request *r, int status, const char *content_type, const char *body,
                 size_t len)
{
    char date[64];
    time_t now = (time_t)clock_wall().s;
    struct tm tm;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    buf_printf(&r->out,
               "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
               "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
               "Connection: close\r\n\r\n",
               status, status == 200 ? "OK" : "Refused", date, content_type, len);
    buf_add(&r->out, body, len);
    r->phase = PHASE_WRITE;
    step_write(r);
}
