#include "common/rpc_internal.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PEERS_MAX 64
#define PEER_CALLS_MAX 4096                // unanswered, then it is not read from
#define PEER_UNSENT_MAX (4u * 1024 * 1024) // bytes of answers it has not taken: likewise
#define HELLO_MS 2000
#define HEARTBEAT_MIN_MS 100
#define SPARE_BATCHES 16
#define ARENA_BYTES (64 * 1024)

struct peer {
    struct rpc_server *server; // NULL: the server is gone
    struct rpc_conn *conn;     // NULL: the connection is gone, answers are dropped
    struct peer *next;
    struct loop_timer hello_timer, heart;
    int64_t heartbeat_ms; // 0: none was asked for
    Berth__Role role;
    bool greeted, dispatching;
    unsigned refs; // the server's, and one for each unanswered call
    unsigned unanswered;
};

// The calls of one frame, freed when the last is answered.
struct batch {
    struct arena *arena;
    struct peer *peer;
    unsigned refs;
    struct batch *next;
};

struct call {
    struct batch *batch;
    uint64_t id;
    bool answered;
};

struct rpc_server {
    struct loop *loop;
    char *url;
    ProtobufCService *service;
    struct rpc_metrics metrics;
    void (*batch_end)(void *ctx);
    void *batch_end_ctx;

    struct rpc_listener *listener;
    struct loop_hook idle;
    struct peer *peers;
    unsigned peers_len;
    struct batch *spare;
    unsigned spare_len;
};

// ---- peers and batches ----

static void peer_release(struct peer *p)
{
    if (--p->refs == 0)
        free(p);
}

static void peer_close(struct peer *p)
{
    struct rpc_server *s = p->server;
    struct peer **at = &s->peers;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    s->peers_len--;
    loop_timer_cancel(s->loop, &p->hello_timer);
    loop_timer_cancel(s->loop, &p->heart);
    rpc_conn_free(&p->conn);
    p->server = NULL;
    peer_release(p);
}

static struct batch *batch_new(struct rpc_server *s, struct peer *p)
{
    struct batch *b = s->spare;
    if (b) {
        s->spare = b->next;
        s->spare_len--;
    } else {
        b = malloc(sizeof *b);
        if (!b)
            abort();
        b->arena = arena_new(ARENA_BYTES);
    }
    b->peer = p;
    b->refs = 1;
    p->refs++;
    return b;
}

static void batch_release(struct batch *b)
{
    if (--b->refs)
        return;
    struct rpc_server *s = b->peer->server;
    peer_release(b->peer);
    if (s && s->spare_len < SPARE_BATCHES) {
        arena_reset(b->arena);
        b->next = s->spare;
        s->spare = b;
        s->spare_len++;
        return;
    }
    arena_free(&b->arena);
    free(b);
}

// ---- answers ----

// Begins an answer. False: nobody waits for it.
static bool answer_begin(struct call *call)
{
    struct peer *p = call->batch->peer;
    if (call->answered) {
        log_error("rpc.answered-twice", LOG_I("id", (int64_t)call->id));
        return false;
    }
    call->answered = true;
    p->unanswered--;
    return p->conn != NULL;
}

static void answer_end(struct call *call)
{
    struct peer *p = call->batch->peer;
    if (p->conn && p->unanswered == PEER_CALLS_MAX - 1)
        rpc_conn_resume(p->conn);
    batch_release(call->batch);
}

void rpc_fail(void *closure_data, const Berth__Error *error)
{
    struct call *call = closure_data;
    if (call->answered) {
        answer_begin(call);
        return;
    }
    if (answer_begin(call)) {
        size_t bytes = rpc_frame_record_bytes(&error->base);
        struct peer *p = call->batch->peer;
        rpc_frame_add_error(rpc_conn_open(p->conn, bytes, RPC_REPLIES_FRAME_MAX), call->id, error);
    }
    answer_end(call);
}

static void answer(const ProtobufCMessage *reply, void *closure_data)
{
    struct call *call = closure_data;
    size_t bytes = reply ? rpc_frame_record_bytes(reply) : 0;
    if (!reply || bytes > RPC_REPLIES_FRAME_MAX) {
        Berth__Error error = BERTH__ERROR__INIT;
        error.code = -32603;
        error.message = (char *)(uintptr_t)(reply ? "the answer is too long" : "no answer");
        rpc_fail(closure_data, &error);
        return;
    }
    if (call->answered) {
        answer_begin(call);
        return;
    }
    if (answer_begin(call)) {
        struct peer *p = call->batch->peer;
        rpc_frame_add_reply(rpc_conn_open(p->conn, bytes, RPC_REPLIES_FRAME_MAX), call->id, reply);
    }
    answer_end(call);
}

Berth__Role rpc_caller_role(const void *closure_data)
{
    const struct call *call = closure_data;
    return call->batch->peer->role;
}

// ---- calls ----

static bool call_dispatch(struct rpc_server *s, struct batch *b, const Berth__Call *in)
{
    const ProtobufCServiceDescriptor *d = s->service->descriptor;
    if (in->method >= d->n_methods)
        return false;
    ProtobufCMessage *m = rpc_frame_unpack(d->methods[in->method].input, &in->payload, b->arena);
    if (!m)
        return false;
    struct call *call = arena_alloc(b->arena, sizeof *call);
    *call = (struct call){.batch = b, .id = in->id};
    b->refs++;
    b->peer->unanswered++;
    rpc_count(s->metrics.calls, 1);
    s->service->invoke(s->service, in->method, m, answer, call);
    return true;
}

static int calls_take(struct rpc_server *s, struct peer *p, struct batch *b,
                      const Berth__Frame *frame)
{
    bool ok = true;
    rpc_count(s->metrics.frames_received, 1);
    for (size_t i = 0; ok && i < frame->n_calls; i++)
        ok = call_dispatch(s, b, frame->calls[i]);
    if (s->batch_end)
        s->batch_end(s->batch_end_ctx);
    rpc_count(s->metrics.frames_sent, rpc_conn_flush(p->conn));
    return ok ? 0 : -EPROTO;
}

// One that does not read gets no more of them until it does.
static void on_heart(void *ctx)
{
    struct peer *p = ctx;
    rpc_count(p->server->metrics.frames_sent, rpc_conn_flush(p->conn)); // a frame is of one kind
    if (rpc_conn_unsent(p->conn) == 0) {
        rpc_frame_add_heartbeat(rpc_conn_open(p->conn, 0, RPC_REPLIES_FRAME_MAX));
        rpc_conn_flush(p->conn);
    }
    loop_timer_arm(p->server->loop, &p->heart, mono_after(clock_mono(), p->heartbeat_ms));
}

static int hello_take(struct rpc_server *s, struct peer *p, const Berth__Hello *hello)
{
    if (p->greeted || hello->version != RPC_VERSION ||
        strcmp(hello->service, s->service->descriptor->name) != 0)
        return -EPROTO;
    if (!rpc_tls_is(p->conn->tls, hello->role)) {
        log_warn("rpc.refused", LOG_S("url", s->url),
                 LOG_S("certificate", crypto_tls_peer(p->conn->tls)),
                 LOG_S("msg", "it claims another role"));
        return -EPROTO;
    }
    p->greeted = true;
    p->role = hello->role;
    loop_timer_cancel(s->loop, &p->hello_timer);
    if (hello->heartbeat_ms) {
        p->heartbeat_ms =
            hello->heartbeat_ms > HEARTBEAT_MIN_MS ? hello->heartbeat_ms : HEARTBEAT_MIN_MS;
        on_heart(p);
    }
    return 0;
}

static int on_frame(void *ctx, const uint8_t *in, size_t len)
{
    struct peer *p = ctx;
    struct rpc_server *s = p->server;
    enum rpc_frame_kind kind;
    struct batch *b = batch_new(s, p);
    Berth__Frame *frame = rpc_frame_decode(in, len, b->arena, &kind);
    int r = -EPROTO;
    if (frame && kind == RPC_HELLO)
        r = hello_take(s, p, frame->hello);
    else if (frame && kind == RPC_CALLS && p->greeted)
        r = calls_take(s, p, b, frame);
    batch_release(b);
    return r;
}

static bool may_read(void *ctx)
{
    const struct peer *p = ctx;
    return p->unanswered < PEER_CALLS_MAX && rpc_conn_unsent(p->conn) < PEER_UNSENT_MAX;
}

static void on_down(void *ctx, const char *reason, bool protocol)
{
    struct peer *p = ctx;
    if (protocol) {
        rpc_count(p->server->metrics.errors, 1);
        log_warn("rpc.bad-frame", LOG_S("url", p->server->url), LOG_S("msg", reason));
    }
    peer_close(p);
}

static void on_hello_timer(void *ctx)
{
    on_down(ctx, "no hello came", true);
}

static bool on_idle(void *ctx)
{
    struct rpc_server *s = ctx;
    for (struct peer *p = s->peers; p; p = p->next)
        rpc_count(s->metrics.frames_sent, rpc_conn_flush(p->conn));
    return false;
}

static void on_stream(void *ctx, nng_stream *stream)
{
    struct rpc_server *s = ctx;
    if (s->peers_len >= PEERS_MAX) {
        log_warn("rpc.refused", LOG_S("url", s->url), LOG_S("msg", "too many connections"));
        nng_stream_free(stream);
        return;
    }
    struct peer *p = calloc(1, sizeof *p);
    if (!p)
        abort();
    p->server = s;
    p->refs = 1;
    p->next = s->peers;
    s->peers = p;
    s->peers_len++;
    const struct rpc_conn_events events = {on_frame, on_down, may_read, p};
    struct crypto_tls *tls = rpc_listener_tls(s->listener);
    p->conn = rpc_conn_new(s->loop, stream, tls, RPC_CALLS_FRAME_MAX, &events);
    loop_timer_init(&p->hello_timer, on_hello_timer, p);
    loop_timer_init(&p->heart, on_heart, p);
    loop_timer_arm(s->loop, &p->hello_timer, mono_after(clock_mono(), HELLO_MS));
    rpc_frame_add_hello(rpc_conn_open(p->conn, 0, RPC_REPLIES_FRAME_MAX),
                        rpc_service_role(s->service->descriptor), s->service->descriptor->name, 0);
    rpc_conn_flush(p->conn);
    rpc_conn_start(p->conn);
}

// ---- life ----

int rpc_server_new(struct rpc_server **out, struct loop *loop, const char *url,
                   ProtobufCService *service, const struct rpc_metrics *metrics)
{
    struct rpc_server *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    s->loop = loop;
    s->service = service;
    s->url = strdup(url);
    if (!s->url)
        abort();
    if (metrics)
        s->metrics = *metrics;
    loop_hook_add(loop, LOOP_IDLE, &s->idle, on_idle, s);
    int r = rpc_listener_new(&s->listener, loop, url, on_stream, s);
    if (r) {
        rpc_server_free(&s);
        return r;
    }
    *out = s;
    return 0;
}

void rpc_server_free(struct rpc_server **server)
{
    struct rpc_server *s = *server;
    if (!s)
        return;
    rpc_listener_free(&s->listener);
    loop_hook_del(s->loop, LOOP_IDLE, &s->idle);
    while (s->peers) {
        rpc_conn_flush(s->peers->conn); // what was answered should arrive
        peer_close(s->peers);
    }
    while (s->spare) {
        struct batch *b = s->spare;
        s->spare = b->next;
        arena_free(&b->arena);
        free(b);
    }
    free(s->url);
    free(s);
    *server = NULL;
}

void rpc_server_set_batch_end(struct rpc_server *s, void (*fn)(void *ctx), void *ctx)
{
    s->batch_end = fn;
    s->batch_end_ctx = ctx;
}
