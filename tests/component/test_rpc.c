// RPC between processes and in one: batches, answers out of order, peers that go and come.
#include "tests/component/rpc_fixture.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

// ---- tests ----

static void many_calls(struct fixture *f, const char *url)
{
    fixture_serve(f, url);
    fixture_dial(f, url, 5000);
    fixture_wait(f, is_connected);
    for (uint32_t i = 1; i <= 10000; i++)
        fixture_call(f, "echo", i);
    assert_int_equal(f->answers, 0); // never inside the stub
    fixture_wait_answers(f, 10000);
    assert_int_equal(f->answers, 10000);
    assert_int_equal(f->order_breaks, 0);
    // Two frames of 32, then all that waited, 1,024 a frame at most.
    assert_true(f->server_frames_in.value <= 14);
    assert_true(f->server_frames_out.value <= 14);
    assert_true(f->batch_ends == (unsigned)f->server_frames_in.value);
}

static void test_many_ipc(void **state)
{
    struct fixture *f = *state;
    many_calls(f, f->ipc_url);
    struct stat st;
    char path[160];
    snprintf(path, sizeof path, "%s/run/pool", f->folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    snprintf(path, sizeof path, "%s/run", f->folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
}

static void test_many_tcp(void **state)
{
    struct fixture *f = *state;
    many_calls(f, f->tcp_url);
}

static void test_unbatched(void **state)
{
    struct fixture *f = *state;
    fixture_serve(f, f->ipc_url);
    fixture_dial(f, f->ipc_url, 5000);
    rpc_client_set_batching(f->client, false);
    fixture_wait(f, is_connected);
    for (uint32_t i = 1; i <= 500; i++)
        fixture_call(f, "echo", i);
    fixture_wait_answers(f, 500);
    assert_int_equal(f->server_frames_in.value, 500);
}

static void test_later_and_reversed(void **state)
{
    struct fixture *f = *state;
    fixture_serve(f, f->ipc_url);
    fixture_dial(f, f->ipc_url, 5000);
    fixture_wait(f, is_connected);
    for (uint32_t i = 1; i <= 300; i++) {
        fixture_call(f, "hold", i);
        if (i % 10 == 0) { // two unanswered frames do not hold up the others for long
            fixture_expected = i;
            fixture_wait(f, all_held);
        }
    }
    fixture_call(f, "echo", 1);
    fixture_wait_answers(f, 1);
    assert_int_equal(f->answers, 1);
    fixture_release(f);
    fixture_wait_answers(f, 301);
    assert_int_equal(f->answers, 301);
    assert_int_equal(f->last_value, 1);
}

static void test_more_than_may_be_open(void **state)
{
    struct fixture *f = *state;
    fixture_serve(f, f->ipc_url);
    fixture_dial(f, f->ipc_url, 60000);
    fixture_wait(f, is_connected);
    for (uint32_t i = 1; i <= 10000; i++)
        fixture_call(f, "hold", i);
    fixture_expected = 4096;
    fixture_wait(f, all_held);
    assert_true(f->held_len < 4096 + RPC_FRAME_CALLS_MAX); // the rest is not read
    while (f->answers < 10000) {
        fixture_release(f);
        fixture_wait_answers(f, f->answers + 1);
    }
    assert_int_equal(f->answers, 10000);
}

static unsigned lists;
static void on_list_answer(const Berth__ListLicensesReply *r, void *data)
{
    (void)data;
    assert_non_null(r);
    assert_int_equal(r->n_licenses, 1024);
    lists++;
}

static bool lists_came(struct fixture *f)
{
    (void)f;
    return lists == 8;
}

static void test_long_answers(void **state)
{
    struct fixture *f = *state;
    fixture_serve(f, f->ipc_url);
    fixture_dial(f, f->ipc_url, 5000);
    fixture_wait(f, is_connected);
    Berth__Empty empty = BERTH__EMPTY__INIT;
    lists = 0;
    for (int i = 0; i < 8; i++)
        berth__pool__list_licenses(rpc_client_service(f->client), &empty, on_list_answer, f);
    fixture_wait(f, lists_came);
}

static void test_errors(void **state)
{
    struct fixture *f = *state;
    fixture_dial(f, f->ipc_url, 200);
    fixture_call(f, "echo", 1); // nobody is there: fails, but not inside the stub
    assert_int_equal(f->failures, 0);
    fixture_wait_answers(f, 1);
    assert_int_equal(f->last_code, 1011);
    assert_string_equal(f->last_service, "pool");
    fixture_serve(f, f->ipc_url);
    fixture_wait(f, is_connected);
    fixture_call(f, "fail", 1);
    fixture_wait_answers(f, 2);
    assert_int_equal(f->last_code, 1008);
    fixture_call(f, "hold", 1); // runs into the timeout; its late answer is nobody's
    fixture_wait_answers(f, 3);
    assert_int_equal(f->last_code, 1011);
    fixture_release(f);
    fixture_call(f, "twice", 7);
    fixture_wait_answers(f, 4);
    assert_int_equal(f->answers, 1);
    assert_int_equal(f->last_value, 7);
    Berth__RevalidateSessionCall big = BERTH__REVALIDATE_SESSION_CALL__INIT;
    big.session_id = malloc(RPC_CALLS_FRAME_MAX + 1);
    memset(big.session_id, 'x', RPC_CALLS_FRAME_MAX);
    big.session_id[RPC_CALLS_FRAME_MAX] = '\0';
    berth__pool__revalidate_session(rpc_client_service(f->client), &big, fixture_on_answer, f);
    free(big.session_id);
    fixture_wait_answers(f, 5);
    assert_int_equal(f->failures, 4);
    assert_true(rpc_client_connected(f->client));
}

static void on_connect(void *ctx)
{
    ++*(int *)ctx;
}

static void test_reconnect(void **state)
{
    struct fixture *f = *state;
    int connects = 0;
    for (int i = 1; i <= 3; i++) {
        fixture_serve(f, f->ipc_url);
        if (i == 1) {
            fixture_dial(f, f->ipc_url, 5000);
            rpc_client_on_connect(f->client, on_connect, &connects);
        }
        fixture_wait(f, is_connected);
        assert_int_equal(connects, i);
        f->answers = f->failures = 0;
        fixture_call(f, "echo", 1);
        fixture_wait_answers(f, 1);
        assert_int_equal(f->answers, 1);
        fixture_call(f, "hold", 1);
        fixture_expected = (unsigned)f->held_len + 1;
        fixture_wait(f, all_held);
        rpc_server_free(&f->server);
        fixture_wait_answers(f, 2);
        assert_int_equal(f->last_code, 1011);
        assert_true(is_disconnected(f));
        fixture_release(f); // of a server that is no more
    }
    assert_int_equal(f->reconnects.value, 2);
}

static void test_second_server(void **state)
{
    struct fixture *f = *state;
    fixture_serve(f, f->ipc_url);
    struct rpc_server *second = NULL;
    assert_int_equal(rpc_server_new(&second, f->loop, f->ipc_url, &f->service.base, NULL),
                     -EADDRINUSE);
    fixture_dial(f, f->ipc_url, 5000);
    fixture_wait(f, is_connected); // the first one's socket is still there
    assert_true(rpc_server_new(&second, f->loop, "carrier://pigeon", &f->service.base, NULL) < 0);
    assert_true(rpc_server_new(&second, f->loop, "ipc:///nowhere/at/all", &f->service.base, NULL) <
                0);
}

// ---- a process that is killed ----

static pid_t fork_server(struct fixture *f)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        // No nng yet in this process: it does not survive a fork. Nor may the loop be shared.
        alarm(30);
        assert_int_equal(loop_new(&f->loop), 0);
        fixture_serve(f, f->ipc_url);
        loop_run(f->loop);
        _exit(0);
    }
    return pid;
}

static void test_killed(void **state)
{
    struct fixture *f = *state;
    pid_t pid = fork_server(f);
    fixture_dial(f, f->ipc_url, 5000);
    fixture_wait(f, is_connected);
    for (uint32_t i = 1; i <= 1000; i++)
        fixture_call(f, "echo", i);
    for (uint32_t i = 1; i <= 40; i++)
        fixture_call(f, "hold", i);
    fixture_wait_answers(f, 1000);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    fixture_wait_answers(f, 1040);
    assert_int_equal(f->failures, 40);
    assert_int_equal(f->last_code, 1011);
    fixture_serve(f, f->ipc_url); // over the dead one's socket
    fixture_wait(f, is_connected);
    fixture_call(f, "echo", 1);
    fixture_wait_answers(f, 1041);
    assert_int_equal(f->answers, 1001);
}

// test_killed forks, and nng must not have started by then: it is the first.
int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_many_ipc, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_many_tcp, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_unbatched, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_later_and_reversed, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_more_than_may_be_open, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_long_answers, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_errors, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_reconnect, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_second_server, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
