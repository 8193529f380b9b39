#include "services/gateway/service.h"

#include "borrow.pb-c.h"
#include "common/crypto.h"
#include "common/daemon.h"
#include "common/log.h"
#include "pool.pb-c.h"
#include "services/gateway/access.h"
#include "services/gateway/exchange.h"
#include "services/gateway/health.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

// Less than the 5 s in which every request is answered (api.md).
#define RPC_TIMEOUT_MS 4000
#define DRAIN_MS 4700
#define CONNECTIONS_MAX 20000
#define DESCRIPTORS_SPARE 64 // not for connections
#define ADMIN_CONNECTIONS 256
#define BODY_MAX (64 * 1024)
#define RATELIMIT_ADDRESSES 16384

#define METRIC(id, type, name, labels, help) {type, name, labels, help},
static const struct metric_def metric_defs[] = {
#include "services/gateway/metrics.def"
};
#undef METRIC

static const char *const peer_names[GATEWAY_PEERS] = {"pool", "borrow"};

// ---- routes ----

static void licenses_rpc(struct http_request *r, void *ctx)
{
    struct gateway *g = ctx;
    if (access_origin(g, g->licenses, r) && access_content_type(g, r))
        exchange_start(g, r, &methods_licenses, true);
}

static void admin_rpc(struct http_request *r, void *ctx)
{
    struct gateway *g = ctx;
    if (access_origin(g, g->admin, r) && access_content_type(g, r))
        exchange_start(g, r, &methods_admin, access_is_admin(g, r));
}

static void admin_alive(struct http_request *r, void *ctx)
{
    struct gateway *g = ctx;
    if (access_origin(g, g->admin, r))
        ops_alive(r, ctx);
}

static void admin_ready(struct http_request *r, void *ctx)
{
    struct gateway *g = ctx;
    if (access_origin(g, g->admin, r))
        ops_ready_handler(r, ctx);
}

static void admin_metrics(struct http_request *r, void *ctx)
{
    struct gateway *g = ctx;
    if (access_origin(g, g->admin, r))
        ops_metrics(r, ctx);
}

static const struct http_route licenses_routes[] = {
    {"POST", "/licenses", licenses_rpc},
    {"GET", "/health/protection", health_protection},
    {NULL},
};

static const struct http_route admin_routes[] = {
    {"GET", "/health/alive", admin_alive},
    {"GET", "/health/ready", admin_ready},
    {"GET", "/metrics", admin_metrics},
    {"POST", "/admin", admin_rpc},
    {NULL},
};

// ---- metrics ----

static void collect(void *ctx)
{
    struct gateway *g = ctx;
    metric_set(g->metrics, M_HTTP_CONNECTIONS, http_server_connections(g->licenses), "licenses");
    if (g->admin)
        metric_set(g->metrics, M_HTTP_CONNECTIONS, http_server_connections(g->admin), "admin");
    metric_set(g->metrics, M_RATELIMIT_ADDRESSES, (double)ratelimit_addresses(g->ratelimit));
    metric_set(g->metrics, M_VERDICT_FRESH, verdict_watch_fresh(g->verdict) != NULL);
    for (size_t i = 0; i < GATEWAY_PEERS; i++)
        metric_set(g->metrics, M_RPC_CONNECTED, rpc_client_connected(g->peers[i]), peer_names[i]);
}

static struct rpc_metrics rpc_cells(struct gateway *g, const char *peer)
{
    return (struct rpc_metrics){
        .frames_sent = metric_cell(g->metrics, M_RPC_FRAMES_SENT, peer),
        .frames_received = metric_cell(g->metrics, M_RPC_FRAMES_RECEIVED, peer),
        .calls = metric_cell(g->metrics, M_RPC_CALLS, peer),
        .errors = metric_cell(g->metrics, M_RPC_ERRORS, peer),
        .reconnects = metric_cell(g->metrics, M_RPC_RECONNECTS, peer),
    };
}

static void make_cells(struct gateway *g, const struct method_table *table)
{
    for (size_t i = 0; i < table->len; i++) {
        const struct method *m = &table->methods[i];
        g->cells[method_index(m)] = (struct method_cells){
            .ok = metric_cell(g->metrics, M_REQUESTS, m->name, "ok"),
            .duration = metric_histogram(g->metrics, M_REQUEST_DURATION, m->name),
        };
    }
}

// ---- peers ----

static void verdict_changed(void *ctx)
{
    struct gateway *g = ctx;
    const Berth__Verdict *v = verdict_watch_fresh(g->verdict);
    log_info("verdict.seen", LOG_S("fresh", v ? "yes" : "no"),
             LOG_S("reason", v ? v->reason : "trust unavailable"));
}

static int start_peers(struct gateway *g, struct error *err)
{
    const ProtobufCServiceDescriptor *services[GATEWAY_PEERS] = {&berth__pool__descriptor,
                                                                 &berth__borrow__descriptor};
    const char *urls[GATEWAY_PEERS] = {g->config->rpc.pool, g->config->rpc.borrow};
    const char *unbatched = getenv("BERTH_RPC_UNBATCHED");
    for (size_t i = 0; i < GATEWAY_PEERS; i++) {
        struct rpc_metrics cells = rpc_cells(g, peer_names[i]);
        int r = rpc_client_new(&g->peers[i], g->loop, urls[i], BERTH__ROLE__GATEWAY, services[i],
                               peer_names[i], RPC_TIMEOUT_MS, &cells);
        if (r) {
            error_set(err, "rpc.%s: %s: %s", peer_names[i], urls[i], strerror(-r));
            return r;
        }
        if (unbatched && !strcmp(unbatched, "1"))
            rpc_client_set_batching(g->peers[i], false);
    }
    struct rpc_metrics cells = rpc_cells(g, "trust");
    int r = verdict_watch_new(&g->verdict, g->loop, g->config->rpc.trust, BERTH__ROLE__GATEWAY,
                              &cells, verdict_changed, g);
    if (r)
        error_set(err, "rpc.trust: %s: %s", g->config->rpc.trust, strerror(-r));
    return r;
}

// ---- listeners ----

static struct http_tls licenses_tls(const struct config *config)
{
    const struct config_tls *tls = &config->serve.licenses.tls;
    return (struct http_tls){tls->certificate, tls->key, tls->client_ca, tls->client_ca != NULL};
}

// The client CA is only ever serve.admin.client_ca: a certificate of it gives admin rights, one of
// serve.licenses.tls.client_ca does not.
static struct http_tls admin_tls(const struct config *config)
{
    const struct config_tls *own = &config->serve.admin.tls;
    const struct config_tls *tls = own->certificate ? own : &config->serve.licenses.tls;
    return (struct http_tls){tls->certificate, tls->key, config->serve.admin.client_ca, false};
}

// As many connections as there are descriptors for, after asking for all that we may have.
static unsigned connections_max(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return 512;
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit more = {limit.rlim_max, limit.rlim_max};
        if (!setrlimit(RLIMIT_NOFILE, &more))
            limit = more;
    }
    if (limit.rlim_cur >= CONNECTIONS_MAX + ADMIN_CONNECTIONS + DESCRIPTORS_SPARE)
        return CONNECTIONS_MAX;
    rlim_t taken = ADMIN_CONNECTIONS + DESCRIPTORS_SPARE;
    return limit.rlim_cur > 2 * taken ? (unsigned)(limit.rlim_cur - taken)
                                      : (unsigned)(limit.rlim_cur / 2);
}

static int listen_on(struct gateway *g, struct http_server **out, const char *host, uint16_t port,
                     const struct http_tls *tls, const struct http_route *routes,
                     unsigned connections, struct error *err)
{
    const struct http_server_options options = {
        .host = host,
        .port = port,
        .tls = tls,
        .limits = {.max_body_bytes = BODY_MAX,
                   .connections = connections,
                   .connections_per_address = g->config->limits.connections_per_address,
                   .header_deadline_ms = 10000,
                   .request_deadline_ms = 15000,
                   .idle_ms = 60000},
        .routes = routes,
        .ctx = g,
        .refused = access_refused,
    };
    return http_server_new(out, g->loop, &options, err);
}

static int start_listeners(struct gateway *g, struct error *err)
{
    const struct config *c = g->config;
    struct http_tls tls = licenses_tls(c);
    int r = listen_on(g, &g->licenses, c->serve.licenses.host, c->serve.licenses.port, &tls,
                      licenses_routes, connections_max(), err);
    if (r) {
        error_prefix(err, "serve.licenses");
        return r;
    }
    log_info("http.listening", LOG_S("listener", "licenses"), LOG_S("host", c->serve.licenses.host),
             LOG_I("port", http_server_port(g->licenses)));
    if (!c->serve.admin.enabled)
        return 0;
    tls = admin_tls(c);
    r = listen_on(g, &g->admin, c->serve.admin.host, c->serve.admin.port, &tls, admin_routes,
                  ADMIN_CONNECTIONS, err);
    if (r) {
        error_prefix(err, "serve.admin");
        return r;
    }
    log_info("http.listening", LOG_S("listener", "admin"), LOG_S("host", c->serve.admin.host),
             LOG_I("port", http_server_port(g->admin)));
    return 0;
}

// ---- the daemon's calls ----

static int load_tokens(const struct config *config, struct token *admin, struct token *borrow,
                       struct error *err)
{
    int r = 0;
    if (config->serve.admin.enabled)
        r = token_load(admin, config->serve.admin.token_file, "serve.admin.token_file", err);
    if (!r)
        r = token_load(borrow, config->borrow.token_file, "borrow.token_file", err);
    return r;
}

static int start_all(struct gateway *g, struct error *err)
{
    uint64_t seed;
    crypto_random(&seed, sizeof seed);
    g->metrics = metrics_new(metric_defs, GATEWAY_METRICS);
    g->ratelimit = ratelimit_new(RATELIMIT_ADDRESSES, seed);
    ratelimit_set(g->ratelimit, g->config->limits.calls_per_second, g->config->limits.burst);
    g->ops_storage = (struct ops){g->metrics, health_conditions, g};
    g->ops = &g->ops_storage;
    make_cells(g, &methods_licenses);
    make_cells(g, &methods_admin);
    if (load_tokens(g->config, &g->admin_token, &g->borrow_token, err))
        return DAEMON_EXIT_CONFIG;
    if (start_peers(g, err))
        return DAEMON_EXIT_CONFIG;
    int r = start_listeners(g, err);
    if (r)
        return r == -EADDRINUSE || r == -EMFILE ? DAEMON_EXIT_FAULT : DAEMON_EXIT_CONFIG;
    metrics_on_collect(g->metrics, collect, g);
    return 0;
}

int gateway_start(struct loop *loop, const struct config *config, void **service,
                  struct error *err)
{
    struct gateway *g = calloc(1, sizeof *g);
    if (!g)
        abort();
    g->loop = loop;
    g->config = config;
    int r = start_all(g, err);
    if (r) {
        gateway_free(g);
        return r;
    }
    *service = g;
    return 0;
}

// Both listeners, or neither.
static int reload_tls(struct gateway *g, const struct config *config, struct error *err)
{
    struct http_tls tls = licenses_tls(config);
    int r = http_server_reload_tls(g->licenses, &tls, err);
    if (r || !g->admin)
        return r;
    tls = admin_tls(config);
    r = http_server_reload_tls(g->admin, &tls, err);
    if (r) {
        struct error ignored;
        tls = licenses_tls(g->config);
        if (http_server_reload_tls(g->licenses, &tls, &ignored))
            log_error("tls.not-restored", LOG_S("msg", ignored.text));
    }
    return r;
}

int gateway_reload(void *service, const struct config *config, struct error *err)
{
    struct gateway *g = service;
    struct token admin = {0}, borrow = {0};
    int r = load_tokens(config, &admin, &borrow, err);
    if (!r)
        r = reload_tls(g, config, err);
    if (r)
        return r;
    g->admin_token = admin;
    g->borrow_token = borrow;
    g->config = config;
    ratelimit_set(g->ratelimit, config->limits.calls_per_second, config->limits.burst);
    return 0;
}

static void drained(void *ctx)
{
    struct gateway *g = ctx;
    if (--g->draining == 0)
        daemon_stopped(g->loop);
}

void gateway_stop(void *service)
{
    struct gateway *g = service;
    struct mono_time deadline = mono_after(loop_now(g->loop), DRAIN_MS);
    g->draining = g->admin ? 2 : 1;
    // The health of a process that is ending can be asked until the end of its clients' requests.
    http_server_drain(g->licenses, deadline, drained, g);
    if (g->admin)
        http_server_drain(g->admin, deadline, drained, g);
}

void gateway_free(void *service)
{
    struct gateway *g = service;
    // Calls that are still out fail now, and so answer their requests while the listeners exist.
    for (size_t i = 0; i < GATEWAY_PEERS; i++) {
        if (g->peers[i])
            rpc_client_free(&g->peers[i]);
    }
    if (g->verdict)
        verdict_watch_free(&g->verdict);
    if (g->admin)
        http_server_free(&g->admin);
    if (g->licenses)
        http_server_free(&g->licenses);
    exchange_free_spare(g);
    ratelimit_free(&g->ratelimit);
    metrics_free(&g->metrics);
    free(g);
}

bool gateway_ready(void *service)
{
    struct gateway *g = service;
    return ops_ready(g->ops);
}
