#include "services/gateway/service.h"

#include "borrow.pb-c.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/daemon.h"
#include "common/log.h"
#include "pool.pb-c.h"
#include "services/gateway/access.h"
#include "services/gateway/exchange.h"
#include "services/gateway/health.h"
#include "services/gateway/listeners.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// Less than the 5 s in which every request is answered (api.md).
#define RPC_TIMEOUT_MS 4000
#define DRAIN_MS 4700
#define RATELIMIT_ADDRESSES 16384
// As many clients behind one address may find that their sessions are gone.
#define MISSES_BURST 5000
#define MISSES_PER_SECOND 100

#define METRIC(id, type, name, labels, help) {type, name, labels, help},
static const struct metric_def metric_defs[] = {
#include "services/gateway/metrics.def"
};
#undef METRIC

static const char *const peer_names[GATEWAY_PEERS] = {"pool", "borrow"};

// ---- metrics ----

static void collect_listener(struct gateway *g, const struct http_server *server, const char *name)
{
    if (!server)
        return;
    metric_set(g->metrics, M_HTTP_CONNECTIONS, http_server_connections(server), name);
    metric_set(g->metrics, M_HTTP_IDLE_CONNECTIONS, http_server_idle_connections(server), name);
    metric_set(g->metrics, M_TLS_EXPIRY,
               (double)(http_server_certificate_until(server).s - clock_wall().s), name);
}

static void collect(void *ctx)
{
    struct gateway *g = ctx;
    collect_listener(g, g->licenses, "licenses");
    collect_listener(g, g->admin, "admin");
    metric_set(g->metrics, M_RATELIMIT_ADDRESSES, (double)ratelimit_addresses(g->ratelimit));
    metric_set(g->metrics, M_VERDICT_FRESH, verdict_watch_fresh(g->verdict) != NULL);
    for (size_t i = 0; i < GATEWAY_PEERS; i++)
        metric_set(g->metrics, M_RPC_CONNECTED, rpc_client_answers(g->peers[i]), peer_names[i]);
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
        rpc_client_want_heartbeats(g->peers[i]);
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

// ---- certificates and tokens that were replaced ----

static int read_secrets(struct gateway *g, const struct config *config, struct error *err)
{
    struct token admin = {0}, borrow = {0};
    int r = load_tokens(config, &admin, &borrow, err);
    if (!r)
        r = listeners_reload(g, config, err);
    if (r)
        return r;
    g->admin_token = admin;
    g->borrow_token = borrow;
    return 0;
}

static void secrets_changed(void *ctx)
{
    struct gateway *g = ctx;
    struct error err = {{0}};
    int r = read_secrets(g, g->config, &err);
    metric_add(g->metrics, M_TLS_RELOADS, 1, r ? "refused" : "ok");
    if (r)
        log_error("secrets.refused", LOG_S("msg", err.text));
    else
        log_info("secrets.reloaded", LOG_S("msg", "certificates, keys or tokens had changed"));
}

static const struct config *secrets_config(void *ctx)
{
    return ((const struct gateway *)ctx)->config;
}

static void watch_secrets(struct gateway *g)
{
    g->secrets = (struct secrets){
        .loop = g->loop, .changed = secrets_changed, .config = secrets_config, .ctx = g};
    secrets_start(&g->secrets);
}

// ---- life ----

static int start_all(struct gateway *g, struct error *err)
{
    uint64_t seed;
    crypto_random(&seed, sizeof seed);
    g->metrics = metrics_new(metric_defs, GATEWAY_METRICS);
    g->ratelimit = ratelimit_new(RATELIMIT_ADDRESSES, seed);
    ratelimit_set(g->ratelimit, g->config->limits.calls_per_second, g->config->limits.burst);
    g->misses = ratelimit_new(RATELIMIT_ADDRESSES, seed);
    ratelimit_set(g->misses, MISSES_PER_SECOND, MISSES_BURST);
    g->ops_storage = (struct ops){g->metrics, health_conditions, g};
    g->ops = &g->ops_storage;
    make_cells(g, &methods_licenses);
    make_cells(g, &methods_admin);
    if (load_tokens(g->config, &g->admin_token, &g->borrow_token, err))
        return DAEMON_EXIT_CONFIG;
    if (start_peers(g, err))
        return DAEMON_EXIT_CONFIG;
    int r = listeners_start(g, err);
    if (r)
        return r == -EADDRINUSE || r == -EMFILE ? DAEMON_EXIT_FAULT : DAEMON_EXIT_CONFIG;
    metrics_on_collect(g->metrics, collect, g);
    watch_secrets(g);
    return 0;
}

int gateway_start(struct loop *loop, const struct config *config, void **service, struct error *err)
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

int gateway_reload(void *service, const struct config *config, struct error *err)
{
    struct gateway *g = service;
    int r = read_secrets(g, config, err);
    if (r)
        return r;
    g->config = config;
    secrets_known(&g->secrets);
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
    secrets_stop(&g->secrets);
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
    ratelimit_free(&g->misses);
    metrics_free(&g->metrics);
    free(g);
}

bool gateway_ready(void *service)
{
    struct gateway *g = service;
    return ops_ready(g->ops);
}
