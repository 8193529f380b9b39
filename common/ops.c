#include "common/ops.h"

#include "common/clock.h"
#include "common/json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONDITIONS_MAX 16
#define HEALTH_DEADLINE_MS 2000
#define HEALTH_ANSWER_MAX 65536

// ---- handlers ----

static size_t conditions_of(const struct ops *ops, struct ops_condition *out)
{
    memset(out, 0, CONDITIONS_MAX * sizeof *out);
    size_t n = ops->conditions ? ops->conditions(ops->ctx, out, CONDITIONS_MAX) : 0;
    return n > CONDITIONS_MAX ? CONDITIONS_MAX : n;
}

bool ops_ready(const struct ops *ops)
{
    struct ops_condition conditions[CONDITIONS_MAX];
    size_t n = conditions_of(ops, conditions);
    bool ready = true;
    for (size_t i = 0; i < n; i++)
        ready = ready && conditions[i].ok;
    return ready;
}

void ops_ready_json(const struct ops *ops, struct buf *out)
{
    struct ops_condition conditions[CONDITIONS_MAX];
    size_t n = conditions_of(ops, conditions);
    bool ready = true;
    for (size_t i = 0; i < n; i++)
        ready = ready && conditions[i].ok;
    buf_printf(out, "{\"ready\":%s,\"conditions\":[", ready ? "true" : "false");
    for (size_t i = 0; i < n; i++) {
        const struct ops_condition *c = &conditions[i];
        buf_add_str(out, i ? ",{\"name\":" : "{\"name\":");
        buf_add_json_string(out, c->name, strlen(c->name));
        buf_printf(out, ",\"ok\":%s,\"reason\":", c->ok ? "true" : "false");
        buf_add_json_string(out, c->reason, strlen(c->reason));
        buf_add_char(out, '}');
    }
    buf_add_str(out, "]}");
}

void ops_alive(struct http_request *r, void *ctx)
{
    static const char body[] = "{\"alive\":true}";
    (void)ctx;
    http_respond(r, 200, "application/json", body, sizeof body - 1, NULL);
}

void ops_ready_handler(struct http_request *r, void *ctx)
{
    const struct ops *ops = *(struct ops *const *)ctx;
    BUF_CLEANUP struct buf body = {0};
    ops_ready_json(ops, &body);
    http_respond(r, ops_ready(ops) ? 200 : 503, "application/json", body.data, body.len, NULL);
}

void ops_metrics(struct http_request *r, void *ctx)
{
    const struct ops *ops = *(struct ops *const *)ctx;
    BUF_CLEANUP struct buf body = {0};
    metrics_render(ops->metrics, &body);
    http_respond(r, 200, "text/plain; version=0.0.4; charset=utf-8", body.data, body.len, NULL);
}

// ---- listener ----

struct address {
    char host[256];
    char port[6];
};

// "127.0.0.1:22024", "[::1]:22024", "pool:22024".
static int address_parse(const char *text, struct address *out, struct error *err)
{
    const char *colon = strrchr(text, ':');
    const char *begin = text;
    size_t len = colon ? (size_t)(colon - text) : 0;
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        begin++;
        len -= 2;
    }
    size_t port_len = colon ? strspn(colon + 1, "0123456789") : 0;
    if (!len || len >= sizeof out->host || !port_len || port_len > 5 || colon[1 + port_len] ||
        atoi(colon + 1) > 65535) {
        error_set(err, "'%.100s' is not an address:port", text);
        return -EINVAL;
    }
    memcpy(out->host, begin, len);
    out->host[len] = '\0';
    memcpy(out->port, colon + 1, port_len + 1);
    return 0;
}

static const struct http_route routes[] = {
    {"GET", "/health/alive", ops_alive},
    {"GET", "/health/ready", ops_ready_handler},
    {"GET", "/metrics", ops_metrics},
    {NULL, NULL, NULL},
};

int ops_listen(struct http_server **out, struct loop *loop, const char *address, struct ops *ops,
               struct error *err)
{
    struct address a;
    int r = address_parse(address, &a, err);
    if (r)
        return r;
    ops->self = ops;
    struct http_server_options options = {
        .host = a.host,
        .port = (uint16_t)atoi(a.port),
        .limits = {.max_body_bytes = 4096,
                   .connections = 64,
                   .connections_per_address = 64,
                   .header_deadline_ms = 10000,
                   .request_deadline_ms = 15000,
                   .idle_ms = 30000},
        .routes = routes,
        .ctx = &ops->self,
    };
    r = http_server_new(out, loop, &options, err);
    if (r)
        error_prefix(err, "health and metrics at %s", address);
    return r;
}

// ---- the health argument ----

void ops_print_conditions(const char *body, size_t len)
{
    struct arena *arena = arena_new(4096);
    const cJSON *json = json_parse(arena, body, len, NULL);
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(json, "conditions"))
    {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "name"));
        const char *reason =
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "reason"));
        if (name && !cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "ok")))
            fprintf(stderr, "not ready: %s: %s\n", name, reason ? reason : "");
    }
    arena_free(&arena);
}

// Waits until fd is ready for events, or the deadline. 0 or -errno.
static int wait_fd(int fd, short events, struct mono_time deadline)
{
    int64_t left = deadline.ms - clock_mono().ms;
    struct pollfd p = {.fd = fd, .events = events};
    int n = left > 0 ? poll(&p, 1, (int)left) : 0;
    if (n < 0 && errno != EINTR)
        return -errno;
    return n ? 0 : -ETIMEDOUT;
}

static int connect_one(const struct addrinfo *ai, struct mono_time deadline)
{
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int r = connect(fd, ai->ai_addr, ai->ai_addrlen) ? -errno : 0;
    if (r == -EINPROGRESS) {
        int fault = 0;
        socklen_t size = sizeof fault;
        r = wait_fd(fd, POLLOUT, deadline);
        if (!r && (getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &size) || fault))
            r = fault ? -fault : -errno;
    }
    if (r)
        close(fd);
    return r ? r : fd;
}

static int connect_address(const struct address *a, struct mono_time deadline)
{
    // Who listens on all addresses listens on loopback.
    const char *host = !strcmp(a->host, "0.0.0.0") ? "127.0.0.1"
                       : !strcmp(a->host, "::")    ? "::1"
                                                   : a->host;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    if (getaddrinfo(host, a->port, &hints, &list))
        return -EHOSTUNREACH;
    int fd = -EHOSTUNREACH;
    for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next)
        fd = connect_one(ai, deadline);
    freeaddrinfo(list);
    return fd;
}

static int exchange(int fd, const struct buf *request, struct buf *answer,
                    struct mono_time deadline)
{
    // A new connection takes such a short text at once.
    if (send(fd, request->data, request->len, MSG_NOSIGNAL) != (ssize_t)request->len)
        return -EIO;
    while (answer->len < HEALTH_ANSWER_MAX) {
        int r = wait_fd(fd, POLLIN, deadline);
        if (r)
            return r;
        buf_reserve(answer, 4096);
        ssize_t n = recv(fd, answer->data + answer->len, 4096, 0);
        if (n == 0)
            return 0;
        if (n > 0)
            answer->len += (size_t)n;
        else if (errno != EAGAIN && errno != EINTR)
            return -errno;
    }
    return -EMSGSIZE;
}

int ops_health_check(const char *address, bool alive)
{
    struct error err = {{0}};
    struct address a;
    if (address_parse(address, &a, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    struct mono_time deadline = mono_after(clock_mono(), HEALTH_DEADLINE_MS);
    BUF_CLEANUP struct buf request = {0};
    BUF_CLEANUP struct buf answer = {0};
    buf_printf(&request, "GET /health/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
               alive ? "alive" : "ready", address);
    int fd = connect_address(&a, deadline);
    int r = fd < 0 ? fd : exchange(fd, &request, &answer, deadline);
    if (fd >= 0)
        close(fd);
    if (r) {
        fprintf(stderr, "not reachable: %s: %s\n", address, strerror(-r));
        return 1;
    }
    buf_add(&answer, "", 1); // a text from here on
    if (!strncmp(answer.data, "HTTP/1.1 200 ", 13))
        return 0;
    const char *body = strstr(answer.data, "\r\n\r\n");
    if (body && !alive)
        ops_print_conditions(body + 4, strlen(body + 4));
    else
        fprintf(stderr, "no answer to understand from %s\n", address);
    return 1;
}
