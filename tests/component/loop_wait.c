#include "tests/component/loop_wait.h"

#include "common/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define LOOK_MS 20

struct wait {
    struct loop *loop;
    bool (*done)(void *ctx);
    void *ctx;
    struct loop_hook hook;
    struct loop_timer deadline, tick;
    bool late;
};

static bool on_turn(void *ctx)
{
    struct wait *w = ctx;
    if (w->done(w->ctx))
        loop_stop(w->loop);
    return false;
}

static void on_deadline(void *ctx)
{
    struct wait *w = ctx;
    w->late = true;
    loop_stop(w->loop);
}

static void on_tick(void *ctx)
{
    struct wait *w = ctx;
    loop_timer_arm(w->loop, &w->tick, mono_after(clock_mono(), LOOK_MS));
}

void loop_wait(struct loop *loop, bool (*done)(void *ctx), void *ctx)
{
    static struct wait w; // stays when an assertion in a callback leaves from here
    w = (struct wait){.loop = loop, .done = done, .ctx = ctx};
    loop_timer_init(&w.deadline, on_deadline, &w);
    loop_timer_init(&w.tick, on_tick, &w);
    loop_timer_arm(loop, &w.deadline, mono_after(clock_mono(), LOOP_WAIT_MS));
    on_tick(&w);
    loop_hook_add(loop, LOOP_TURN, &w.hook, on_turn, &w);
    while (!w.late && !done(ctx))
        assert_int_equal(loop_run(loop), 0);
    loop_hook_del(loop, LOOP_TURN, &w.hook);
    loop_timer_cancel(loop, &w.deadline);
    loop_timer_cancel(loop, &w.tick);
    assert_false(w.late);
}
