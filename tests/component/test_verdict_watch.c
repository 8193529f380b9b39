// The lease: fresh for three seconds from the call, gone when trust is silent, back when it
// answers.
#include "common/clock.h"
#include "common/verdict_watch.h"
#include "tests/component/loop_wait.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    Berth__Trust_Service service; // first
    struct loop *loop;
    struct rpc_server *server;
    struct verdict_watch *watch;
    bool (*done)(struct fixture *f); // of wait_for
    bool silent;
    Berth__State state;
    uint64_t generation;
    unsigned calls, changes;
    Berth__Verdict_Closure held[64];
    void *held_data[64];
    size_t held_len;
    char folder[64], url[128];
};

static void answer(struct fixture *f, Berth__Verdict_Closure closure, void *data)
{
    Berth__Verdict v = BERTH__VERDICT__INIT;
    v.generation = f->generation;
    v.state = f->state;
    v.reason = (char *)(uintptr_t)(f->state == BERTH__STATE__INVALID ? "revoked" : "");
    v.variant = (char *)(uintptr_t) "cloud-ready";
    v.server_id = (char *)(uintptr_t) "S";
    closure(&v, data);
}

static void on_watch(Berth__Trust_Service *service, const Berth__WatchCall *in,
                     Berth__Verdict_Closure closure, void *data)
{
    struct fixture *f = (struct fixture *)service;
    f->calls++;
    assert_true(f->held_len < 64);
    if (f->silent || in->generation == f->generation) {
        f->held[f->held_len] = closure;
        f->held_data[f->held_len++] = data;
    } else {
        answer(f, closure, data);
    }
}

static void publish(struct fixture *f, Berth__State state)
{
    f->state = state;
    f->generation++;
    while (f->held_len) {
        f->held_len--;
        answer(f, f->held[f->held_len], f->held_data[f->held_len]);
    }
}

static bool is_done(void *ctx)
{
    struct fixture *f = ctx;
    return f->done(f);
}

static void wait_for(struct fixture *f, bool (*done)(struct fixture *f))
{
    f->done = done;
    loop_wait(f->loop, is_done, f);
}

static void on_changed(void *ctx)
{
    ((struct fixture *)ctx)->changes++;
}

static void start_server(struct fixture *f)
{
    assert_int_equal(rpc_server_new(&f->server, f->loop, f->url, &f->service.base, NULL), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    berth__trust__init(&f->service, NULL);
    f->service.watch = on_watch;
    f->state = BERTH__STATE__VALID;
    f->generation = 7;
    assert_int_equal(loop_new(&f->loop), 0);
    strcpy(f->folder, "/tmp/berth-watch-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->url, sizeof f->url, "ipc://%s/trust", f->folder);
    assert_int_equal(
        verdict_watch_new(&f->watch, f->loop, f->url, BERTH__ROLE__POOL, NULL, on_changed, f), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    verdict_watch_free(&f->watch);
    rpc_server_free(&f->server);
    publish(f, BERTH__STATE__VALID); // to nobody
    loop_free(&f->loop);
    rmdir(f->folder);
    free(f);
    return 0;
}

static bool fresh(struct fixture *f)
{
    return verdict_watch_fresh(f->watch) != NULL;
}

static bool stale(struct fixture *f)
{
    return !fresh(f) && f->changes > 1;
}

static bool holds_one(struct fixture *f)
{
    return f->held_len == 1;
}

static bool refused(struct fixture *f)
{
    Berth__Error e;
    return !verdict_watch_may_issue(f->watch, &e) && e.code == 1004;
}

static bool allowed(struct fixture *f)
{
    Berth__Error e;
    return verdict_watch_may_issue(f->watch, &e);
}

static void test_follows(void **state)
{
    struct fixture *f = *state;
    Berth__Error e;
    assert_null(verdict_watch_last(f->watch));
    assert_false(verdict_watch_may_issue(f->watch, &e));
    assert_int_equal(e.code, 1011);
    assert_string_equal(e.service, "trust");
    start_server(f);
    wait_for(f, fresh);
    assert_int_equal(f->changes, 1);
    wait_for(f, holds_one); // asked again at once, and waits there
    assert_true(allowed(f));
    publish(f, BERTH__STATE__GRACE);
    wait_for(f, holds_one);
    assert_true(allowed(f));
    publish(f, BERTH__STATE__INVALID);
    wait_for(f, refused);
    assert_false(verdict_watch_may_issue(f->watch, &e));
    assert_string_equal(e.reason, "revoked");
    assert_true(strlen(e.message) > 0);
    wait_for(f, holds_one);
    publish(f, BERTH__STATE__VALID);
    wait_for(f, allowed);
    assert_int_equal(f->changes, 4);
    assert_true(f->calls < 10);
}

static void test_goes_stale(void **state)
{
    struct fixture *f = *state;
    start_server(f);
    wait_for(f, fresh);
    int64_t from = clock_mono().ms;
    f->silent = true;
    wait_for(f, stale);
    int64_t took = clock_mono().ms - from;
    assert_true(took > 2000 && took < 5000); // three seconds, on a machine that may be busy
    assert_non_null(verdict_watch_last(f->watch));
    Berth__Error e;
    assert_false(verdict_watch_may_issue(f->watch, &e));
    assert_int_equal(e.code, 1011);
    rpc_server_free(&f->server); // and the connection breaks
    f->silent = false;
    start_server(f);
    wait_for(f, fresh);
    assert_int_equal(f->changes, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_follows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_goes_stale, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
