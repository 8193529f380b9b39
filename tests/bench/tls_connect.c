// Makes TLS 1.3 connections one after the other, each with one small request, and prints how many,
// and how many were resumed. The generator for "new connections" of the benchmark.
//
//   tls_connect PORT SECONDS PATH full|resumed
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static SSL_SESSION *session;

static int keep_session(SSL *ssl, SSL_SESSION *s)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = s;
    return 1;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// 1: resumed, 0: full, -1: failed.
static int connect_once(SSL_CTX *ctx, int port, const char *path, bool resume)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    SSL_set_tlsext_host_name(ssl, "localhost");
    if (resume && session)
        SSL_set_session(ssl, session);
    int result = -1;
    if (!connect(fd, (struct sockaddr *)&to, sizeof to) && SSL_connect(ssl) == 1) {
        char text[4096];
        int n = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
        if (SSL_write(ssl, text, n) == n && SSL_read(ssl, text, sizeof text) > 12 &&
            !memcmp(text, "HTTP/1.1 200", 12))
            result = SSL_session_reused(ssl);
        SSL_shutdown(ssl);
    }
    SSL_free(ssl);
    close(fd);
    return result;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    int port = atoi(argv[1]);
    double end = now_s() + atof(argv[2]);
    bool resume = !strcmp(argv[4], "resumed");
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(ctx, keep_session);
    unsigned made = 0, resumed = 0, failed = 0;
    while (now_s() < end) {
        int r = connect_once(ctx, port, argv[3], resume);
        made += r >= 0;
        resumed += r == 1;
        failed += r < 0;
    }
    printf("%u %u %u\n", made, resumed, failed);
    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
    return failed ? 1 : 0;
}
