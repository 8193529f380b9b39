// RPC between real processes and in one: batches, answers out of order, broken peers.
#include "common/clock.h"
#include "common/core/buf.h"
#include "common/rpc.h"
#include "common/rpc_internal.h"
#include "pool.pb-c.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_MS 10000
#define HELD_MAX 6000

// ---- a pool that echoes: the nonce decides what it does ----
// session_id "hold": kept until "release"; "fail": error 1008; "twice": answered twice; else echoed.

struct held {
    Berth__RevalidateSessionReply_Closure closure;
    void *data;
    uint32_t value;
};

struct fixture {
    Berth__Pool_Service service; // first
    struct loop *loop;
    struct rpc_server *server;
    struct rpc_client *client;
    struct metric_cell server_frames_in, server_frames_out, server_errors, client_errors;
    struct metric_cell reconnects;
    struct held held[HELD_MAX];
    size_t held_len;
    unsigned batch_ends;
    char folder[64], ipc_url[128], tcp_url[64];

    bool (*done)(struct fixture *f);
    struct loop_hook hook;
    struct loop_timer deadline, tick;
    bool late;

    unsigned answers, failures, last_code;
    uint32_t last_value, order_breaks;
    char last_service[32];
};

static void reply_value(Berth__RevalidateSessionReply_Closure closure, void *data, uint32_t value)
{
    Berth__RevalidateSessionReply r = BERTH__REVALIDATE_SESSION_REPLY__INIT;
    r.revalidate_within_s = value;
    closure(&r, data);
}

static void on_revalidate(Berth__Pool_Service *service, const Berth__RevalidateSessionCall *in,
                          Berth__RevalidateSessionReply_Closure closure, void *data)
{
    struct fixture *f = (struct fixture *)service;
    uint32_t value = 0;
    if (in->has_nonce && in->nonce.len == sizeof value)
        memcpy(&value, in->nonce.data, sizeof value);
    assert_int_equal(rpc_caller_role(data), BERTH__ROLE__GATEWAY);
    if (strcmp(in->session_id, "hold") == 0) {
        assert_true(f->held_len < HELD_MAX);
        f->held[f->held_len++] = (struct held){closure, data, value};
    } else if (strcmp(in->session_id, "fail") == 0) {
        Berth__Error e = BERTH__ERROR__INIT;
        e.code = 1008;
        e.message = (char *)(uintptr_t)"no such session";
        rpc_fail(data, &e);
    } else {
        reply_value(closure, data, value);
        if (strcmp(in->session_id, "twice") == 0)
            reply_value(closure, data, value + 1);
    }
}

static void release(struct fixture *f) // the newest first
{
    while (f->held_len) {
        struct held *h = &f->held[--f->held_len];
        reply_value(h->closure, h->data, h->value);
    }
}

static void on_list(Berth__Pool_Service *service, const Berth__Empty *in,
                    Berth__ListLicensesReply_Closure closure, void *data)
{
    // 3 MiB: more than a frame of calls may have, and many partial sends.
    static char text[3072];
    Berth__LicenseRef ref = BERTH__LICENSE_REF__INIT;
    memset(text, 'x', sizeof text - 1);
    ref.feature = ref.uuid = ref.version = ref.edition = ref.modules = (char *)(uintptr_t)"";
    ref.feature = text;
    Berth__LicenseInfo info = BERTH__LICENSE_INFO__INIT;
    info.license = &ref;
    static Berth__LicenseInfo *list[1024];
    for (size_t i = 0; i < 1024; i++)
        list[i] = &info;
    Berth__ListLicensesReply r = BERTH__LIST_LICENSES_REPLY__INIT;
    r.n_licenses = 1024;
    r.licenses = list;
    closure(&r, data);
}

static void on_batch_end(void *ctx)
{
    ((struct fixture *)ctx)->batch_ends++;
}

// ---- running the loop until a condition ----

static bool on_turn(void *ctx)
{
    struct fixture *f = ctx;
    if (f->done && f->done(f))
        loop_stop(f->loop);
    return false;
}

static void on_deadline(void *ctx)
{
    struct fixture *f = ctx;
    f->late = true;
    loop_stop(f->loop);
}

static void on_tick(void *ctx)
{
    struct fixture *f = ctx;
    loop_timer_arm(f->loop, &f->tick, mono_after(clock_mono(), 20));
}

static void wait_for(struct fixture *f, bool (*done)(struct fixture *f))
{
    f->done = done;
    f->late = false;
    loop_timer_arm(f->loop, &f->deadline, mono_after(clock_mono(), DEADLINE_MS));
    on_tick(f);
    while (!f->late && !done(f))
        assert_int_equal(loop_run(f->loop), 0);
    loop_timer_cancel(f->loop, &f->deadline);
    loop_timer_cancel(f->loop, &f->tick);
    assert_false(f->late);
}

// ---- what the tests do with it ----

static void start_server(struct fixture *f, const char *url)
{
    const struct rpc_metrics m = {.frames_received = &f->server_frames_in,
                                  .frames_sent = &f->server_frames_out,
                                  .errors = &f->server_errors};
    assert_int_equal(rpc_server_new(&f->server, f->loop, url, &f->service.base, &m), 0);
    rpc_server_set_batch_end(f->server, on_batch_end, f);
}

static void start_client(struct fixture *f, const char *url, int64_t timeout_ms)
{
    const struct rpc_metrics m = {.errors = &f->client_errors, .reconnects = &f->reconnects};
    assert_int_equal(rpc_client_new(&f->client, f->loop, url, BERTH__ROLE__GATEWAY,
                                    &berth__pool__descriptor, "pool", timeout_ms, &m),
                     0);
}

static bool is_connected(struct fixture *f)
{
    return rpc_client_connected(f->client);
}

static bool is_disconnected(struct fixture *f)
{
    return !rpc_client_connected(f->client);
}

static void on_answer(const Berth__RevalidateSessionReply *r, void *data)
{
    struct fixture *f = data;
    if (r) {
        f->answers++;
        f->order_breaks += r->revalidate_within_s != f->last_value + 1;
        f->last_value = r->revalidate_within_s;
        return;
    }
    const Berth__Error *e = rpc_client_error(f->client);
    assert_non_null(e);
    f->failures++;
    f->last_code = (unsigned)e->code;
    snprintf(f->last_service, sizeof f->last_service, "%s", e->service ? e->service : "");
}

static void call(struct fixture *f, const char *what, uint32_t value)
{
    Berth__RevalidateSessionCall c = BERTH__REVALIDATE_SESSION_CALL__INIT;
    c.session_id = (char *)(uintptr_t)what;
    c.has_nonce = true;
    c.nonce = (ProtobufCBinaryData){sizeof value, (uint8_t *)&value};
    berth__pool__revalidate_session(rpc_client_service(f->client), &c, on_answer, f);
}

static unsigned expected;
static bool all_over(struct fixture *f)
{
    return f->answers + f->failures >= expected;
}

static void wait_answers(struct fixture *f, unsigned n)
{
    expected = n;
    wait_for(f, all_over);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    berth__pool__init(&f->service, NULL);
    f->service.revalidate_session = on_revalidate;
    f->service.list_licenses = on_list;
    assert_int_equal(loop_new(&f->loop), 0);
    loop_timer_init(&f->deadline, on_deadline, f);
    loop_timer_init(&f->tick, on_tick, f);
    loop_hook_add(f->loop, LOOP_TURN, &f->hook, on_turn, f);
    strcpy(f->folder, "/tmp/berth-rpc-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->ipc_url, sizeof f->ipc_url, "ipc://%s/run/pool", f->folder);
    // A port that is free now.
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    close(fd);
    snprintf(f->tcp_url, sizeof f->tcp_url, "tcp://127.0.0.1:%u", ntohs(a.sin_port));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    rpc_client_free(&f->client);
    rpc_server_free(&f->server);
    release(f); // answers to nobody
    loop_free(&f->loop);
    char path[160];
    snprintf(path, sizeof path, "%s/run/pool", f->folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/run", f->folder);
    rmdir(path);
    rmdir(f->folder);
    free(f);
    return 0;
}

// ---- tests ----

static void many_calls(struct fixture *f, const char *url)
{
    start_server(f, url);
    start_client(f, url, 5000);
    wait_for(f, is_connected);
    for (uint32_t i = 1; i <= 10000; i++)
        call(f, "echo", i);
    assert_int_equal(f->answers, 0); // never inside the stub
    wait_answers(f, 10000);
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
    start_server(f, f->ipc_url);
    start_client(f, f->ipc_url, 5000);
    rpc_client_set_batching(f->client, false);
    wait_for(f, is_connected);
    for (uint32_t i = 1; i <= 500; i++)
        call(f, "echo", i);
    wait_answers(f, 500);
    assert_int_equal(f->server_frames_in.value, 500);
}

static bool all_held(struct fixture *f)
{
    return f->held_len >= expected;
}

static void test_later_and_reversed(void **state)
{
    struct fixture *f = *state;
    start_server(f, f->ipc_url);
    start_client(f, f->ipc_url, 5000);
    wait_for(f, is_connected);
    for (uint32_t i = 1; i <= 300; i++) {
        call(f, "hold", i);
        if (i % 10 == 0) { // two unanswered frames do not hold up the others for long
            expected = i;
            wait_for(f, all_held);
        }
    }
    call(f, "echo", 1);
    wait_answers(f, 1);
    assert_int_equal(f->answers, 1);
    release(f);
    wait_answers(f, 301);
    assert_int_equal(f->answers, 301);
    assert_int_equal(f->last_value, 1);
}

static void test_more_than_may_be_open(void **state)
{
    struct fixture *f = *state;
    start_server(f, f->ipc_url);
    start_client(f, f->ipc_url, 60000);
    wait_for(f, is_connected);
    for (uint32_t i = 1; i <= 10000; i++)
        call(f, "hold", i);
    expected = 4096;
    wait_for(f, all_held);
    assert_true(f->held_len < 4096 + RPC_FRAME_CALLS_MAX); // the rest is not read
    while (f->answers < 10000) {
        release(f);
        wait_answers(f, f->answers + 1);
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
    start_server(f, f->ipc_url);
    start_client(f, f->ipc_url, 5000);
    wait_for(f, is_connected);
    Berth__Empty empty = BERTH__EMPTY__INIT;
    lists = 0;
    for (int i = 0; i < 8; i++)
        berth__pool__list_licenses(rpc_client_service(f->client), &empty, on_list_answer, f);
    wait_for(f, lists_came);
}

static void test_errors(void **state)
{
    struct fixture *f = *state;
    start_client(f, f->ipc_url, 200);
    call(f, "echo", 1); // nobody is there: fails, but not inside the stub
    assert_int_equal(f->failures, 0);
    wait_answers(f, 1);
    assert_int_equal(f->last_code, 1011);
    assert_string_equal(f->last_service, "pool");
    start_server(f, f->ipc_url);
    wait_for(f, is_connected);
    call(f, "fail", 1);
    wait_answers(f, 2);
    assert_int_equal(f->last_code, 1008);
    call(f, "hold", 1); // runs into the timeout; its late answer is nobody's
    wait_answers(f, 3);
    assert_int_equal(f->last_code, 1011);
    release(f);
    call(f, "twice", 7);
    wait_answers(f, 4);
    assert_int_equal(f->answers, 1);
    assert_int_equal(f->last_value, 7);
    Berth__RevalidateSessionCall big = BERTH__REVALIDATE_SESSION_CALL__INIT;
    big.session_id = malloc(RPC_CALLS_FRAME_MAX + 1);
    memset(big.session_id, 'x', RPC_CALLS_FRAME_MAX);
    big.session_id[RPC_CALLS_FRAME_MAX] = '\0';
    berth__pool__revalidate_session(rpc_client_service(f->client), &big, on_answer, f);
    free(big.session_id);
    wait_answers(f, 5);
    assert_int_equal(f->failures, 4);
    assert_true(rpc_client_connected(f->client));
}

static void test_reconnect(void **state)
{
    struct fixture *f = *state;
    for (int i = 1; i <= 3; i++) {
        start_server(f, f->ipc_url);
        if (i == 1)
            start_client(f, f->ipc_url, 5000);
        wait_for(f, is_connected);
        f->answers = f->failures = 0;
        call(f, "echo", 1);
        wait_answers(f, 1);
        assert_int_equal(f->answers, 1);
        call(f, "hold", 1);
        expected = (unsigned)f->held_len + 1;
        wait_for(f, all_held);
        rpc_server_free(&f->server);
        wait_answers(f, 2);
        assert_int_equal(f->last_code, 1011);
        assert_true(is_disconnected(f));
        release(f); // of a server that is no more
    }
    assert_int_equal(f->reconnects.value, 2);
}

static void test_second_server(void **state)
{
    struct fixture *f = *state;
    start_server(f, f->ipc_url);
    struct rpc_server *second = NULL;
    assert_int_equal(rpc_server_new(&second, f->loop, f->ipc_url, &f->service.base, NULL), -EADDRINUSE);
    start_client(f, f->ipc_url, 5000);
    wait_for(f, is_connected); // the first one's socket is still there
    assert_true(rpc_server_new(&second, f->loop, "carrier://pigeon", &f->service.base, NULL) < 0);
    assert_true(rpc_server_new(&second, f->loop, "ipc:///nowhere/at/all", &f->service.base, NULL) < 0);
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
        start_server(f, f->ipc_url);
        loop_run(f->loop);
        _exit(0);
    }
    return pid;
}

static void test_killed(void **state)
{
    struct fixture *f = *state;
    pid_t pid = fork_server(f);
    start_client(f, f->ipc_url, 5000);
    wait_for(f, is_connected);
    for (uint32_t i = 1; i <= 1000; i++)
        call(f, "echo", i);
    for (uint32_t i = 1; i <= 40; i++)
        call(f, "hold", i);
    wait_answers(f, 1000);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    wait_answers(f, 1040);
    assert_int_equal(f->failures, 40);
    assert_int_equal(f->last_code, 1011);
    start_server(f, f->ipc_url); // over the dead one's socket
    wait_for(f, is_connected);
    call(f, "echo", 1);
    wait_answers(f, 1041);
    assert_int_equal(f->answers, 1001);
}

// ---- bytes that no client of ours sends ----

static int raw_connect(struct fixture *f)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", f->ipc_url + strlen("ipc://"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static int raw_fd;
static bool raw_closed(struct fixture *f)
{
    char b[4096];
    (void)f;
    ssize_t n = recv(raw_fd, b, sizeof b, 0);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

static void frame_put(struct buf *out, const struct buf *payload)
{
    uint8_t n[4] = {0, (uint8_t)(payload->len >> 16), (uint8_t)(payload->len >> 8),
                    (uint8_t)payload->len};
    buf_add(out, n, 4);
    buf_add(out, payload->data, payload->len);
}

static void hello_put(struct buf *out, Berth__Role role, const char *service)
{
    struct buf p BUF_CLEANUP = {0};
    rpc_frame_add_hello(&p, role, service);
    frame_put(out, &p);
}

static void expect_closed(struct fixture *f, const void *bytes, size_t len)
{
    double errors = f->server_errors.value;
    raw_fd = raw_connect(f);
    if (len)
        assert_int_equal(send(raw_fd, bytes, len, MSG_NOSIGNAL), len);
    wait_for(f, raw_closed);
    close(raw_fd);
    assert_int_equal(f->server_errors.value, errors + 1);
}

static void test_garbage(void **state)
{
    struct fixture *f = *state;
    start_server(f, f->ipc_url);
    start_client(f, f->ipc_url, 5000);
    wait_for(f, is_connected);
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", 18},
        {"\x80\0\0\0", 4},              // 2^31
        {"\xff\xff\xff\xff", 4},
        {"\0\0\0\0", 4},                // nothing in it
        {"\0\x10\0\1", 4},              // one byte more than allowed
        {"\0\0\0\1\x0a", 5},            // record without its length
        {"\0\0\0\4\x0a\xff\xff\x7f", 8}, // record longer than the frame
        {"\0\0\0\2\x0a\0", 6},          // hello without anything
        {"\0\0\0\2\x2a\0", 6},          // unknown record
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_closed(f, cases[i].bytes, cases[i].len);

    struct buf b BUF_CLEANUP = {0}, p BUF_CLEANUP = {0};
    hello_put(&b, BERTH__ROLE__GATEWAY, "berth.Trust"); // another service
    expect_closed(f, b.data, b.len);
    buf_clear(&b);
    hello_put(&b, BERTH__ROLE__GATEWAY, "berth.Pool");
    size_t hello = b.len;
    hello_put(&b, BERTH__ROLE__GATEWAY, "berth.Pool"); // twice
    expect_closed(f, b.data, b.len);
    b.len = hello;
    Berth__Empty empty = BERTH__EMPTY__INIT;
    rpc_frame_add_call(&p, 1, 99, &empty.base); // no such method
    frame_put(&b, &p);
    expect_closed(f, b.data, b.len);
    expect_closed(f, b.data + hello, b.len - hello); // a call before the hello
    b.len = hello;
    buf_clear(&p);
    rpc_frame_add_reply(&p, 1, &empty.base); // the wrong direction
    frame_put(&b, &p);
    expect_closed(f, b.data, b.len);
    b.len = hello;
    buf_clear(&p);
    for (uint64_t i = 0; i <= RPC_FRAME_CALLS_MAX; i++) // one too many
        rpc_frame_add_call(&p, i, 0, &empty.base);
    frame_put(&b, &p);
    expect_closed(f, b.data, b.len);
    b.len = hello;
    buf_clear(&p);
    rpc_frame_add_call(&p, 1, 2, &empty.base); // RevalidateSession without its session
    frame_put(&b, &p);
    expect_closed(f, b.data, b.len);
    expect_closed(f, NULL, 0); // says nothing at all: until the deadline of the hello

    call(f, "echo", 1); // and others are served all the while
    wait_answers(f, 1);
    assert_int_equal(f->answers, 1);
}

static bool frames_came(struct fixture *f)
{
    return f->server_frames_in.value >= expected;
}

static void test_byte_by_byte(void **state)
{
    struct fixture *f = *state;
    start_server(f, f->ipc_url);
    raw_fd = raw_connect(f);
    struct buf b BUF_CLEANUP = {0}, p BUF_CLEANUP = {0};
    hello_put(&b, BERTH__ROLE__GATEWAY, "berth.Pool");
    Berth__RevalidateSessionCall c = BERTH__REVALIDATE_SESSION_CALL__INIT;
    c.session_id = (char *)(uintptr_t)"echo";
    for (uint64_t i = 0; i < 3; i++)
        rpc_frame_add_call(&p, i, 2, &c.base);
    frame_put(&b, &p);
    for (size_t i = 0; i < b.len; i++) {
        assert_int_equal(send(raw_fd, b.data + i, 1, MSG_NOSIGNAL), 1);
        if (i == b.len / 2) { // half a frame waits, nothing has run
            f->done = NULL;
            assert_int_equal(f->server_frames_in.value, 0);
        }
    }
    expected = 1;
    wait_for(f, frames_came);
    close(raw_fd);
}

// ---- the server's side broken ----

static void test_client_against_garbage(void **state)
{
    struct fixture *f = *state;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    unsigned port = (unsigned)atoi(strrchr(f->tcp_url, ':') + 1);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)port)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 8), 0);
    start_client(f, f->tcp_url, 1000);
    struct buf b BUF_CLEANUP = {0}, p BUF_CLEANUP = {0};
    Berth__Empty empty = BERTH__EMPTY__INIT;
    for (int i = 0; i < 4; i++) {
        buf_clear(&b);
        buf_clear(&p);
        if (i == 0)
            buf_add(&b, "\xff\xff\xff\xff", 4);
        else if (i == 1)
            hello_put(&b, BERTH__ROLE__POOL, "berth.Borrow");
        else
            hello_put(&b, BERTH__ROLE__POOL, "berth.Pool");
        if (i == 2)
            rpc_frame_add_call(&p, 1, 0, &empty.base);
        if (i == 3)
            rpc_frame_add_reply(&p, 12345, &empty.base); // nobody asked: no offence
        if (p.len)
            frame_put(&b, &p);
        double errors = f->client_errors.value;
        f->done = NULL;
        int peer = -1;
        while (peer < 0) {
            struct pollfd pf = {.fd = fd, .events = POLLIN};
            // The client dials from its loop: let it turn for a moment between the looks.
            f->answers = 0;
            call(f, "echo", 0);
            unsigned before = f->failures;
            expected = before + 1;
            wait_for(f, all_over);
            if (poll(&pf, 1, 20) == 1)
                peer = accept(fd, NULL, NULL);
        }
        assert_int_equal(send(peer, b.data, b.len, MSG_NOSIGNAL), b.len);
        if (i == 3) {
            wait_for(f, is_connected);
        } else {
            raw_fd = peer;
            fcntl(peer, F_SETFL, O_NONBLOCK);
            wait_for(f, raw_closed);
            assert_true(f->client_errors.value > errors);
        }
        close(peer);
    }
    close(fd);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed, setup, teardown), // forks: before nng starts
        cmocka_unit_test_setup_teardown(test_many_ipc, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_tcp, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unbatched, setup, teardown),
        cmocka_unit_test_setup_teardown(test_later_and_reversed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_than_may_be_open, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reconnect, setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_server, setup, teardown),
        cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_byte_by_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_against_garbage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
