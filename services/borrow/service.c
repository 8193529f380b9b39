#include "services/borrow/service.h"

#include "common/daemon.h"
#include "common/log.h"
#include "common/vendor_ca.h"
#include "services/borrow/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRUST_TIMEOUT_MS 5000 // trust gives up on the backend after 3 s

#define METRIC(id, type, name, labels, help) {type, name, labels, help},
static const struct metric_def metric_defs[] = {
#include "services/borrow/metrics.def"
};
#undef METRIC

// ---- operations ----

static void condition(struct ops_condition *out, const char *name, bool ok, const char *reason)
{
    *out = (struct ops_condition){.name = name, .ok = ok};
    snprintf(out->reason, sizeof out->reason, "%s", ok ? "" : reason);
}

static size_t conditions(void *ctx, struct ops_condition *out, size_t max)
{
    const struct borrow *b = ctx;
    if (max < 3)
        return 0;
    condition(&out[0], "trust", verdict_watch_fresh(b->verdict) != NULL,
              "no fresh verdict from trust");
    condition(&out[1], "ledger", keeper_is_open(b->keeper),
              "the ledger is not open: trust has not told yet what the backend remembers of it");
    condition(&out[2], "pool", pool_link_in_step(b->pool), "pool does not know the borrows yet");
    return 3;
}

static void collect(void *ctx)
{
    struct borrow *b = ctx;
    metric_set(b->metrics, M_VERDICT_FRESH, verdict_watch_fresh(b->verdict) != NULL);
    metric_set(b->metrics, M_BORROWS_ACTIVE, (double)book_active(&b->book, clock_wall()));
    metric_set(b->metrics, M_LEDGER_SEQUENCE, (double)keeper_sequence(b->keeper));
    metric_set(b->metrics, M_LEDGER_CONFIRMED, keeper_is_confirmed(b->keeper));
}

// ---- what others say ----

static void verdict_changed(void *ctx)
{
    struct borrow *b = ctx;
    const Berth__Verdict *v = verdict_watch_last(b->verdict);
    if (v)
        keeper_verdict(b->keeper, v);
}

static void trust_connected(void *ctx)
{
    struct borrow *b = ctx;
    keeper_present(b->keeper);
}

// Calls are taken from the moment on when they can be answered.
static void opened(void *ctx)
{
    struct borrow *b = ctx;
    pool_link_begin(b->pool);
    int r = rpc_server_new(&b->server, b->loop, b->rpc_url, &b->rpc.base, &b->rpc_metrics);
    if (r) {
        struct error err;
        error_set(&err, "rpc.borrow: cannot listen at %s: %s", b->rpc_url, strerror(-r));
        daemon_fail(b->loop, DAEMON_EXIT_FAULT, err.text);
    }
}

// ---- life ----

static void settings(struct borrow *b, const struct config *config)
{
    b->max_period_s = config->borrow.max_period_ms / 1000;
    b->max_ahead_s = config->borrow.max_ahead_ms / 1000;
}

// Without the addon nothing needs to be verified, so that only then a missing CA is a fault.
static int load_vendor_ca(struct borrow *b, const struct config *config, struct error *err)
{
    const char *pem = vendor_ca_compiled_in;
    struct error why = {""};
    if (pem)
        return crypto_ca_load_pem(&b->vendor_ca, pem, strlen(pem), err);
    if (config->trust.vendor_ca &&
        crypto_ca_load_file(&b->vendor_ca, config->trust.vendor_ca, &why))
        log_warn("vendor_ca.unreadable", LOG_S("file", config->trust.vendor_ca),
                 LOG_S("error", why.text));
    return 0;
}

static int connect_others(struct borrow *b, const struct config *config, struct error *err)
{
    int r = rpc_client_new(&b->trust, b->loop, config->rpc.trust, BERTH__ROLE__BORROW,
                           &berth__trust__descriptor, "trust", TRUST_TIMEOUT_MS, &b->rpc_metrics);
    if (!r)
        r = verdict_watch_new(&b->verdict, b->loop, config->rpc.trust, BERTH__ROLE__BORROW,
                              &b->rpc_metrics, verdict_changed, b);
    if (r)
        return error_set(err, "rpc.trust: %s: %s", config->rpc.trust, strerror(-r)), r;
    r = pool_link_new(&b->pool, b->loop, config->rpc.pool, &b->rpc_metrics, &b->book,
                      lend_pool_changed, b);
    if (r)
        error_set(err, "rpc.pool: %s: %s", config->rpc.pool, strerror(-r));
    return r;
}

static int start(struct borrow *b, const struct config *config, struct error *err)
{
    if (load_vendor_ca(b, config, err))
        return DAEMON_EXIT_CONFIG;
    if (connect_others(b, config, err))
        return DAEMON_EXIT_FAULT;
    const struct keeper_setup setup = {
        .loop = b->loop,
        .trust = b->trust,
        .book = &b->book,
        .directory = config->borrow.directory,
        .vendor_ca = b->vendor_ca,
        .io = &store_io_system,
        .write_duration = metric_histogram(b->metrics, M_LEDGER_WRITE_DURATION),
        .opened = opened,
        .settled = lend_settled,
        .ctx = b,
    };
    keeper_new(&b->keeper, &setup);
    rpc_client_on_connect(b->trust, trust_connected, b);
    return ops_listen(&b->listener, b->loop, config->ops.borrow, &b->ops, err) ? DAEMON_EXIT_FAULT
                                                                               : 0;
}

int borrow_start(struct loop *loop, const struct config *config, void **service, struct error *err)
{
    struct borrow *b = calloc(1, sizeof *b);
    if (!b)
        abort();
    b->loop = loop;
    b->rpc_url = strdup(config->rpc.borrow);
    b->metrics = metrics_new(metric_defs, M_COUNT);
    b->rpc_metrics = (struct rpc_metrics){
        .frames_sent = metric_cell(b->metrics, M_RPC_FRAMES_SENT),
        .frames_received = metric_cell(b->metrics, M_RPC_FRAMES_RECEIVED),
        .calls = metric_cell(b->metrics, M_RPC_CALLS),
        .errors = metric_cell(b->metrics, M_RPC_ERRORS),
        .reconnects = metric_cell(b->metrics, M_RPC_RECONNECTS),
    };
    b->ops = (struct ops){.metrics = b->metrics, .conditions = conditions, .ctx = b};
    metrics_on_collect(b->metrics, collect, b);
    handlers_init(b);
    lend_init(b);
    settings(b, config);
    int r = start(b, config, err);
    if (r)
        borrow_free(b);
    else
        *service = b;
    return r;
}

int borrow_reload(void *service, const struct config *config, struct error *err)
{
    (void)err;
    settings(service, config);
    return 0;
}

void borrow_free(void *service)
{
    struct borrow *b = service;
    http_server_free(&b->listener);
    lend_stop(b);
    rpc_server_free(&b->server);
    if (b->keeper)
        keeper_stop(b->keeper);
    pool_link_free(&b->pool);
    verdict_watch_free(&b->verdict);
    rpc_client_free(&b->trust);
    keeper_free(&b->keeper);
    book_fini(&b->book);
    crypto_ca_free(&b->vendor_ca);
    metrics_free(&b->metrics);
    free((char *)(uintptr_t)b->rpc_url);
    free(b);
}

int borrow_health(const struct config *config, bool alive)
{
    return ops_health_check(config->ops.borrow, alive);
}

bool borrow_ready(void *service)
{
    struct borrow *b = service;
    return ops_ready(&b->ops);
}
