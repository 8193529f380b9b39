#include "common/verdict_watch.h"

#include "common/clock.h"
#include "common/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRESH_MS 3000
#define CALL_TIMEOUT_MS 2500 // trust answers within a second
#define RETRY_MS 250
#define QUICK_MS 50 // an answer without news that comes sooner than this is not asked again at once

struct verdict_watch {
    struct loop *loop;
    struct rpc_client *client;
    void (*changed)(void *ctx);
    void *ctx;
    Berth__Verdict *verdict;
    struct mono_time sent_at, fresh_until;
    struct loop_timer again, stale;
    bool was_fresh, has_issued;
    struct wall_time issued;
};

static void ask(void *ctx);

static bool is_fresh(const struct verdict_watch *w)
{
    return w->verdict && clock_mono().ms < w->fresh_until.ms;
}

static void on_stale(void *ctx)
{
    struct verdict_watch *w = ctx;
    if (is_fresh(w)) { // timers may be early by less than a millisecond
        loop_timer_arm(w->loop, &w->stale, w->fresh_until);
        return;
    }
    w->was_fresh = false;
    log_warn("verdict.stale",
             LOG_S("msg", "trust has not answered for 3 seconds: nothing is issued"));
    w->changed(w->ctx);
}

static void verdict_keep(struct verdict_watch *w, const Berth__Verdict *v)
{
    size_t size = berth__verdict__get_packed_size(v);
    uint8_t *bytes = malloc(size ? size : 1);
    if (!bytes)
        abort();
    berth__verdict__pack(v, bytes);
    Berth__Verdict *copy = berth__verdict__unpack(NULL, size, bytes);
    free(bytes);
    if (!copy)
        abort();
    if (w->verdict)
        berth__verdict__free_unpacked(w->verdict, NULL);
    w->verdict = copy;
}

static void on_verdict(const Berth__Verdict *v, void *closure_data)
{
    struct verdict_watch *w = closure_data;
    struct mono_time now = clock_mono();
    if (!v) {
        loop_timer_arm(w->loop, &w->again, mono_after(now, RETRY_MS));
        return;
    }
    bool news = !w->verdict || v->generation != w->verdict->generation;
    bool changed = news || !w->was_fresh;
    verdict_keep(w, v);
    w->fresh_until = mono_after(w->sent_at, FRESH_MS);
    w->was_fresh = true;
    loop_timer_arm(w->loop, &w->stale, w->fresh_until);
    // Not from inside: the answer in hand lives until this returns.
    int64_t took_ms = now.ms - w->sent_at.ms;
    loop_timer_arm(w->loop, &w->again, mono_after(now, news || took_ms >= QUICK_MS ? 0 : RETRY_MS));
    if (changed)
        w->changed(w->ctx);
}

static void ask(void *ctx)
{
    struct verdict_watch *w = ctx;
    Berth__WatchCall call = BERTH__WATCH_CALL__INIT;
    call.generation = is_fresh(w) ? w->verdict->generation : 0;
    call.has_issued_s = w->has_issued;
    call.issued_s = w->issued.s;
    w->sent_at = clock_mono();
    berth__trust__watch(rpc_client_service(w->client), &call, on_verdict, w);
}

int verdict_watch_new(struct verdict_watch **out, struct loop *loop, const char *trust_url,
                      Berth__Role role, const struct rpc_metrics *metrics,
                      void (*changed)(void *ctx), void *ctx)
{
    struct verdict_watch *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    w->loop = loop;
    w->changed = changed;
    w->ctx = ctx;
    loop_timer_init(&w->again, ask, w);
    loop_timer_init(&w->stale, on_stale, w);
    int r = rpc_client_new(&w->client, loop, trust_url, role, &berth__trust__descriptor, "trust",
                           CALL_TIMEOUT_MS, metrics);
    if (r) {
        free(w);
        return r;
    }
    loop_timer_arm(loop, &w->again, mono_after(clock_mono(), 10));
    *out = w;
    return 0;
}

void verdict_watch_free(struct verdict_watch **watch)
{
    struct verdict_watch *w = *watch;
    if (!w)
        return;
    rpc_client_free(&w->client);
    loop_timer_cancel(w->loop, &w->again);
    loop_timer_cancel(w->loop, &w->stale);
    if (w->verdict)
        berth__verdict__free_unpacked(w->verdict, NULL);
    free(w);
    *watch = NULL;
}

void verdict_watch_set_issued(struct verdict_watch *w, struct wall_time issued)
{
    w->has_issued = true;
    w->issued = issued;
}

const Berth__Verdict *verdict_watch_fresh(const struct verdict_watch *w)
{
    return is_fresh(w) ? w->verdict : NULL;
}

const Berth__Verdict *verdict_watch_last(const struct verdict_watch *w)
{
    return w->verdict;
}

bool verdict_watch_may_issue(const struct verdict_watch *w, Berth__Error *error)
{
    bool fresh = is_fresh(w);
    if (fresh && w->verdict->state != BERTH__STATE__INVALID)
        return true;
    berth__error__init(error);
    if (!fresh) {
        error->code = 1011;
        error->service = (char *)(uintptr_t)"trust";
        error->message = (char *)(uintptr_t)"trust, which watches the server license, does not "
                                            "answer; its log tells why";
        return false;
    }
    error->code = 1004;
    error->reason = w->verdict->reason;
    error->message = w->verdict->message && *w->verdict->message
                         ? w->verdict->message
                         : (char *)(uintptr_t)"the server license is not valid";
    return false;
}
