#include "common/loop.h"

#include "common/clock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define EVENTS_PER_WAIT 256
#define SIGNALS_MAX 65

struct loop {
    int epoll_fd;
    bool stopping;
    struct mono_time now;

    struct loop_fd wake; // eventfd of loop_post
    pthread_mutex_t posts_lock;
    struct loop_post *posts_first, *posts_last;
    struct loop_post *running; // taken off the list above, not run yet

    struct loop_timer **heap; // heap[1 … timers]; heap[0] is not used
    uint32_t timers, heap_cap;

    struct loop_hook *hooks[2];

    struct loop_fd signals;
    sigset_t signal_set;
    struct {
        void (*fn)(void *ctx);
        void *ctx;
    } signal_handlers[SIGNALS_MAX];

    // The events of the running turn, so that a handle deleted in a handler is not called any more.
    struct epoll_event events[EVENTS_PER_WAIT];
    int events_len, events_at;
};

// ---- posts ----

static struct loop_post *post_take(struct loop *loop)
{
    pthread_mutex_lock(&loop->posts_lock);
    struct loop_post *p = loop->running;
    if (p) {
        loop->running = p->next;
        p->queued = false;
    }
    pthread_mutex_unlock(&loop->posts_lock);
    return p;
}

static void run_posts(void *ctx, uint32_t events)
{
    struct loop *loop = ctx;
    uint64_t count;
    ssize_t n = read(loop->wake.fd, &count, sizeof count);
    (void)n; // nothing to read means that another turn was quicker
    (void)events;
    // What is posted while these run waits for the next turn. Taken one by one, so that one of them
    // may cancel (and free) another.
    pthread_mutex_lock(&loop->posts_lock);
    loop->running = loop->posts_first;
    loop->posts_first = loop->posts_last = NULL;
    pthread_mutex_unlock(&loop->posts_lock);
    struct loop_post *p;
    while ((p = post_take(loop)))
        p->fn(p->ctx);
}

void loop_post_cancel(struct loop *loop, struct loop_post *p)
{
    pthread_mutex_lock(&loop->posts_lock);
    if (p->queued) {
        struct loop_post **lists[] = {&loop->running, &loop->posts_first};
        for (int i = 0; i < 2; i++) {
            struct loop_post *before = NULL;
            for (struct loop_post **at = lists[i]; *at; before = *at, at = &(*at)->next) {
                if (*at != p)
                    continue;
                *at = p->next;
                if (loop->posts_last == p)
                    loop->posts_last = before;
                break;
            }
        }
        p->queued = false;
    }
    pthread_mutex_unlock(&loop->posts_lock);
}

void loop_post(struct loop *loop, struct loop_post *p)
{
    pthread_mutex_lock(&loop->posts_lock);
    bool was_empty = !loop->posts_first;
    if (!p->queued) {
        p->queued = true;
        p->next = NULL;
        if (loop->posts_last)
            loop->posts_last->next = p;
        else
            loop->posts_first = p;
        loop->posts_last = p;
    }
    pthread_mutex_unlock(&loop->posts_lock);
    if (was_empty) {
        uint64_t one = 1;
        ssize_t n = write(loop->wake.fd, &one, sizeof one);
        (void)n; // EAGAIN: the counter is full, so the loop wakes anyway
    }
}

// ---- timers: a binary heap ----

static void heap_put(struct loop *loop, uint32_t i, struct loop_timer *t)
{
    loop->heap[i] = t;
    t->heap_index = i;
}

static void heap_up(struct loop *loop, uint32_t i, struct loop_timer *t)
{
    while (i > 1 && loop->heap[i / 2]->when.ms > t->when.ms) {
        heap_put(loop, i, loop->heap[i / 2]);
        i /= 2;
    }
    heap_put(loop, i, t);
}

static void heap_down(struct loop *loop, uint32_t i, struct loop_timer *t)
{
    for (;;) {
        uint32_t child = 2 * i;
        if (child > loop->timers)
            break;
        if (child < loop->timers && loop->heap[child + 1]->when.ms < loop->heap[child]->when.ms)
            child++;
        if (loop->heap[child]->when.ms >= t->when.ms)
            break;
        heap_put(loop, i, loop->heap[child]);
        i = child;
    }
    heap_put(loop, i, t);
}

void loop_timer_init(struct loop_timer *t, void (*fn)(void *ctx), void *ctx)
{
    *t = (struct loop_timer){.fn = fn, .ctx = ctx};
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *t)
{
    if (!t->heap_index)
        return;
    uint32_t i = t->heap_index;
    t->heap_index = 0;
    struct loop_timer *last = loop->heap[loop->timers--];
    if (last == t)
        return;
    if (i > 1 && loop->heap[i / 2]->when.ms > last->when.ms)
        heap_up(loop, i, last);
    else
        heap_down(loop, i, last);
}

void loop_timer_arm(struct loop *loop, struct loop_timer *t, struct mono_time when)
{
    loop_timer_cancel(loop, t);
    if (loop->timers + 2 > loop->heap_cap) {
        loop->heap_cap = loop->heap_cap ? loop->heap_cap * 2 : 16;
        loop->heap = realloc(loop->heap, loop->heap_cap * sizeof *loop->heap);
        if (!loop->heap)
            abort();
    }
    t->when = when;
    heap_up(loop, ++loop->timers, t);
}

static void run_timers(struct loop *loop)
{
    // No more than there were at first, so that one that arms itself again cannot starve the rest.
    // A handler may free its timer.
    for (uint32_t n = loop->timers; n && loop->timers && loop->heap[1]->when.ms <= loop->now.ms;
         n--) {
        struct loop_timer *t = loop->heap[1];
        loop_timer_cancel(loop, t);
        t->fn(t->ctx);
    }
}

// ---- file descriptors ----

int loop_fd_add(struct loop *loop, struct loop_fd *h, int fd, uint32_t epoll_events,
                void (*fn)(void *ctx, uint32_t epoll_events), void *ctx)
{
    *h = (struct loop_fd){.fd = fd, .fn = fn, .ctx = ctx};
    struct epoll_event ev = {.events = epoll_events, .data.ptr = h};
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

int loop_fd_mod(struct loop *loop, struct loop_fd *h, uint32_t epoll_events)
{
    struct epoll_event ev = {.events = epoll_events, .data.ptr = h};
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, h->fd, &ev) ? -errno : 0;
}

void loop_fd_del(struct loop *loop, struct loop_fd *h)
{
    if (!h->fn)
        return;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, h->fd, NULL);
    for (int i = loop->events_at; i < loop->events_len; i++) {
        if (loop->events[i].data.ptr == h)
            loop->events[i].data.ptr = NULL;
    }
    h->fn = NULL;
}

// ---- hooks ----

void loop_hook_add(struct loop *loop, enum loop_phase phase, struct loop_hook *h,
                   bool (*fn)(void *ctx), void *ctx)
{
    *h = (struct loop_hook){.fn = fn, .ctx = ctx};
    struct loop_hook **end = &loop->hooks[phase];
    while (*end)
        end = &(*end)->next;
    *end = h;
}

void loop_hook_del(struct loop *loop, enum loop_phase phase, struct loop_hook *h)
{
    for (struct loop_hook **p = &loop->hooks[phase]; *p; p = &(*p)->next) {
        if (*p == h) {
            *p = h->next;
            return;
        }
    }
}

static bool run_hooks(struct loop *loop, enum loop_phase phase)
{
    bool more = false;
    struct loop_hook *next;
    for (struct loop_hook *h = loop->hooks[phase]; h; h = next) {
        next = h->next;
        more |= h->fn(h->ctx);
    }
    return more;
}

// ---- signals ----

static void run_signals(void *ctx, uint32_t events)
{
    struct loop *loop = ctx;
    struct signalfd_siginfo info;
    (void)events;
    while (read(loop->signals.fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo < SIGNALS_MAX && loop->signal_handlers[info.ssi_signo].fn)
            loop->signal_handlers[info.ssi_signo].fn(loop->signal_handlers[info.ssi_signo].ctx);
    }
}

int loop_signal(struct loop *loop, int signo, void (*fn)(void *ctx), void *ctx)
{
    if (signo <= 0 || signo >= SIGNALS_MAX)
        return -EINVAL;
    loop->signal_handlers[signo].fn = fn;
    loop->signal_handlers[signo].ctx = ctx;
    sigaddset(&loop->signal_set, signo);
    if (sigprocmask(SIG_BLOCK, &loop->signal_set, NULL))
        return -errno;
    int fd = signalfd(loop->signals.fn ? loop->signals.fd : -1, &loop->signal_set,
                      SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    return loop->signals.fn ? 0 : loop_fd_add(loop, &loop->signals, fd, EPOLLIN, run_signals, loop);
}

// ---- life ----

int loop_new(struct loop **out)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        abort();
    pthread_mutex_init(&loop->posts_lock, NULL);
    sigemptyset(&loop->signal_set);
    loop->wake.fd = -1;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = loop->epoll_fd < 0 || wake_fd < 0 ? -errno : 0;
    if (!r)
        r = loop_fd_add(loop, &loop->wake, wake_fd, EPOLLIN, run_posts, loop);
    if (r) {
        if (wake_fd >= 0)
            close(wake_fd);
        loop_free(&loop);
        return r;
    }
    loop->now = clock_mono();
    *out = loop;
    return 0;
}

void loop_free(struct loop **loop_ptr)
{
    struct loop *loop = *loop_ptr;
    if (!loop)
        return;
    if (loop->wake.fn)
        close(loop->wake.fd);
    if (loop->signals.fn)
        close(loop->signals.fd);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    pthread_mutex_destroy(&loop->posts_lock);
    free(loop->heap);
    free(loop);
    *loop_ptr = NULL;
}

void loop_stop(struct loop *loop)
{
    loop->stopping = true;
}

struct mono_time loop_now(const struct loop *loop)
{
    return loop->now;
}

static int wait_ms(const struct loop *loop)
{
    if (!loop->timers)
        return -1;
    int64_t ms = loop->heap[1]->when.ms - clock_mono().ms;
    // At most a minute: after a suspend the timers are found late by that at the most.
    return ms <= 0 ? 0 : ms > 60000 ? 60000 : (int)ms;
}

int loop_run(struct loop *loop)
{
    bool more = true;       // a hook has work left
    bool idle_done = false; // the idle hooks ran since the last event
    while (!loop->stopping) {
        int timeout = more || !idle_done ? 0 : wait_ms(loop);
        int n = epoll_wait(loop->epoll_fd, loop->events, EVENTS_PER_WAIT, timeout);
        if (n < 0 && errno != EINTR)
            return -errno;
        loop->now = clock_mono();
        loop->events_len = n > 0 ? n : 0;
        for (loop->events_at = 0; loop->events_at < loop->events_len;) {
            struct epoll_event *ev = &loop->events[loop->events_at++];
            struct loop_fd *h = ev->data.ptr;
            if (h)
                h->fn(h->ctx, ev->events);
        }
        loop->events_len = 0;
        bool timer_due = loop->timers && loop->heap[1]->when.ms <= loop->now.ms;
        if (timer_due)
            run_timers(loop);
        bool quiet = n <= 0 && !timer_due;
        more = run_hooks(loop, LOOP_TURN);
        if (!quiet)
            idle_done = false;
        if (quiet && !more && !idle_done) {
            more = run_hooks(loop, LOOP_IDLE);
            idle_done = true;
        }
    }
    loop->stopping = false; // it may run again
    return 0;
}
