#include "services/trust/watch.h"

#include "common/clock.h"

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
    Berth__Trust_Service service; // first: handlers get this as their service
    struct loop *loop;
    struct rpc_server *server;
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

static void on_watch(Berth__Trust_Service *service, const Berth__WatchCall *input,
                     Berth__Verdict_Closure closure, void *closure_data)
{
    struct watch *w = (struct watch *)service;
    if (w->verdict == NULL) {
        Berth__Error error = BERTH__ERROR__INIT;
        error.code = 1011;
        error.service = (char *)(uintptr_t)"trust";
        rpc_fail(closure_data, &error);
        return;
    }
    if (input->generation != w->verdict->generation || w->waiting >= WAITERS_MAX) {
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

int watch_new(struct watch **out, struct loop *loop, const char *url,
              const struct rpc_metrics *metrics)
{
    struct watch *w = calloc(1, sizeof *w);
    if (w == NULL)
        abort();
    berth__trust__init(&w->service, NULL);
    w->service.watch = on_watch;
    w->loop = loop;
    w->last = &w->first;
    loop_timer_init(&w->timer, answer_due, w);
    int r = rpc_server_new(&w->server, loop, url, &w->service.base, metrics);
    if (r < 0) {
        free(w);
        w = NULL;
    }
    *out = w;
    return r;
}

void watch_free(struct watch **watch)
{
    struct watch *w = *watch;
    if (w == NULL)
        return;
    while (w->first != NULL)
        answer_first(w);
    loop_timer_cancel(w->loop, &w->timer);
    rpc_server_free(&w->server);
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
