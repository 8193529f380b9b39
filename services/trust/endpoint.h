// The RPC service of trust: who may call what, and who carries it out.
#pragma once

#include "common/rpc.h"
#include "services/trust/head.h"
#include "services/trust/signer.h"
#include "services/trust/timekeeper.h"
#include "services/trust/watch.h"

struct endpoint_parts {
    struct watch *watch;
    struct head *head;
    const struct signer *signer;
    struct timekeeper *timekeeper;
};

struct endpoint;

// The parts stay the caller's, and where they are. refused() is told the name of a method that a
// process called which may not.
int endpoint_new(struct endpoint **out, struct loop *loop, const char *url,
                 const struct endpoint_parts *parts, const struct rpc_metrics *metrics,
                 void (*refused)(void *ctx, const char *method), void *ctx);
void endpoint_free(struct endpoint **endpoint);
