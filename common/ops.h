// What operations people ask any process: /health/alive, /health/ready, /metrics (api.md).
#pragma once

#include "common/http_server.h"
#include "common/metrics.h"

struct ops_condition {
    const char *name;
    bool ok;
    char reason[160]; // empty when ok
};

struct ops {
    struct metrics *metrics;
    // Fills at most max conditions, returns how many. Called on the loop.
    size_t (*conditions)(void *ctx, struct ops_condition *out, size_t max);
    void *ctx;
    struct ops *self; // set by ops_listen: what its handlers get
};

bool ops_ready(const struct ops *ops);

// The body of /health/ready.
void ops_ready_json(const struct ops *ops, struct buf *out);

// Handlers for a route table; ctx of the server must begin with a struct ops *.
void ops_alive(struct http_request *r, void *ctx);
void ops_ready_handler(struct http_request *r, void *ctx);
void ops_metrics(struct http_request *r, void *ctx);

// The plain-HTTP listener of pool, trust, borrow at "host:port". ops must outlive it.
int ops_listen(struct http_server **out, struct loop *loop, const char *address, struct ops *ops,
               struct error *err);
// The `health` argument of the binaries: asks /health/ready of address over plain HTTP, prints
// what is not ok. Returns the exit code: 0 ready, 1 not. `alive` asks /health/alive instead.
int ops_health_check(const char *address, bool alive);
// Prints (to stderr) the conditions that are not ok in the body of /health/ready.
void ops_print_conditions(const char *body, size_t len);
