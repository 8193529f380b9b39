// RPC against bytes that no peer of ours sends.
#include "tests/component/rpc_fixture.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

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
    rpc_frame_add_hello(&p, role, service, 0);
    frame_put(out, &p);
}

static void expect_closed(struct fixture *f, const void *bytes, size_t len)
{
    double errors = f->server_errors.value;
    raw_fd = raw_connect(f);
    if (len)
        assert_int_equal(send(raw_fd, bytes, len, MSG_NOSIGNAL), len);
    fixture_wait(f, raw_closed);
    close(raw_fd);
    assert_int_equal(f->server_errors.value, errors + 1);
}

static void test_garbage(void **state)
{
    struct fixture *f = *state;
    fixture_serve(f, f->ipc_url);
    fixture_dial(f, f->ipc_url, 5000);
    fixture_wait(f, is_connected);
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", 18},
        {"\x80\0\0\0", 4}, // 2^31
        {"\xff\xff\xff\xff", 4},
        {"\0\0\0\0", 4},                 // nothing in it
        {"\0\x10\0\1", 4},               // one byte more than allowed
        {"\0\0\0\1\x0a", 5},             // record without its length
        {"\0\0\0\4\x0a\xff\xff\x7f", 8}, // record longer than the frame
        {"\0\0\0\2\x0a\0", 6},           // hello without anything
        {"\0\0\0\2\x2a\0", 6},           // unknown record
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

    fixture_call(f, "echo", 1); // and others are served all the while
    fixture_wait_answers(f, 1);
    assert_int_equal(f->answers, 1);
}

static bool frames_came(struct fixture *f)
{
    return f->server_frames_in.value >= fixture_expected;
}

static void test_byte_by_byte(void **state)
{
    struct fixture *f = *state;
    fixture_serve(f, f->ipc_url);
    raw_fd = raw_connect(f);
    struct buf b BUF_CLEANUP = {0}, p BUF_CLEANUP = {0};
    hello_put(&b, BERTH__ROLE__GATEWAY, "berth.Pool");
    Berth__RevalidateSessionCall c = BERTH__REVALIDATE_SESSION_CALL__INIT;
    c.session_id = (char *)(uintptr_t) "echo";
    for (uint64_t i = 0; i < 3; i++)
        rpc_frame_add_call(&p, i, 2, &c.base);
    frame_put(&b, &p);
    for (size_t i = 0; i < b.len; i++) {
        assert_int_equal(send(raw_fd, b.data + i, 1, MSG_NOSIGNAL), 1);
        if (i == b.len / 2) // half a frame waits, nothing has run
            assert_int_equal(f->server_frames_in.value, 0);
    }
    fixture_expected = 1;
    fixture_wait(f, frames_came);
    close(raw_fd);
}

// ---- the server's side broken ----

static void test_client_against_garbage(void **state)
{
    struct fixture *f = *state;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    unsigned port = (unsigned)atoi(strrchr(f->tcp_url, ':') + 1);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)port)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 8), 0);
    fixture_dial(f, f->tcp_url, 1000);
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
        int peer = -1;
        while (peer < 0) {
            struct pollfd pf = {.fd = fd, .events = POLLIN};
            // The client dials from its loop: let it turn for a moment between the looks.
            f->answers = 0;
            fixture_call(f, "echo", 0);
            unsigned before = f->failures;
            fixture_expected = before + 1;
            fixture_wait(f, all_over);
            if (poll(&pf, 1, 20) == 1)
                peer = accept(fd, NULL, NULL);
        }
        assert_int_equal(send(peer, b.data, b.len, MSG_NOSIGNAL), b.len);
        if (i == 3) {
            fixture_wait(f, is_connected);
        } else {
            raw_fd = peer;
            fcntl(peer, F_SETFL, O_NONBLOCK);
            fixture_wait(f, raw_closed);
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
        cmocka_unit_test_setup_teardown(test_garbage, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_byte_by_byte, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_client_against_garbage, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
