// The RPC service: publishes the verdict to whoever long-polls for it.
#pragma once

#include "common/loop.h"
#include "common/rpc.h"
#include "trust.pb-c.h"

struct watch;

int watch_new(struct watch **out, struct loop *loop, const char *url,
              const struct rpc_metrics *metrics);
void watch_free(struct watch **watch); // those who wait get the last verdict first
// The verdict from now on; it and what it points to are the caller's and stay until the next call.
// A generation that is new is told to all who wait, at once.
void watch_publish(struct watch *watch, const Berth__Verdict *verdict);
size_t watch_waiting(const struct watch *watch);
