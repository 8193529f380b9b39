#include "services/trust/watch.h"

#include "common/clock.h"
#include "services/trust/refusal.h"

#include <stdlib.h>

#define WAIT_MS 1000
#define WAITERS_MAX 1024 // more are answered at once: nobody can make us hold more than this

struct waiter {
    Berth__Verdict_Closure closure;
    void *closure_data;
    struct mono_time deadline;
    struct waiter *next;
};

struct watch {
    struct loop *loop;
    const Berth__Verdict *verdict;
    struct waiter *first, **last; // all wait equally long: the oldest deadline is first
    size_t waiting;
    struct loop_timer timer;
};

static void answer_first(struct watch *w)
{
    struct waiter *waiter = w->first;
    w->first = waiter->next;
    if (w->first == NULL)
        w->last = &w->first;
    w->waiting--;
    waiter->closure(w->verdict, waiter->closure_data);
    free(waiter);
}

static void answer_due(void *ctx)
{
    struct watch *w = ctx;
    struct mono_time now = clock_mono();
    while (w->first != NULL && w->first->deadline.ms <= now.ms)
        answer_first(w);
    if (w->first != NULL)
        loop_timer_arm(w->loop, &w->timer, w->first->deadline);
}

void watch_call(struct watch *w, const Berth__WatchCall *call, Berth__Verdict_Closure closure,
                void *closure_data)
{
    if (w->verdict == NULL)
        return refuse_unavailable(closure_data, "trust", "There is no verdict yet.");
    if (call->generation != w->verdict->generation || w->waiting >= WAITERS_MAX) {
        closure(w->verdict, closure_data);
        return;
    }
    struct waiter *waiter = calloc(1, sizeof *waiter);
    if (waiter == NULL)
        abort();
    waiter->closure = closure;
    waiter->closure_data = closure_data;
    waiter->deadline = mono_after(clock_mono(), WAIT_MS);
    *w->last = waiter;
    w->last = &waiter->next;
    if (w->waiting++ == 0)
        loop_timer_arm(w->loop, &w->timer, waiter->deadline);
}

void watch_new(struct watch **out, struct loop *loop)
{
    struct watch *w = calloc(1, sizeof *w);
    if (w == NULL)
        abort();
    w->loop = loop;
    w->last = &w->first;
    loop_timer_init(&w->timer, answer_due, w);
    *out = w;
}

void watch_free(struct watch **watch)
{
    struct watch *w = *watch;
    if (w == NULL)
        return;
    while (w->first != NULL)
        answer_first(w);
    loop_timer_cancel(w->loop, &w->timer);
    free(w);
    *watch = NULL;
}

void watch_publish(struct watch *watch, const Berth__Verdict *verdict)
{
    watch->verdict = verdict;
    // Only those who wait now: an answer may bring the next call at once.
    for (size_t n = watch->waiting; n > 0; n--)
        answer_first(watch);
    if (watch->first == NULL)
        loop_timer_cancel(watch->loop, &watch->timer);
}

size_t watch_waiting(const struct watch *watch)
{
    return watch->waiting;
}
