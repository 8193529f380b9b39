#include "tools/berth-cloud/serve.h"

#include "common/clock.h"
#include "common/core/text.h"
#include "common/harden.h"
#include "common/log.h"
#include "common/server_license.h"
#include "tools/berth-cloud/cloud_ops.h"
#include "tools/berth-cloud/protocol.h"
#include "tools/berth-cloud/tls_server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BODY_BYTES_MAX (16 * 1024)
#define DRAIN_MS 5000
#define ALIVE_EXTRA_S 30 // a holder may be late by a retry
#define DEADLINE_MS 15000
#define CONNECTIONS_MAX 4096
#define JSON_TYPE "application/json"

struct files {
    char certificate[4096], key[4096], ca[4096];
};

// An answer that waits for the commit of its loop turn: many servers share one write to disk.
struct pending {
    struct tls_request *request;
    struct buf body;
    struct pending *next;
};

struct cloud {
    struct loop *loop;
    struct files files; // the listener keeps the names, to read them again
    struct tls_server *server;
    struct loop_timer drain;
    struct mono_time drain_end;
    struct cloud_ops ops;
    struct metric_histogram *duration, *commit;
    struct store *store;
    struct crypto_ca *vendor_ca;
    struct cloud_policy policy;
    struct pending *pending;
    struct loop_hook commit_hook;
    int exit_code;
};

static void respond_error(struct cloud *c, struct tls_request *r, int status, const char *method,
                          const char *outcome, const char *text)
{
    struct buf body BUF_CLEANUP = {0};
    buf_add_str(&body, "{\"error\":");
    buf_add_json_string(&body, text, utf8_valid(text, strlen(text)) ? strlen(text) : 0);
    buf_add_char(&body, '}');
    metric_add(c->ops.metrics, M_REQUESTS, 1, method, outcome);
    log_warn("cloud.bad-request", LOG_S("address", tls_request_address(r)),
             LOG_S("outcome", outcome), LOG_S("msg", text));
    tls_respond(r, status, JSON_TYPE, body.data, body.len);
}

// ---- one commit a turn ----

static void pending_answer(struct cloud *c, bool good)
{
    static const char fault[] = "{\"error\":\"the state cannot be written\"}";
    struct pending *p = c->pending;
    c->pending = NULL;
    while (p != NULL) {
        struct pending *next = p->next;
        metric_observe_s(c->duration,
                         (double)(clock_mono().ms - tls_request_started(p->request).ms) / 1000);
        if (good)
            tls_respond(p->request, 200, JSON_TYPE, p->body.data, p->body.len);
        else
            tls_respond(p->request, 500, JSON_TYPE, fault, sizeof fault - 1);
        buf_fini(&p->body);
        free(p);
        p = next;
    }
}

// After a failed write nothing is known about what is on disk: end, and start from the file again.
static void state_failed(struct cloud *c, const struct error *err)
{
    log_error("cloud.state-failed", LOG_S("msg", err->text));
    store_rollback(c->store);
    pending_answer(c, false);
    c->exit_code = 1;
    loop_stop(c->loop);
}

static bool commit_turn(void *ctx)
{
    struct cloud *c = ctx;
    if (c->pending == NULL)
        return false;
    struct error err = {""};
    int64_t begin_us = clock_mono_us();
    if (store_commit(c->store, &err) < 0) {
        state_failed(c, &err);
        return false;
    }
    metric_observe_s(c->commit, (double)(clock_mono_us() - begin_us) / 1e6);
    pending_answer(c, true);
    return false;
}

static struct buf *pending_add(struct cloud *c, struct tls_request *r)
{
    struct pending *p = calloc(1, sizeof *p);
    if (p == NULL)
        abort();
    p->request = r;
    p->next = c->pending;
    c->pending = p;
    return &p->body;
}

// ---- requests ----

// Who asks, by its certificate. 0, or the HTTP status. *expired: it is a server license that was.
static int identify(struct cloud *c, struct tls_request *r, struct server_license *who,
                    bool *expired, struct error *err)
{
    size_t len = 0;
    const uint8_t *der = tls_request_client_cert(r, &len);
    if (der == NULL)
        return error_set(err, "no client certificate: a server license is needed"), 403;
    struct crypto_cert *cert = NULL;
    int code = crypto_cert_load_der(&cert, der, len, err);
    if (code == 0)
        code = server_license_read(who, cert, c->vendor_ca, clock_wall(), err);
    crypto_cert_free(&cert);
    *expired = code == 1;
    if (code < 0 || code == 2)
        return 403;
    if (strcmp(who->variant, "cloud-ready") != 0)
        return error_set(err, "the server license %s is not Cloud-Ready", who->server_id), 403;
    return 0;
}

static bool is_json(const struct tls_request *r)
{
    const char *type = tls_request_content_type(r);
    size_t len = strlen(JSON_TYPE);
    return strncasecmp(type, JSON_TYPE, len) == 0 &&
           (type[len] == '\0' || type[len] == ';' || type[len] == ' ');
}

static void log_outcome(const char *method, const char *id, const char *outcome,
                        struct tls_request *r)
{
    enum log_level level = strcmp(outcome, "ok") == 0 ? LOG_DEBUG : LOG_INFO;
    log_at(level, "cloud.answer", LOG_S("method", method), LOG_S("server_id", id),
           LOG_S("outcome", outcome), LOG_S("address", tls_request_address(r)));
}

static void handle(struct cloud *c, struct tls_request *r, bool goodbye)
{
    const char *method = goodbye ? "goodbye" : "validate", *outcome = "";
    struct server_license who;
    struct cloud_request request;
    struct error err = {""};
    bool expired = false;
    size_t len = 0;
    int status = identify(c, r, &who, &expired, &err);
    if (status != 0)
        return respond_error(c, r, status, method, "no-license", err.text);
    if (!is_json(r))
        return respond_error(c, r, 415, method, "bad-request", "only application/json is taken");
    const char *body = tls_request_body(r, &len);
    if (cloud_request_parse(&request, body, len, &err) < 0)
        return respond_error(c, r, 400, method, "bad-request", err.text);
    // Who says goodbye needs to give the token alone: the certificate says whose it is.
    bool named = request.server_id[0] != '\0';
    if (!named && !goodbye)
        return respond_error(c, r, 400, method, "bad-request", "\"serverId\" is missing");
    if (!named)
        snprintf(request.server_id, sizeof request.server_id, "%s", who.server_id);
    if (strcmp(request.server_id, who.server_id) != 0)
        return respond_error(c, r, 403, method, "other-server",
                             "serverId is not that of the client certificate");
    if (c->pending == NULL && store_begin(c->store, &err) < 0)
        return respond_error(c, r, 503, method, "busy", err.text);
    struct buf *answer = pending_add(c, r);
    int64_t now_s = clock_wall().s;
    int code = goodbye ? cloud_goodbye(c->store, &request, &c->policy, now_s, answer, &outcome,
                                       &err)
                       : cloud_validate(c->store, &request, expired, &c->policy, now_s, answer,
                                        &outcome, &err);
    if (code < 0)
        return state_failed(c, &err);
    metric_add(c->ops.metrics, M_REQUESTS, 1, method, outcome);
    log_outcome(method, who.server_id, outcome, r);
}

static void on_validate(struct cloud *c, struct tls_request *r)
{
    handle(c, r, false);
}

static void on_goodbye(struct cloud *c, struct tls_request *r)
{
    handle(c, r, true);
}

static void on_alive(struct cloud *c, struct tls_request *r)
{
    tls_respond(r, 200, "text/plain; charset=utf-8", "alive\n", 6);
}

static const struct {
    const char *method, *path;
    void (*fn)(struct cloud *c, struct tls_request *r);
} routes[] = {
    {"POST", "/v1/validate", on_validate},
    {"POST", "/v1/goodbye", on_goodbye},
    {"GET", "/health/alive", on_alive},
};

static void on_request(struct tls_request *r, void *ctx)
{
    struct cloud *c = ctx;
    int status = 404;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (strcmp(routes[i].path, tls_request_path(r)) != 0)
            continue;
        if (strcmp(routes[i].method, tls_request_method(r)) == 0)
            return routes[i].fn(c, r);
        status = 405;
    }
    respond_error(c, r, status, "other", status == 404 ? "not-found" : "wrong-method",
                  status == 404 ? "there is nothing here" : "this path has another method");
}

static unsigned connections(void *ctx)
{
    const struct cloud *c = ctx;
    return tls_server_connections(c->server);
}

static void on_refused(void *ctx, const char *reason, const char *address)
{
    struct cloud *c = ctx;
    metric_add(c->ops.metrics, M_REFUSED_CONNECTIONS, 1, reason);
    log_info("cloud.refused", LOG_S("reason", reason),
             LOG_S("address", address != NULL ? address : ""));
}

// ---- life ----

static void on_drained(void *ctx)
{
    struct cloud *c = ctx;
    if (tls_server_connections(c->server) == 0 || clock_mono().ms >= c->drain_end.ms)
        loop_stop(c->loop);
    else
        loop_timer_arm(c->loop, &c->drain, mono_after(clock_mono(), 20));
}

static void on_stop(void *ctx)
{
    struct cloud *c = ctx;
    tls_server_stop_accepting(c->server);
    c->drain_end = mono_after(clock_mono(), DRAIN_MS);
    on_drained(c);
}

static void on_reload(void *ctx)
{
    struct cloud *c = ctx;
    struct error err = {""};
    if (tls_server_reload(c->server, &err) < 0 ||
        cloud_ops_certificate(&c->ops, c->files.certificate, &err) < 0)
        log_error("cloud.reload-failed", LOG_S("msg", err.text));
    else
        log_info("cloud.reloaded", LOG_S("msg", "the certificates were read again"));
}

static int listen_parse(const char *text, char *host, size_t cap, uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    uint64_t number = 0;
    if (colon == NULL || colon == text ||
        parse_u64(colon + 1, strlen(colon + 1), 0, UINT16_MAX, &number) < 0)
        return -EINVAL;
    size_t len = (size_t)(colon - text);
    if (text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (len == 0 || len >= cap)
        return -EINVAL;
    memcpy(host, text, len);
    host[len] = '\0';
    *port = (uint16_t)number;
    return 0;
}

static int serve_http(struct cloud *c, const struct serve_options *options, struct error *err)
{
    char host[256];
    uint16_t port = 0;
    if (listen_parse(options->listen, host, sizeof host, &port) < 0)
        return error_set(err, "--listen %s: this is not HOST:PORT", options->listen), -EINVAL;
    struct tls_options tls = {
        .host = host,
        .port = port,
        .certificate_file = c->files.certificate,
        .key_file = c->files.key,
        .client_ca_file = c->files.ca,
        .max_body_bytes = BODY_BYTES_MAX,
        .connections = CONNECTIONS_MAX, // a thousand servers may come at once
        .deadline_ms = DEADLINE_MS,
        .handler = on_request,
        .refused = on_refused,
        .ctx = c,
    };
    int r = cloud_ops_certificate(&c->ops, c->files.certificate, err);
    if (r == 0)
        r = tls_server_new(&c->server, c->loop, &tls, err);
    if (r == 0)
        r = cloud_ops_listen(&c->ops, c->loop, options->ops, err);
    if (r < 0)
        return r;
    log_info("cloud.listening", LOG_S("host", host),
             LOG_I("port", (int64_t)tls_server_port(c->server)),
             LOG_S("version", BERTH_VERSION), LOG_S("state", options->state));
    return 0;
}

static int start(struct cloud *c, const struct serve_options *options, struct error *err)
{
    int r = loop_new(&c->loop);
    if (r < 0)
        return error_set(err, "no event loop: %s", strerror(-r)), r;
    loop_hook_add(c->loop, LOOP_TURN, &c->commit_hook, commit_turn, c);
    r = crypto_ca_load_file(&c->vendor_ca, c->files.ca, err);
    if (r == 0)
        r = store_open(&c->store, options->state, true, err);
    if (r < 0)
        return r;
    c->ops.store = c->store;
    loop_signal(c->loop, SIGTERM, on_stop, c);
    loop_signal(c->loop, SIGINT, on_stop, c);
    loop_signal(c->loop, SIGHUP, on_reload, c);
    loop_timer_init(&c->drain, on_drained, c);
    return serve_http(c, options, err);
}

int serve_run(const struct serve_options *options)
{
    static struct cloud c;
    c.policy = (struct cloud_policy){
        .lease = {.silence_s = options->silence_s,
                  .alive_s = 2 * (int64_t)options->next_check_s + ALIVE_EXTRA_S},
        .next_check_s = options->next_check_s};
    snprintf(c.files.certificate, sizeof c.files.certificate, "%s/cloud.pem", options->dir);
    snprintf(c.files.key, sizeof c.files.key, "%s/cloud.key", options->dir);
    snprintf(c.files.ca, sizeof c.files.ca, "%s/vendor-ca.pem", options->dir);
    c.ops = (struct cloud_ops){.policy = &c.policy.lease, .connections = connections, .ctx = &c};
    cloud_ops_init(&c.ops);
    c.duration = metric_histogram(c.ops.metrics, M_DURATION);
    c.commit = metric_histogram(c.ops.metrics, M_COMMIT);
    signal(SIGPIPE, SIG_IGN);
    harden_begin(true);
    struct error err = {""};
    if (start(&c, options, &err) < 0) {
        fprintf(stderr, "berth-cloud: %s\n", err.text);
        c.exit_code = 1;
    } else if (harden_system_calls(), loop_run(c.loop) < 0) {
        c.exit_code = 1;
    }
    tls_server_free(&c.server);
    cloud_ops_fini(&c.ops);
    store_close(&c.store);
    crypto_ca_free(&c.vendor_ca);
    loop_free(&c.loop);
    return c.exit_code;
}
