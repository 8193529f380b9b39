// The state of the gateway, shared by its files only. The gateway keeps nothing about licenses and
// sessions: it translates between HTTPS and the other processes.
#pragma once

#include "common/config.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/ops.h"
#include "common/rpc.h"
#include "common/verdict_watch.h"
#include "services/gateway/core/ratelimit.h"
#include "services/gateway/secrets.h"
#include "services/gateway/tokens.h"

#define METRIC(id, type, name, labels, help) M_##id,
enum gateway_metric {
#include "services/gateway/metrics.def"
    GATEWAY_METRICS
};
#undef METRIC

enum gateway_peer { PEER_POOL, PEER_BORROW, GATEWAY_PEERS };

#define REFUSAL_KINDS 48

// How often one kind of refusal was logged in this second.
struct refusal_kind {
    const char *name;
    struct mono_time second;
    unsigned logged, held_back;
};

struct exchange;

// What every answered call counts, looked up once.
struct method_cells {
    struct metric_cell *ok;
    struct metric_histogram *duration;
};

#define METHODS_MAX 16 // of all tables together (methods.h)

struct gateway {
    struct ops *ops; // first: http_server's ctx is this struct (ops.h)
    struct ops ops_storage;
    struct loop *loop;
    const struct config *config;
    struct metrics *metrics;
    struct rpc_client *peers[GATEWAY_PEERS];
    struct verdict_watch *verdict;
    struct http_server *licenses, *admin; // admin NULL: `berth serve licenses`
    struct ratelimit *ratelimit;
    struct ratelimit *misses; // session IDs that do not exist
    struct token admin_token, borrow_token;
    struct secrets secrets;
    struct method_cells cells[METHODS_MAX];
    struct refusal_kind refusals[REFUSAL_KINDS];
    struct exchange *spare; // exchanges to be used again
    unsigned spare_len;
    unsigned draining; // listeners that have not drained yet
};
