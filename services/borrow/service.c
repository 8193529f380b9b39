#include "services/borrow/service.h"

#include "borrow.pb-c.h"
#include "common/ops.h"
#include "common/rpc.h"
#include "common/verdict_watch.h"
#include "services/borrow/pool_link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Error codes of api.md that this service answers with.
enum { BORROW_NOT_ALLOWED = 1005, NOT_FOUND = 1008 };

#define METRIC(id, type, name, labels, help) M_##id,
enum borrow_metric {
#include "services/borrow/metrics.def"
    M_COUNT
};
#undef METRIC

#define METRIC(id, type, name, labels, help) {type, name, labels, help},
static const struct metric_def metric_defs[] = {
#include "services/borrow/metrics.def"
};
#undef METRIC

struct borrow {
    struct ops ops; // first: the ops handlers find it there
    Berth__Borrow_Service rpc;
    struct metrics *metrics;
    struct verdict_watch *verdict;
    struct rpc_server *server;
    struct http_server *listener;
    struct book book;
    struct pool_link *pool;
};

// The generated table hands its own address back; the service lies around it.
static struct borrow *borrow_of(Berth__Borrow_Service *rpc)
{
    return (struct borrow *)(void *)((char *)rpc - offsetof(struct borrow, rpc));
}

static void refuse(struct borrow *b, void *closure_data, const Berth__Error *error)
{
    char code[16];
    snprintf(code, sizeof code, "%d", error->code);
    metric_add(b->metrics, M_BORROWS_REFUSED, 1, code);
    rpc_fail(closure_data, error);
}

static void list_borrowed(Berth__Borrow_Service *rpc, const Berth__Empty *input,
                          Berth__ListBorrowedReply_Closure closure, void *closure_data)
{
    (void)rpc, (void)input;
    Berth__ListBorrowedReply reply = BERTH__LIST_BORROWED_REPLY__INIT;
    closure(&reply, closure_data);
}

static bool has_addon(const Berth__Verdict *verdict)
{
    for (size_t i = 0; verdict && i < verdict->n_addons; i++) {
        if (!strcmp(verdict->addons[i], "borrow"))
            return true;
    }
    return false;
}

static void borrow_license(Berth__Borrow_Service *rpc, const Berth__BorrowLicenseCall *input,
                           Berth__BorrowedLicense_Closure closure, void *closure_data)
{
    (void)input, (void)closure;
    struct borrow *b = borrow_of(rpc);
    Berth__Error error = BERTH__ERROR__INIT;
    static char addon_reason[] = "addon";
    static char addon_message[] = "The server license has no addon 'borrow': "
                                  "ask the software vendor for one.";
    static char version_reason[] = "version";
    static char version_message[] = "This version of the server does not lend licenses yet.";
    if (verdict_watch_may_issue(b->verdict, &error)) {
        bool addon = has_addon(verdict_watch_fresh(b->verdict));
        error.code = BORROW_NOT_ALLOWED;
        error.reason = addon ? version_reason : addon_reason;
        error.message = addon ? version_message : addon_message;
    }
    refuse(b, closure_data, &error);
}

static void get_borrowed(Berth__Borrow_Service *rpc, const Berth__GetBorrowedCall *input,
                         Berth__BorrowedLicense_Closure closure, void *closure_data)
{
    (void)input, (void)closure;
    Berth__Error error = BERTH__ERROR__INIT;
    error.code = NOT_FOUND;
    static char message[] = "There is no borrow with this ID; "
                            "ListBorrowedLicensesV1 lists those that there are.";
    error.message = message;
    refuse(borrow_of(rpc), closure_data, &error);
}

static size_t conditions(void *ctx, struct ops_condition *out, size_t max)
{
    struct borrow *b = ctx;
    if (max < 2)
        return 0;
    out[0] = (struct ops_condition){.name = "trust", .ok = verdict_watch_fresh(b->verdict) != NULL};
    if (!out[0].ok)
        snprintf(out[0].reason, sizeof out[0].reason, "no fresh verdict from trust");
    out[1] = (struct ops_condition){.name = "pool", .ok = pool_link_in_step(b->pool)};
    if (!out[1].ok)
        snprintf(out[1].reason, sizeof out[1].reason, "pool does not know the borrows yet");
    return 2;
}

static void collect(void *ctx)
{
    struct borrow *b = ctx;
    metric_set(b->metrics, M_VERDICT_FRESH, verdict_watch_fresh(b->verdict) != NULL);
    metric_set(b->metrics, M_BORROWS_ACTIVE, 0);
}

static void verdict_changed(void *ctx)
{
    (void)ctx; // the verdict is looked at when it is needed
}

static void pool_changed(void *ctx)
{
    (void)ctx;
}

static void borrow_init(struct borrow *b)
{
    berth__borrow__init(&b->rpc, NULL);
    b->rpc.list_borrowed = list_borrowed;
    b->rpc.borrow_license = borrow_license;
    b->rpc.get_borrowed = get_borrowed;
    b->metrics = metrics_new(metric_defs, M_COUNT);
    metrics_on_collect(b->metrics, collect, b);
    b->ops = (struct ops){.metrics = b->metrics, .conditions = conditions, .ctx = b};
}

int borrow_start(struct loop *loop, const struct config *config, void **service, struct error *err)
{
    struct borrow *b = calloc(1, sizeof *b);
    if (!b)
        abort();
    borrow_init(b);
    const struct rpc_metrics rpc_metrics = {
        .frames_sent = metric_cell(b->metrics, M_RPC_FRAMES_SENT),
        .frames_received = metric_cell(b->metrics, M_RPC_FRAMES_RECEIVED),
        .calls = metric_cell(b->metrics, M_RPC_CALLS),
        .errors = metric_cell(b->metrics, M_RPC_ERRORS),
        .reconnects = metric_cell(b->metrics, M_RPC_RECONNECTS),
    };
    int r = verdict_watch_new(&b->verdict, loop, config->rpc.trust, BERTH__ROLE__BORROW,
                              &rpc_metrics, verdict_changed, b);
    if (!r) {
        r = rpc_server_new(&b->server, loop, config->rpc.borrow, &b->rpc.base, &rpc_metrics);
        if (r)
            error_set(err, "rpc.borrow: cannot listen at %s: %s", config->rpc.borrow, strerror(-r));
    }
    if (!r) {
        r = pool_link_new(&b->pool, loop, config->rpc.pool, &rpc_metrics, &b->book, pool_changed,
                          b);
        if (r)
            error_set(err, "rpc.pool: %s: %s", config->rpc.pool, strerror(-r));
    }
    if (!r)
        r = ops_listen(&b->listener, loop, config->ops.borrow, &b->ops, err);
    if (r) {
        borrow_free(b);
        return 1;
    }
    pool_link_begin(b->pool);
    *service = b;
    return 0;
}

void borrow_free(void *service)
{
    struct borrow *b = service;
    http_server_free(&b->listener);
    rpc_server_free(&b->server);
    verdict_watch_free(&b->verdict);
    pool_link_free(&b->pool);
    book_fini(&b->book);
    metrics_free(&b->metrics);
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
