// Follows trust's verdict as a lease (trust.md): long-polls Trust.Watch, and believes an answer for
// 3 s from the moment the call was sent, on CLOCK_BOOTTIME.
#pragma once

#include "common/rpc.h"
#include "trust.pb-c.h"

struct verdict_watch;

// changed(ctx) runs on the loop when the verdict changes, or becomes fresh or stale.
int verdict_watch_new(struct verdict_watch **out, struct loop *loop, const char *trust_url,
                      Berth__Role role, const struct rpc_metrics *metrics,
                      void (*changed)(void *ctx), void *ctx);
void verdict_watch_free(struct verdict_watch **w);

// For pool: the newest date of issue among the licenses that it accepted. Trust is told with the
// next call: that time is over, whatever the clock says.
void verdict_watch_set_issued(struct verdict_watch *w, struct wall_time issued);

// The fresh verdict, or NULL. Valid until the next loop turn.
const Berth__Verdict *verdict_watch_fresh(const struct verdict_watch *w);
// The last one ever heard, fresh or not; NULL if none.
const Berth__Verdict *verdict_watch_last(const struct verdict_watch *w);

// True: may issue. False: *error is filled with 1011 (service "trust") or 1004 (reason) and a
// message; its strings live until the next loop turn.
bool verdict_watch_may_issue(const struct verdict_watch *w, Berth__Error *error);
