// Publishes the verdict to whoever long-polls for it.
#pragma once

#include "common/loop.h"
#include "trust.pb-c.h"

struct watch;

void watch_new(struct watch **out, struct loop *loop);
void watch_free(struct watch **watch); // those who wait get the last verdict first
// Answers exactly once: at once, on a change, or after a second.
void watch_call(struct watch *watch, const Berth__WatchCall *call, Berth__Verdict_Closure closure,
                void *closure_data);
// The verdict from now on; it and what it points to are the caller's and stay until the next call.
// A generation that is new is told to all who wait, at once.
void watch_publish(struct watch *watch, const Berth__Verdict *verdict);
size_t watch_waiting(const struct watch *watch);
