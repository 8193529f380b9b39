#include "common/rpc_internal.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_CALLS 128 // with fewer connections than that, the end of input ends a batch
#define FRAMES_IN_FLIGHT 2
// Calls that wait behind two unanswered frames leave after this all the same: some answers take
// long on purpose.
#define STALL_MS 5
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 1000
#define HELLO_MS 2000
#define HEARTBEAT_MS 1000
#define SILENCE_MS 3000
#define CALLS_MAX 65536 // outstanding

struct rpc_client {
    ProtobufCService service; // first: stubs get this
    struct loop *loop;
    char *url, *label;
    Berth__Role role;
    int64_t timeout_ms;
    struct rpc_metrics metrics;
    void (*connected)(void *ctx); // may be NULL
    void *connected_ctx;

    struct rpc_dialer *dialer;
    struct loop_post failing;
    struct loop_timer dial_timer; // next dial, or the wait for the server's hello
    int64_t backoff_ms;
    bool greeted, unbatched, was_up;
    struct rpc_conn *conn;

    struct loop_hook idle;
    struct loop_timer timeout, stall, silence;
    struct mono_time heard;  // the last frame
    bool heartbeats, silent; // asked for; missed
    uint32_t waiting;        // calls in the open frame
    unsigned in_flight;
    uint64_t next_id;
    struct rpc_calls calls;
    struct rpc_call_list failed; // wait to be told so on the loop

    struct arena *arena; // of the frame of replies in hand
    Berth__Error error;
    const Berth__Error *current_error;
    char message[256];
};

// ---- calls ----

static void call_end(struct rpc_client *c, struct rpc_call *call, const ProtobufCMessage *reply)
{
    ProtobufCClosure closure = call->closure;
    void *data = call->closure_data;
    rpc_call_free(&c->calls, call);
    closure(reply, data);
    c->current_error = NULL;
}

static void error_away(struct rpc_client *c, const char *why)
{
    snprintf(c->message, sizeof c->message, "%s %s", c->label, why);
    berth__error__init(&c->error);
    c->error.code = 1011;
    c->error.service = c->label;
    c->error.message = c->message;
    c->current_error = &c->error;
}

static void call_fail(struct rpc_client *c, struct rpc_call *call, const char *why)
{
    rpc_count(c->metrics.errors, 1);
    error_away(c, why);
    call_end(c, call, NULL);
}

static void fail_all(struct rpc_client *c, const char *why)
{
    while (c->calls.sent.first) {
        struct rpc_call *call = c->calls.sent.first;
        rpc_call_answered(&c->calls, call);
        call_fail(c, call, why);
    }
}

static void on_failing(void *ctx)
{
    struct rpc_client *c = ctx;
    struct rpc_call_list list = c->failed; // more that come meanwhile have their own post
    c->failed = (struct rpc_call_list){0};
    struct rpc_call *next;
    for (struct rpc_call *call = list.first; call; call = next) {
        next = call->next;
        call_fail(c, call, call->id ? "has too much to do" : "does not answer");
    }
}

static void on_timeout(void *ctx)
{
    struct rpc_client *c = ctx;
    struct mono_time now = clock_mono();
    while (c->calls.sent.first && c->calls.sent.first->deadline.ms <= now.ms) {
        struct rpc_call *call = c->calls.sent.first;
        rpc_call_answered(&c->calls, call);
        call_fail(c, call, "did not answer in time");
    }
    if (c->calls.sent.first)
        loop_timer_arm(c->loop, &c->timeout, c->calls.sent.first->deadline);
    else
        c->in_flight = 0;
}

static void flush(struct rpc_client *c)
{
    if (!c->conn || c->waiting == 0)
        return;
    unsigned n = rpc_conn_flush(c->conn);
    rpc_count(c->metrics.frames_sent, n);
    c->in_flight += n;
    c->waiting = 0;
    loop_timer_cancel(c->loop, &c->stall);
}

static void on_stall(void *ctx)
{
    flush(ctx);
}

static bool on_idle(void *ctx)
{
    struct rpc_client *c = ctx;
    if (c->waiting == 0)
        return false;
    if (c->in_flight < FRAMES_IN_FLIGHT)
        flush(c);
    else if (!c->stall.heap_index)
        loop_timer_arm(c->loop, &c->stall, mono_after(clock_mono(), STALL_MS));
    return false;
}

static void invoke(ProtobufCService *service, unsigned method, const ProtobufCMessage *input,
                   ProtobufCClosure closure, void *closure_data)
{
    struct rpc_client *c = (struct rpc_client *)service;
    struct rpc_call *call = rpc_call_new(&c->calls);
    rpc_count(c->metrics.calls, 1);
    *call = (struct rpc_call){.method = method, .closure = closure, .closure_data = closure_data};
    size_t bytes = rpc_frame_record_bytes(input);
    if (!rpc_client_answers(c) || c->calls.outstanding >= CALLS_MAX ||
        bytes > RPC_CALLS_FRAME_MAX) {
        call->id = rpc_client_answers(c);
        rpc_call_append(&c->failed, call);
        loop_post(c->loop, &c->failing);
        return;
    }
    call->id = ++c->next_id;
    call->deadline = mono_after(clock_mono(), c->timeout_ms);
    if (!c->timeout.heap_index)
        loop_timer_arm(c->loop, &c->timeout, call->deadline);
    rpc_call_sent(&c->calls, call);
    rpc_frame_add_call(rpc_conn_open(c->conn, bytes, RPC_CALLS_FRAME_MAX), call->id, method, input);
    c->waiting++;
    if (c->unbatched || (c->waiting >= BATCH_CALLS && c->in_flight < FRAMES_IN_FLIGHT))
        flush(c);
}

// ---- replies ----

static void reply_take(struct rpc_client *c, const Berth__Reply *reply)
{
    struct rpc_call *call = rpc_call_find(&c->calls, reply->id);
    if (!call)
        return; // timed out long ago
    rpc_call_answered(&c->calls, call);
    const ProtobufCMessage *m = NULL;
    if (!reply->error && reply->has_payload)
        m = rpc_frame_unpack(c->service.descriptor->methods[call->method].output, &reply->payload,
                             c->arena);
    if (m) {
        call_end(c, call, m);
    } else if (reply->error) {
        c->current_error = reply->error;
        call_end(c, call, NULL);
    } else {
        call_fail(c, call, "sent an answer that cannot be read");
    }
}

static int hello_take(struct rpc_client *c, const Berth__Hello *hello)
{
    if (c->greeted)
        return -EPROTO;
    if (hello->version != RPC_VERSION || strcmp(hello->service, c->service.descriptor->name) != 0) {
        log_error("rpc.wrong-peer", LOG_S("url", c->url), LOG_S("service", hello->service),
                  LOG_I("version", hello->version),
                  LOG_S("msg", "another service, or another version of it, listens there"));
        return -EPROTO;
    }
    if (!rpc_tls_is(c->conn->tls, rpc_service_role(c->service.descriptor))) {
        log_error("rpc.wrong-peer", LOG_S("url", c->url), LOG_S("service", hello->service),
                  LOG_S("certificate", crypto_tls_peer(c->conn->tls)),
                  LOG_S("msg", "a process that may not offer this service listens there"));
        return -EPROTO;
    }
    c->greeted = true;
    c->backoff_ms = BACKOFF_MIN_MS;
    loop_timer_cancel(c->loop, &c->dial_timer);
    log_info("rpc.connected", LOG_S("service", c->label), LOG_S("url", c->url));
    if (c->was_up)
        rpc_count(c->metrics.reconnects, 1);
    c->was_up = true;
    if (c->connected)
        c->connected(c->connected_ctx);
    return 0;
}

// ---- is it frozen? ----

static void on_silence(void *ctx)
{
    struct rpc_client *c = ctx;
    struct mono_time now = clock_mono();
    // Late itself, this process was stopped or had no time, and what was sent to it is still
    // unread.
    bool late = now.ms - c->silence.when.ms > HEARTBEAT_MS / 2;
    if (late || now.ms - c->heard.ms < SILENCE_MS) {
        loop_timer_arm(c->loop, &c->silence, mono_after(late ? now : c->heard, SILENCE_MS));
        return;
    }
    c->silent = true;
    rpc_count(c->metrics.errors, 1);
    log_warn("rpc.silent", LOG_S("service", c->label), LOG_S("url", c->url),
             LOG_S("msg", "it is connected, but sends no heartbeats: it is frozen or overloaded"));
}

static void heard(struct rpc_client *c, enum rpc_frame_kind kind)
{
    c->heard = clock_mono();
    if (c->silent)
        log_info("rpc.answers-again", LOG_S("service", c->label), LOG_S("url", c->url));
    c->silent = false;
    // Not armed before the first heartbeat: a server that knows of none is not taken for frozen.
    if (kind == RPC_HEARTBEAT && !c->silence.heap_index)
        loop_timer_arm(c->loop, &c->silence, mono_after(c->heard, SILENCE_MS));
}

static int on_frame(void *ctx, const uint8_t *in, size_t len)
{
    struct rpc_client *c = ctx;
    enum rpc_frame_kind kind;
    arena_reset(c->arena);
    Berth__Frame *frame = rpc_frame_decode(in, len, c->arena, &kind);
    if (!frame)
        return -EPROTO;
    if (kind == RPC_HELLO)
        return hello_take(c, frame->hello);
    if (c->heartbeats && c->greeted)
        heard(c, kind);
    if (kind == RPC_HEARTBEAT && c->heartbeats && c->greeted)
        return 0;
    if (kind != RPC_REPLIES || !c->greeted)
        return -EPROTO;
    rpc_count(c->metrics.frames_received, 1);
    if (c->in_flight)
        c->in_flight--;
    for (size_t i = 0; i < frame->n_replies; i++)
        reply_take(c, frame->replies[i]);
    if (!c->calls.sent.first) {
        c->in_flight = 0;
        loop_timer_cancel(c->loop, &c->timeout);
    }
    return 0;
}

// ---- connection ----

static void dial_later(struct rpc_client *c)
{
    loop_timer_arm(c->loop, &c->dial_timer, mono_after(clock_mono(), c->backoff_ms));
    c->backoff_ms = c->backoff_ms * 2 < BACKOFF_MAX_MS ? c->backoff_ms * 2 : BACKOFF_MAX_MS;
}

static void disconnect(struct rpc_client *c, const char *why)
{
    rpc_conn_free(&c->conn);
    c->greeted = c->silent = false;
    loop_timer_cancel(c->loop, &c->silence);
    c->waiting = 0;
    c->in_flight = 0;
    loop_timer_cancel(c->loop, &c->timeout);
    loop_timer_cancel(c->loop, &c->stall);
    fail_all(c, why);
}

static void on_down(void *ctx, const char *reason, bool protocol)
{
    struct rpc_client *c = ctx;
    if (protocol) {
        rpc_count(c->metrics.errors, 1);
        log_warn("rpc.bad-frame", LOG_S("service", c->label), LOG_S("url", c->url),
                 LOG_S("msg", reason));
    } else if (c->greeted) {
        log_warn("rpc.disconnected", LOG_S("service", c->label), LOG_S("url", c->url),
                 LOG_S("msg", reason));
    }
    disconnect(c, "went away before it answered");
    dial_later(c);
}

static bool may_read(void *ctx)
{
    (void)ctx;
    return true;
}

static void on_dialed(void *ctx, nng_stream *stream)
{
    struct rpc_client *c = ctx;
    if (!stream) {
        dial_later(c);
        return;
    }
    const struct rpc_conn_events events = {on_frame, on_down, may_read, c};
    c->conn =
        rpc_conn_new(c->loop, stream, rpc_dialer_tls(c->dialer), RPC_REPLIES_FRAME_MAX, &events);
    c->conn->one_by_one |= c->unbatched;
    rpc_frame_add_hello(rpc_conn_open(c->conn, 0, RPC_CALLS_FRAME_MAX), c->role,
                        c->service.descriptor->name, c->heartbeats ? HEARTBEAT_MS : 0);
    rpc_conn_flush(c->conn);
    loop_timer_arm(c->loop, &c->dial_timer, mono_after(clock_mono(), HELLO_MS));
    rpc_conn_start(c->conn);
}

static void on_dial_timer(void *ctx)
{
    struct rpc_client *c = ctx;
    if (c->conn) {
        on_down(c, "no hello came", true);
        return;
    }
    rpc_dialer_dial(c->dialer);
}

// ---- life ----

static void destroy(ProtobufCService *service)
{
    (void)service; // rpc_client_free does it
}

int rpc_client_new(struct rpc_client **out, struct loop *loop, const char *url, Berth__Role role,
                   const ProtobufCServiceDescriptor *service, const char *service_label,
                   int64_t timeout_ms, const struct rpc_metrics *metrics)
{
    struct rpc_client *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    int r = rpc_dialer_new(&c->dialer, loop, url, HELLO_MS, on_dialed, c);
    if (r) {
        free(c);
        return r;
    }
    c->service = (ProtobufCService){.descriptor = service, .invoke = invoke, .destroy = destroy};
    c->loop = loop;
    c->url = strdup(url);
    c->label = strdup(service_label);
    if (!c->url || !c->label)
        abort();
    c->role = role;
    c->timeout_ms = timeout_ms;
    if (metrics)
        c->metrics = *metrics;
    c->arena = arena_new(64 * 1024);
    c->backoff_ms = BACKOFF_MIN_MS;
    c->failing = (struct loop_post){.fn = on_failing, .ctx = c};
    loop_timer_init(&c->dial_timer, on_dial_timer, c);
    loop_timer_init(&c->timeout, on_timeout, c);
    loop_timer_init(&c->stall, on_stall, c);
    loop_timer_init(&c->silence, on_silence, c);
    loop_hook_add(loop, LOOP_IDLE, &c->idle, on_idle, c);
    on_dial_timer(c);
    *out = c;
    return 0;
}

void rpc_client_free(struct rpc_client **client)
{
    struct rpc_client *c = *client;
    if (!c)
        return;
    rpc_dialer_free(&c->dialer);
    loop_timer_cancel(c->loop, &c->dial_timer);
    disconnect(c, "is not asked any more");
    while (c->failed.first)
        on_failing(c);
    loop_post_cancel(c->loop, &c->failing);
    loop_hook_del(c->loop, LOOP_IDLE, &c->idle);
    rpc_calls_fini(&c->calls);
    arena_free(&c->arena);
    free(c->url);
    free(c->label);
    free(c);
    *client = NULL;
}

ProtobufCService *rpc_client_service(struct rpc_client *c)
{
    return &c->service;
}

const Berth__Error *rpc_client_error(const struct rpc_client *c)
{
    return c->current_error;
}

bool rpc_client_connected(const struct rpc_client *c)
{
    return c->greeted;
}

void rpc_client_want_heartbeats(struct rpc_client *c)
{
    c->heartbeats = true;
}

bool rpc_client_answers(const struct rpc_client *c)
{
    return c->greeted && !c->silent;
}

void rpc_client_on_connect(struct rpc_client *c, void (*fn)(void *ctx), void *ctx)
{
    c->connected = fn;
    c->connected_ctx = ctx;
}

void rpc_client_set_batching(struct rpc_client *c, bool on)
{
    c->unbatched = !on;
    if (c->conn)
        c->conn->one_by_one = !on;
}
