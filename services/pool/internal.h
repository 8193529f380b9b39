// Shared by service.c (life), handlers.c (RPC) and report.c (metrics, health, log).
#pragma once

#include "common/clock.h"
#include "common/core/license_block.h"
#include "common/ops.h"
#include "common/rpc.h"
#include "common/verdict_watch.h"
#include "pool.pb-c.h"
#include "services/pool/core/pool.h"
#include "services/pool/scan.h"
#include "services/pool/watcher.h"

#define METRIC(id, type, name, labels, help) M_##id,
enum pool_metric {
#include "services/pool/metrics.def"
    M_COUNT
};
#undef METRIC

struct pool_service {
    struct ops ops; // first: the listener's handlers expect it there
    Berth__Pool_Service rpc;
    struct loop *loop;
    struct metrics *metrics;
    struct pool *pool;
    struct rpc_server *server; // NULL until licenses were looked at
    struct rpc_metrics rpc_metrics;
    char *rpc_url;
    struct verdict_watch *verdict;
    struct http_server *listener;
    struct watcher *watcher;
    struct crypto_ca *vendor_ca;
    struct loop_timer tick;
    bool loaded; // license files were looked at with the keys of a verdict
    uint8_t keys_digest[32];
    unsigned refused[LICENSE_REFUSALS];
};

static inline struct pool_now service_now(const struct pool_service *s)
{
    return (struct pool_now){clock_wall(), loop_now(s->loop)};
}

// handlers.c: s->rpc, ready for rpc_server_new.
void handlers_init(struct pool_service *s);

// report.c
extern const struct metric_def pool_metric_defs[];
void report_collect(void *ctx);
size_t report_conditions(void *ctx, struct ops_condition *out, size_t max);
// Logs what the new catalog is.
void report_catalog(struct pool_service *s);
