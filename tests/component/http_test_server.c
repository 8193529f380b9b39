// A server for test_http_*.py. Arguments: key=value. Prints "port N", then "refused REASON ADDRESS"
// for each refusal, and obeys the commands that come as lines on stdin.
#include "common/clock.h"
#include "common/http_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

struct later;

struct test {
    struct loop *loop;
    struct http_server *server;
    struct http_tls tls;
    struct loop_fd input;
    struct later *laters; // all there were; freed at the end
};

struct later {
    struct loop_timer timer;
    struct http_request *request;
    struct later *next;
};

static void say(const char *what, const char *detail, const char *more)
{
    printf("%s %s %s\n", what, detail, more);
    fflush(stdout);
}

static void echo(struct http_request *r, void *ctx)
{
    size_t len;
    const char *body = http_request_body(r, &len);
    http_respond(r, 200, "application/octet-stream", body, len, NULL);
}

static void hello(struct http_request *r, void *ctx)
{
    http_respond(r, 200, "text/plain", "hello", 5, NULL);
}

static void empty(struct http_request *r, void *ctx)
{
    http_respond(r, 204, NULL, NULL, 0, NULL);
}

static void big(struct http_request *r, void *ctx)
{
    size_t len = strtoul(http_request_path(r) + strlen("/big/"), NULL, 10);
    char *body = malloc(len + 1);
    if (!body)
        abort();
    memset(body, 'x', len);
    http_respond(r, 200, "text/plain", body, len, NULL);
    free(body);
}

static void header(struct http_request *r, void *ctx)
{
    const char *v = http_request_header(r, "x-pad");
    char text[32];
    int len = snprintf(text, sizeof text, "%zu", v ? strlen(v) : 0);
    http_respond(r, 200, "text/plain", text, (size_t)len,
                 (struct http_header[]){{"X-Test", "yes"}, {NULL, NULL}});
}

static void cert(struct http_request *r, void *ctx)
{
    size_t len;
    const uint8_t *der = http_request_client_cert(r, &len);
    http_respond(r, 200, "application/octet-stream", (const char *)der, len, NULL);
}

static void answer_later(void *ctx)
{
    struct later *l = ctx;
    say("answering", http_request_path(l->request), "");
    struct http_request *r = l->request;
    l->request = NULL;
    http_respond(r, 200, "text/plain", "later", 5, NULL);
}

static void defer(struct http_request *r, void *ctx)
{
    struct test *t = *(struct test **)ctx;
    struct later *l = calloc(1, sizeof *l);
    if (!l)
        abort();
    l->request = r;
    l->next = t->laters;
    t->laters = l;
    loop_timer_init(&l->timer, answer_later, l);
    long ms = strtol(http_request_path(r) + strlen("/later/"), NULL, 10);
    loop_timer_arm(t->loop, &l->timer, mono_after(loop_now(t->loop), ms));
    say("deferred", http_request_path(r), "");
}

static const struct http_route routes[] = {
    {"GET", "/hello", hello}, {"POST", "/echo", echo},   {"GET", "/empty", empty},
    {"GET", "/big/*", big},   {"GET", "/header", header}, {"GET", "/cert", cert},
    {"GET", "/later/*", defer}, {"POST", "/later/*", defer}, {NULL, NULL, NULL},
};

static void refused(void *ctx, const char *reason, const char *address)
{
    say("refused", reason, address);
}

static void drained(void *ctx)
{
    struct test *t = ctx;
    say("drained", "", "");
    loop_stop(t->loop);
}

static void command(void *ctx, uint32_t events)
{
    struct test *t = ctx;
    char line[256];
    ssize_t n = read(t->input.fd, line, sizeof line - 1);
    if (n <= 0 || !strncmp(line, "stop", 4)) {
        loop_stop(t->loop);
        return;
    }
    line[n] = 0;
    struct error err = {0};
    if (!strncmp(line, "drain ", 6)) {
        http_server_drain(t->server, mono_after(loop_now(t->loop), strtol(line + 6, NULL, 10)),
                          drained, t);
        say("draining", "", "");
    } else if (!strncmp(line, "reload", 6)) {
        say("reloaded", http_server_reload_tls(t->server, &t->tls, &err) ? err.text : "ok", "");
    } else if (!strncmp(line, "names ", 6)) {
        say("names", http_server_names_host(t->server, line + 6, strcspn(line + 6, "\n")) ? "yes"
                                                                                          : "no",
            "");
    } else if (!strncmp(line, "idle", 4)) {
        snprintf(line, sizeof line, "%u", http_server_idle_connections(t->server));
        say("idle", line, "");
    } else if (!strncmp(line, "count", 5)) {
        snprintf(line, sizeof line, "%u", http_server_connections(t->server));
        say("count", line, "");
    }
}

static void set(struct http_server_options *o, struct http_tls *tls, const char *arg)
{
    const char *v = strchr(arg, '=');
    if (!v++)
        return;
    if (!strncmp(arg, "host=", 5))
        o->host = v;
    else if (!strncmp(arg, "cert=", 5))
        tls->certificate_file = v;
    else if (!strncmp(arg, "key=", 4))
        tls->key_file = v;
    else if (!strncmp(arg, "ca=", 3))
        tls->client_ca_file = v;
    else if (!strncmp(arg, "required=", 9))
        tls->client_required = *v == '1';
    else if (!strncmp(arg, "header_ms=", 10))
        o->limits.header_deadline_ms = strtol(v, NULL, 10);
    else if (!strncmp(arg, "request_ms=", 11))
        o->limits.request_deadline_ms = strtol(v, NULL, 10);
    else if (!strncmp(arg, "idle_ms=", 8))
        o->limits.idle_ms = strtol(v, NULL, 10);
    else if (!strncmp(arg, "body=", 5))
        o->limits.max_body_bytes = strtoul(v, NULL, 10);
    else if (!strncmp(arg, "per_address=", 12))
        o->limits.connections_per_address = (unsigned)strtoul(v, NULL, 10);
    else if (!strncmp(arg, "connections=", 12))
        o->limits.connections = (unsigned)strtoul(v, NULL, 10);
}

int main(int argc, char **argv)
{
    struct test t = {0};
    struct test *self = &t;
    struct error err = {0};
    struct http_server_options o = {
        .host = "127.0.0.1",
        .limits = {.max_body_bytes = 65536,
                   .connections = 1024,
                   .connections_per_address = 64,
                   .header_deadline_ms = 10000,
                   .request_deadline_ms = 15000,
                   .idle_ms = 60000},
        .routes = routes,
        .ctx = &self,
        .refused = refused,
    };
    for (int i = 1; i < argc; i++)
        set(&o, &t.tls, argv[i]);
    if (t.tls.certificate_file)
        o.tls = &t.tls;
    if (loop_new(&t.loop) || http_server_new(&t.server, t.loop, &o, &err)) {
        say("failed", err.text, "");
        return 1;
    }
    loop_fd_add(t.loop, &t.input, STDIN_FILENO, EPOLLIN, command, &t);
    printf("port %u\n", http_server_port(t.server));
    fflush(stdout);
    int r = loop_run(t.loop);
    // Also with connections open and requests waiting.
    http_server_free(&t.server);
    loop_fd_del(t.loop, &t.input);
    for (struct later *l = t.laters, *next; l; l = next) {
        next = l->next;
        if (l->request) // an answer that comes when the server is gone
            http_respond(l->request, 200, "text/plain", "late", 4, NULL);
        free(l);
    }
    loop_free(&t.loop);
    say("stopped", "", "");
    return r ? 1 : 0;
}
