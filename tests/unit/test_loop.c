// The event loop: order of timers, posts from other threads, handles deleted in handlers, hooks.
#include "common/clock.h"
#include "common/loop.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

static struct loop *loop;

static int setup(void **state)
{
    (void)state;
    return loop_new(&loop);
}

static int teardown(void **state)
{
    (void)state;
    loop_free(&loop);
    return 0;
}

#define TIMERS 300
static struct loop_timer timers[TIMERS];
static int64_t last_ms;
static int fired;

static void fire(void *ctx)
{
    struct loop_timer *t = ctx;
    assert_true(t->when.ms >= last_ms);
    last_ms = t->when.ms;
    if (++fired == TIMERS / 2)
        loop_stop(loop);
}

static void timers_fire_in_order(void **state)
{
    (void)state;
    struct mono_time now = clock_mono();
    srandom(3);
    for (int i = 0; i < TIMERS; i++) {
        loop_timer_init(&timers[i], fire, &timers[i]);
        loop_timer_arm(loop, &timers[i], mono_after(now, random() % 50));
    }
    for (int i = 0; i < TIMERS; i++) { // moved, and every second one cancelled
        loop_timer_arm(loop, &timers[i], mono_after(now, random() % 50));
        if (i % 2)
            loop_timer_cancel(loop, &timers[i]);
    }
    assert_int_equal(loop_run(loop), 0);
    assert_int_equal(fired, TIMERS / 2);
}

#define POSTS 1000
static struct loop_post posts[POSTS];
static int posted;

static void on_post(void *ctx)
{
    (void)ctx;
    if (++posted == POSTS)
        loop_stop(loop);
}

static void *post_all(void *ctx)
{
    (void)ctx;
    for (int i = 0; i < POSTS; i++) {
        posts[i].fn = on_post;
        loop_post(loop, &posts[i]);
    }
    return NULL;
}

static void posts_arrive_from_another_thread(void **state)
{
    (void)state;
    pthread_t thread;
    pthread_create(&thread, NULL, post_all, NULL);
    assert_int_equal(loop_run(loop), 0);
    pthread_join(thread, NULL);
    assert_int_equal(posted, POSTS);
}

static struct loop_fd one, other;
static int called;

static void delete_both(void *ctx, uint32_t events)
{
    (void)ctx;
    assert_true(events & EPOLLIN);
    called++;
    loop_fd_del(loop, &one);
    loop_fd_del(loop, &other);
}

static bool stop_when_idle(void *ctx)
{
    (void)ctx;
    loop_stop(loop);
    return false;
}

static void a_deleted_handle_is_not_called(void **state)
{
    (void)state;
    int a[2], b[2];
    assert_int_equal(pipe(a) | pipe(b), 0);
    assert_int_equal(write(a[1], "x", 1) + write(b[1], "x", 1), 2);
    loop_fd_add(loop, &one, a[0], EPOLLIN, delete_both, NULL);
    loop_fd_add(loop, &other, b[0], EPOLLIN, delete_both, NULL);
    struct loop_hook idle;
    loop_hook_add(loop, LOOP_IDLE, &idle, stop_when_idle, NULL);
    assert_int_equal(loop_run(loop), 0);
    assert_int_equal(called, 1);
    close(a[0]), close(a[1]), close(b[0]), close(b[1]);
}

static int turns, idles;

static bool busy_three_turns(void *ctx)
{
    (void)ctx;
    assert_int_equal(idles, 0);
    return ++turns < 3;
}

static bool count_idle(void *ctx)
{
    (void)ctx;
    idles++;
    loop_stop(loop);
    return false;
}

static void idle_hooks_wait_until_turn_hooks_have_no_more(void **state)
{
    (void)state;
    struct loop_hook turn, idle;
    loop_hook_add(loop, LOOP_TURN, &turn, busy_three_turns, NULL);
    loop_hook_add(loop, LOOP_IDLE, &idle, count_idle, NULL);
    assert_int_equal(loop_run(loop), 0);
    assert_true(turns >= 3);
    assert_int_equal(idles, 1);
}

static void on_signal(void *ctx)
{
    (void)ctx;
    loop_stop(loop);
}

static void signals_arrive_on_the_loop(void **state)
{
    (void)state;
    assert_int_equal(loop_signal(loop, SIGUSR1, on_signal, NULL), 0);
    assert_int_equal(loop_signal(loop, SIGUSR2, on_signal, NULL), 0);
    kill(getpid(), SIGUSR2);
    assert_int_equal(loop_run(loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(timers_fire_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(posts_arrive_from_another_thread, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deleted_handle_is_not_called, setup, teardown),
        cmocka_unit_test_setup_teardown(idle_hooks_wait_until_turn_hooks_have_no_more, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(signals_arrive_on_the_loop, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
