// Shared by service.c (life), handlers.c (RPC) and lend.c (the way of one borrow).
#pragma once

#include "borrow.pb-c.h"
#include "common/clock.h"
#include "common/config.h"
#include "common/ops.h"
#include "common/rpc.h"
#include "common/verdict_watch.h"
#include "services/borrow/keeper.h"
#include "services/borrow/pool_link.h"

#include <sys/queue.h>

#define METRIC(id, type, name, labels, help) M_##id,
enum borrow_metric {
#include "services/borrow/metrics.def"
    M_COUNT
};
#undef METRIC

struct lending;
TAILQ_HEAD(lending_list, lending);

struct borrow {
    struct ops ops; // first: the ops handlers find it there
    Berth__Borrow_Service rpc;
    struct loop *loop;
    const char *rpc_url;
    struct rpc_metrics rpc_metrics;
    struct metrics *metrics;
    struct verdict_watch *verdict;
    struct rpc_client *trust;
    struct rpc_server *server; // NULL until the ledger is open
    struct http_server *listener;
    struct crypto_ca *vendor_ca;
    struct keeper *keeper;
    struct pool_link *pool;
    struct book book;
    int64_t max_period_s, max_ahead_s;

    struct lending_list lendings; // calls that wait, the oldest first
    struct loop_timer deadline;   // of the oldest
};

// The codes of api.md that this service answers with.
enum {
    INVALID_PARAMS = -32602,
    BORROW_NOT_ALLOWED = 1005,
    BORROW_PERIOD_INVALID = 1006,
    BORROW_NOT_AVAILABLE = 1007,
    NOT_FOUND = 1008,
    UNAUTHORIZED = 1009,
    UNAVAILABLE = 1011,
};

// handlers.c
void handlers_init(struct borrow *b);
bool may_call(struct borrow *b, void *closure_data); // false: refused already
void refuse(struct borrow *b, void *closure_data, const Berth__Error *error);
// With a message, and a service or reason ("" and NULL: none).
void refuse_with(struct borrow *b, void *closure_data, int code, const char *service,
                 const char *reason, const char *message);
void answer_borrowed(const struct book_entry *entry, Berth__BorrowedLicense_Closure closure,
                     void *closure_data);
// NULL, or the service that the borrow still waits for: its file must not be given out.
const char *entry_waits_for(const struct borrow *b, const struct book_entry *entry);

// lend.c
void lend_init(struct borrow *b);
void borrow_license(Berth__Borrow_Service *rpc, const Berth__BorrowLicenseCall *input,
                    Berth__BorrowedLicense_Closure closure, void *closure_data);
void lend_settled(void *ctx, enum keeper_outcome outcome, const Berth__Error *error);
void lend_pool_changed(void *ctx);
void lend_stop(struct borrow *b); // answers all calls that wait

static inline struct borrow *borrow_of(Berth__Borrow_Service *rpc)
{
    // The generated table hands its own address back; the service lies around it.
    return (struct borrow *)(void *)((char *)rpc - offsetof(struct borrow, rpc));
}
