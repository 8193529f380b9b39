// One byte stream of nng with frames on it. nng's threads only set a flag and post; buffers,
// parsing and everything else belong to the loop.
//
// Traps of nng 1.5.2 that shape this file:
// - an aio with a callback costs a switch to one of nng's threads, also when the operation was done
//   at once. A send nearly always is, so its aio has no callback: it is looked at right after the
//   call, and in the rare other case again each millisecond.
// - sends and receives may be partial, whatever the comment in posix_ipcconn.c says.
#include "common/rpc_internal.h"

#include "common/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define READ_BYTES (64 * 1024)
#define SEND_CHECK_MS 1
#define UNSENT_MAX (64u * 1024 * 1024) // a peer that does not read

int rpc_errno(int nng_error)
{
    switch (nng_error) {
    case 0:
        return 0;
    case NNG_ENOMEM:
        return -ENOMEM;
    case NNG_EADDRINUSE:
        return -EADDRINUSE;
    case NNG_EADDRINVAL:
    case NNG_EINVAL:
    case NNG_ENOTSUP:
        return -EINVAL;
    case NNG_EPERM:
        return -EACCES;
    case NNG_ENOENT:
        return -ENOENT;
    default:
        return (nng_error & NNG_ESYSERR) ? -(nng_error & ~NNG_ESYSERR) : -EIO;
    }
}

// ---- receive ----

static void send_more(struct rpc_conn *c);

static void on_received(void *ctx) // on a thread of nng
{
    struct rpc_conn *c = ctx;
    pthread_mutex_lock(&c->lock);
    c->recv_done = true;
    pthread_mutex_unlock(&c->lock);
    loop_post(c->loop, &c->post);
}

// As nng's own messages are read: the length of one, then the one.
static size_t receive_one(const struct rpc_conn *c)
{
    ssize_t n = rpc_frame_length((const uint8_t *)c->in.data, c->in.len, c->frame_max);
    return n > 0 ? (size_t)n - c->in.len : RPC_LENGTH_BYTES - c->in.len;
}

static void receive(struct rpc_conn *c)
{
    if (c->receiving)
        return;
    c->receiving = true;
    struct buf *to = c->tls ? &c->cipher : &c->in;
    size_t want = c->one_by_one && !c->tls ? receive_one(c) : READ_BYTES;
    buf_reserve(to, want);
    nng_iov iov = {.iov_buf = to->data + to->len, .iov_len = want};
    nng_aio_set_iov(c->recv_aio, 1, &iov);
    nng_stream_recv(c->stream, c->recv_aio);
}

static void down(struct rpc_conn *c, const char *reason, bool protocol)
{
    if (c->down_told)
        return;
    c->down_told = true;
    c->events.down(c->events.ctx, reason, protocol);
}

// False: the connection is gone.
static bool parse(struct rpc_conn *c)
{
    size_t at = 0;
    while (c->events.may_read(c->events.ctx)) {
        const uint8_t *in = (const uint8_t *)c->in.data + at;
        ssize_t n = rpc_frame_length(in, c->in.len - at, c->frame_max);
        if (n < 0)
            return down(c, "a frame of impossible length", true), false;
        if (n == 0 || (size_t)n > c->in.len - at)
            break;
        at += (size_t)n;
        if (c->events.frame(c->events.ctx, in + RPC_LENGTH_BYTES, (size_t)n - RPC_LENGTH_BYTES))
            return down(c, "a frame that breaks the protocol", true), false;
    }
    buf_consume(&c->in, at);
    return true;
}

// False: the connection is gone.
static bool received(struct rpc_conn *c)
{
    c->receiving = false;
    int r = nng_aio_result(c->recv_aio);
    size_t n = r ? 0 : nng_aio_count(c->recv_aio);
    if (!r && !c->tls) {
        c->in.len += n;
    } else if (!r) {
        struct error err = {{0}};
        if (crypto_tls_receive(c->tls, c->cipher.data, n, &c->in, &c->wire, &err)) {
            send_more(c); // the alert says to the other side what is wrong
            return down(c, err.text, true), false;
        }
        send_more(c);
    }
    return r ? (down(c, nng_strerror(r), false), false) : true;
}

static void on_post(void *ctx)
{
    struct rpc_conn *c = ctx;
    pthread_mutex_lock(&c->lock);
    bool done = c->recv_done;
    c->recv_done = false;
    pthread_mutex_unlock(&c->lock);
    if (c->down_told)
        return;
    if (c->failed)
        return down(c, "it does not take what is sent", false);
    if (done && !received(c))
        return;
    // While a receive is out its buffer must not move; there is nothing new to parse either.
    if (c->receiving || !parse(c))
        return;
    if (c->events.may_read(c->events.ctx))
        receive(c);
}

void rpc_conn_start(struct rpc_conn *c)
{
    if (c->tls) {
        // A client speaks first. Nothing has arrived yet that could be wrong.
        (void)crypto_tls_receive(c->tls, NULL, 0, &c->in, &c->wire, NULL);
        send_more(c);
    }
    receive(c);
}

void rpc_conn_resume(struct rpc_conn *c)
{
    if (!c->receiving)
        loop_post(c->loop, &c->post);
}

// ---- send ----

static size_t first_frame_rest(const struct rpc_conn *c)
{
    size_t at = 0;
    while (at <= c->sent_bytes)
        at += (size_t)rpc_frame_length((const uint8_t *)c->sending.data + at, c->sending.len - at,
                                       UINT32_MAX);
    return at - c->sent_bytes;
}

// Torn down from the loop, not from inside a call of the owner.
static void conn_fail(struct rpc_conn *c)
{
    c->failed = true;
    loop_post(c->loop, &c->post);
}

// True: the operation is over and its bytes are counted, or it failed.
static bool send_step(struct rpc_conn *c)
{
    // nng 1.5.2 cannot be asked whether an operation is over. Until then result and count are 0;
    // once one is not, it ends without waiting for anything, so that this wait is a barrier.
    if (nng_aio_result(c->send_aio) == 0 && nng_aio_count(c->send_aio) == 0)
        return false;
    nng_aio_wait(c->send_aio);
    c->send_busy = false;
    c->sent_bytes += nng_aio_count(c->send_aio);
    if (nng_aio_result(c->send_aio))
        conn_fail(c);
    return true;
}

// False: nothing waits.
static bool sending_refill(struct rpc_conn *c)
{
    struct error err = {{0}};
    if (c->tls && c->out.len && crypto_tls_ready(c->tls)) {
        if (crypto_tls_send(c->tls, c->out.data, c->out.len, &c->wire, &err))
            conn_fail(c);
        buf_clear(&c->out);
    }
    struct buf *next = c->tls ? &c->wire : &c->out;
    if (next->len == 0)
        return false;
    buf_clear(&c->sending);
    struct buf empty = c->sending;
    c->sending = *next;
    *next = empty;
    c->sent_bytes = 0;
    return true;
}

static void send_more(struct rpc_conn *c)
{
    while (!c->send_busy && !c->failed) {
        if (c->sent_bytes == c->sending.len && !sending_refill(c))
            return;
        size_t n = c->one_by_one && !c->tls ? first_frame_rest(c) : c->sending.len - c->sent_bytes;
        nng_iov iov = {.iov_buf = c->sending.data + c->sent_bytes, .iov_len = n};
        nng_aio_set_iov(c->send_aio, 1, &iov);
        c->send_busy = true;
        nng_stream_send(c->stream, c->send_aio);
        if (!send_step(c))
            loop_timer_arm(c->loop, &c->send_timer, mono_after(clock_mono(), SEND_CHECK_MS));
    }
}

static void on_send_timer(void *ctx)
{
    struct rpc_conn *c = ctx;
    if (!send_step(c)) {
        loop_timer_arm(c->loop, &c->send_timer, mono_after(clock_mono(), SEND_CHECK_MS));
        return;
    }
    send_more(c);
    if (!c->receiving && c->events.may_read(c->events.ctx))
        rpc_conn_resume(c);
}

static unsigned close_frame(struct rpc_conn *c)
{
    if (c->open_records == 0)
        return 0;
    size_t n = c->open.len - RPC_LENGTH_BYTES;
    uint8_t *p = (uint8_t *)c->open.data;
    for (int i = 0; i < RPC_LENGTH_BYTES; i++)
        p[i] = (uint8_t)(n >> (24 - 8 * i));
    c->open_records = 0;
    if (c->out.len == 0) {
        struct buf empty = c->out;
        c->out = c->open;
        c->open = empty;
    } else {
        buf_add(&c->out, c->open.data, c->open.len);
    }
    buf_clear(&c->open);
    return 1;
}

struct buf *rpc_conn_open(struct rpc_conn *c, size_t bytes, size_t max)
{
    if (c->open_records >= RPC_FRAME_CALLS_MAX ||
        (c->open_records && c->open.len + bytes > max + RPC_LENGTH_BYTES))
        close_frame(c);
    if (c->open_records == 0) {
        buf_clear(&c->open);
        buf_add(&c->open, "\0\0\0", RPC_LENGTH_BYTES);
    }
    c->open_records++;
    return &c->open;
}

unsigned rpc_conn_flush(struct rpc_conn *c)
{
    unsigned n = close_frame(c);
    send_more(c);
    if (rpc_conn_unsent(c) > UNSENT_MAX && !c->failed)
        conn_fail(c);
    return n;
}

size_t rpc_conn_unsent(const struct rpc_conn *c)
{
    return c->out.len + c->wire.len + c->sending.len - c->sent_bytes;
}

// ---- life ----

static bool one_by_one_asked(void)
{
    const char *v = getenv("BERTH_RPC_UNBATCHED");
    return v && !strcmp(v, "1");
}

struct rpc_conn *rpc_conn_new(struct loop *loop, nng_stream *stream, struct crypto_tls *tls,
                              size_t frame_max, const struct rpc_conn_events *events)
{
    struct rpc_conn *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    c->loop = loop;
    c->events = *events;
    c->frame_max = frame_max;
    c->stream = stream;
    c->tls = tls;
    c->one_by_one = one_by_one_asked();
    pthread_mutex_init(&c->lock, NULL);
    c->post = (struct loop_post){.fn = on_post, .ctx = c};
    loop_timer_init(&c->send_timer, on_send_timer, c);
    if (nng_aio_alloc(&c->recv_aio, on_received, c) || nng_aio_alloc(&c->send_aio, NULL, NULL))
        abort();
    return c;
}

void rpc_conn_free(struct rpc_conn **conn)
{
    struct rpc_conn *c = *conn;
    if (!c)
        return;
    *conn = NULL;
    nng_stream_close(c->stream);
    nng_aio_stop(c->recv_aio); // waits until the callback is through
    nng_aio_stop(c->send_aio);
    loop_post_cancel(c->loop, &c->post);
    loop_timer_cancel(c->loop, &c->send_timer);
    nng_aio_free(c->recv_aio);
    nng_aio_free(c->send_aio);
    nng_stream_free(c->stream);
    pthread_mutex_destroy(&c->lock);
    buf_fini(&c->in);
    buf_fini(&c->open);
    buf_fini(&c->out);
    buf_fini(&c->sending);
    buf_fini(&c->cipher);
    buf_fini(&c->wire);
    crypto_tls_free(&c->tls);
    free(c);
}
