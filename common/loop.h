// The event loop: one per process, one thread. All state of a service is touched on it. Other
// threads (nng's, a cloud check, USB) may only loop_post().
//
// A turn: wait for events; run posts, fd handlers and due timers; then the turn hooks (LOOP_TURN).
// When the next epoll_wait(0) finds nothing and no turn hook said "more", the idle hooks
// (LOOP_IDLE) run once, and then the loop really waits. Batches of RPC calls leave in LOOP_IDLE:
// "when no more input is ready" (performance.md).
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/core/times.h"

struct loop;

struct loop_fd {
    int fd;
    void (*fn)(void *ctx, uint32_t epoll_events);
    void *ctx;
};

struct loop_timer {
    struct mono_time when;
    void (*fn)(void *ctx);
    void *ctx;
    uint32_t heap_index; // 0: not armed
};

struct loop_post {
    void (*fn)(void *ctx);
    void *ctx;
    struct loop_post *next;
    bool queued;
};

enum loop_phase { LOOP_TURN, LOOP_IDLE };

struct loop_hook {
    bool (*fn)(
        void *ctx); // LOOP_TURN: true = there is more to do, do not wait; LOOP_IDLE: likewise
    void *ctx;
    struct loop_hook *next;
};

int loop_new(struct loop **out); // 0 or -errno
void loop_free(struct loop **loop);
int loop_run(struct loop *loop); // until loop_stop; 0 or -errno
void loop_stop(struct loop *loop);
struct mono_time loop_now(const struct loop *loop); // read once a turn

// The handle is the caller's and must stay where it is until loop_fd_del. A handler may delete any
// handle, its own too. 0 or -errno.
int loop_fd_add(struct loop *loop, struct loop_fd *h, int fd, uint32_t epoll_events,
                void (*fn)(void *ctx, uint32_t epoll_events), void *ctx);
int loop_fd_mod(struct loop *loop, struct loop_fd *h, uint32_t epoll_events);
void loop_fd_del(struct loop *loop, struct loop_fd *h);

// Embed, init once, arm as often as wanted (arming again moves it). Fires once per arming.
void loop_timer_init(struct loop_timer *t, void (*fn)(void *ctx), void *ctx);
void loop_timer_arm(struct loop *loop, struct loop_timer *t, struct mono_time when);
void loop_timer_cancel(struct loop *loop, struct loop_timer *t);

// From any thread: fn runs once on the loop thread soon. Posting again before it ran is one run.
void loop_post(struct loop *loop, struct loop_post *p);
// On the loop thread: if p was posted and has not run, it will not. Before p is freed.
void loop_post_cancel(struct loop *loop, struct loop_post *p);

void loop_hook_add(struct loop *loop, enum loop_phase phase, struct loop_hook *h,
                   bool (*fn)(void *ctx), void *ctx);
void loop_hook_del(struct loop *loop, enum loop_phase phase, struct loop_hook *h);

// The signal is blocked for the whole process (call before threads start) and delivered here.
int loop_signal(struct loop *loop, int signo, void (*fn)(void *ctx), void *ctx);
