// A TLS client of one request, for `berth-gateway health`. It speaks to its own host only, and asks
// nothing secret, so the certificate (which names the host as others see it) is not verified.
#include "common/clock.h"
#include "common/core/buf.h"
#include "services/gateway/health.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define ANSWER_MAX 65536
#define TIMEOUT_S 3

static int connect_to(const char *host, unsigned port)
{
    char service[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    struct timeval timeout = {.tv_sec = TIMEOUT_S};
    int fd = -1;
    snprintf(service, sizeof service, "%u", port & 0xffff);
    if (getaddrinfo(host, service, &hints, &list))
        return -1;
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
        if (connect(fd, a->ai_addr, a->ai_addrlen)) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd;
}

// The whole answer until the server closes. 0 or -1.
static int talk(gnutls_session_t session, const char *request, struct buf *answer)
{
    char chunk[4096];
    ssize_t n;
    int r;
    // "Again" is a timeout of the socket, or a session ticket where an answer was expected.
    struct mono_time end = mono_after(clock_mono(), TIMEOUT_S * 1000);
    do {
        r = gnutls_handshake(session);
    } while (r < 0 && !gnutls_error_is_fatal(r) && clock_mono().ms < end.ms);
    if (r < 0 || gnutls_record_send(session, request, strlen(request)) < 0)
        return -1;
    while (answer->len < ANSWER_MAX) {
        n = gnutls_record_recv(session, chunk, sizeof chunk);
        if (n < 0 && !gnutls_error_is_fatal((int)n) && clock_mono().ms < end.ms)
            continue;
        if (n <= 0)
            break;
        buf_add(answer, chunk, (size_t)n);
    }
    return answer->len ? 0 : -1;
}

static int ask_over(int fd, const char *request, struct buf *answer)
{
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    int r = -1;
    if (gnutls_certificate_allocate_credentials(&credentials))
        return -1;
    if (!gnutls_init(&session, GNUTLS_CLIENT)) {
        if (!gnutls_set_default_priority(session) &&
            !gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials)) {
            gnutls_transport_set_int(session, fd);
            r = talk(session, request, answer);
        }
        gnutls_deinit(session);
    }
    gnutls_certificate_free_credentials(credentials);
    return r;
}

// Addresses that mean "all" are reached through the loopback.
static const char *host_to_ask(const char *host)
{
    if (!strcmp(host, "0.0.0.0"))
        return "127.0.0.1";
    return !strcmp(host, "::") ? "::1" : host;
}

int health_command(const struct config *config, bool alive)
{
    bool admin = config->serve.admin.enabled;
    const char *host = host_to_ask(admin ? config->serve.admin.host : config->serve.licenses.host);
    unsigned port = admin ? config->serve.admin.port : config->serve.licenses.port;
    const char *path = !admin ? "/health/protection" : alive ? "/health/alive" : "/health/ready";
    struct buf request BUF_CLEANUP = {0};
    struct buf answer BUF_CLEANUP = {0};
    int fd = connect_to(host, port);
    if (fd < 0) {
        printf("not reachable at %s port %u: %s\n", host, port, strerror(errno));
        return 1;
    }
    buf_printf(&request, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    int r = ask_over(fd, request.data, &answer);
    close(fd);
    // Without a client certificate there is no answer: that it listens is all that can be asked.
    if (r && !admin && config->serve.licenses.tls.client_ca)
        return 0;
    if (r) {
        printf("no answer over TLS at %s port %u\n", host, port);
        return 1;
    }
    if (!strncmp(answer.data, "HTTP/1.1 200", 12))
        return 0;
    const char *body = strstr(answer.data, "\r\n\r\n");
    if (body)
        ops_print_conditions(body + 4, answer.len - (size_t)(body + 4 - answer.data));
    else
        printf("no HTTP answer at %s port %u\n", host, port);
    return 1;
}
