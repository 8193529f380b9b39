#include "tests/component/rpc_fixture.h"

#include "tests/component/loop_wait.h"

#include <arpa/inet.h>
#include <sys/socket.h>

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
        e.message = (char *)(uintptr_t) "no such session";
        rpc_fail(data, &e);
    } else {
        reply_value(closure, data, value);
        if (strcmp(in->session_id, "twice") == 0)
            reply_value(closure, data, value + 1);
    }
}

void fixture_release(struct fixture *f)
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
    ref.feature = ref.uuid = ref.version = ref.edition = ref.modules = (char *)(uintptr_t) "";
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

static bool is_done(void *ctx)
{
    struct fixture *f = ctx;
    return f->done(f);
}

void fixture_wait(struct fixture *f, bool (*done)(struct fixture *f))
{
    f->done = done;
    loop_wait(f->loop, is_done, f);
}

// ---- what the tests do with it ----

void fixture_serve(struct fixture *f, const char *url)
{
    const struct rpc_metrics m = {.frames_received = &f->server_frames_in,
                                  .frames_sent = &f->server_frames_out,
                                  .errors = &f->server_errors};
    assert_int_equal(rpc_server_new(&f->server, f->loop, url, &f->service.base, &m), 0);
    rpc_server_set_batch_end(f->server, on_batch_end, f);
}

void fixture_dial(struct fixture *f, const char *url, int64_t timeout_ms)
{
    const struct rpc_metrics m = {.errors = &f->client_errors, .reconnects = &f->reconnects};
    assert_int_equal(rpc_client_new(&f->client, f->loop, url, BERTH__ROLE__GATEWAY,
                                    &berth__pool__descriptor, "pool", timeout_ms, &m),
                     0);
}

bool is_connected(struct fixture *f)
{
    return rpc_client_connected(f->client);
}

bool is_disconnected(struct fixture *f)
{
    return !rpc_client_connected(f->client);
}

void fixture_on_answer(const Berth__RevalidateSessionReply *r, void *data)
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

void fixture_call(struct fixture *f, const char *what, uint32_t value)
{
    Berth__RevalidateSessionCall c = BERTH__REVALIDATE_SESSION_CALL__INIT;
    c.session_id = (char *)(uintptr_t)what;
    c.has_nonce = true;
    c.nonce = (ProtobufCBinaryData){sizeof value, (uint8_t *)&value};
    berth__pool__revalidate_session(rpc_client_service(f->client), &c, fixture_on_answer, f);
}

unsigned fixture_expected;
bool all_over(struct fixture *f)
{
    return f->answers + f->failures >= fixture_expected;
}

void fixture_wait_answers(struct fixture *f, unsigned n)
{
    fixture_expected = n;
    fixture_wait(f, all_over);
}

int fixture_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    berth__pool__init(&f->service, NULL);
    f->service.revalidate_session = on_revalidate;
    f->service.list_licenses = on_list;
    assert_int_equal(loop_new(&f->loop), 0);
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

int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    rpc_client_free(&f->client);
    rpc_server_free(&f->server);
    fixture_release(f); // answers to nobody
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

bool all_held(struct fixture *f)
{
    return f->held_len >= fixture_expected;
}
