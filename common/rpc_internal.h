// Between the files of common/rpc_*: frames as bytes, and one connection.
#pragma once

#include "common/core/arena.h"
#include "common/core/buf.h"
#include "common/crypto_tls.h"
#include "common/loop.h"
#include "common/rpc.h"
#include "frame.pb-c.h"

#include <nng/nng.h>
#include <pthread.h>
#include <sys/types.h>

#define RPC_VERSION 1
#define RPC_CALLS_FRAME_MAX (1024 * 1024)       // bytes of a frame to a server
#define RPC_REPLIES_FRAME_MAX (16 * 1024 * 1024) // of a frame to a client: a list may be long
#define RPC_FRAME_CALLS_MAX 1024
#define RPC_LENGTH_BYTES 4

// ---- rpc_frame.c: pure ----

enum rpc_frame_kind { RPC_HELLO, RPC_CALLS, RPC_REPLIES, RPC_HEARTBEAT };

// Length of the frame that `in` begins with, prefix included; 0: the prefix is not there yet;
// -EMSGSIZE: an impossible length. max is that of the payload.
ssize_t rpc_frame_length(const uint8_t *in, size_t len, size_t max);
// Unpacks the payload of a frame into the arena. NULL: it is not well formed, carries nothing or
// more than one kind of thing, or more than 1,024 of it.
Berth__Frame *rpc_frame_decode(const uint8_t *in, size_t len, struct arena *arena,
                               enum rpc_frame_kind *kind);
ProtobufCAllocator rpc_frame_allocator(struct arena *arena);
ProtobufCMessage *rpc_frame_unpack(const ProtobufCMessageDescriptor *type,
                                   const ProtobufCBinaryData *payload, struct arena *arena);
// Append one record of a frame. The caller writes the prefix when the frame is complete.
void rpc_frame_add_hello(struct buf *out, Berth__Role role, const char *service,
                         uint32_t heartbeat_ms); // 0: none is asked for
void rpc_frame_add_heartbeat(struct buf *out);
void rpc_frame_add_call(struct buf *out, uint64_t id, uint32_t method, const ProtobufCMessage *m);
void rpc_frame_add_reply(struct buf *out, uint64_t id, const ProtobufCMessage *m);
void rpc_frame_add_error(struct buf *out, uint64_t id, const Berth__Error *error);
// Who serves this service.
Berth__Role rpc_service_role(const ProtobufCServiceDescriptor *service);
// Bytes that a record with this message needs at most.
size_t rpc_frame_record_bytes(const ProtobufCMessage *m);

// ---- rpc_conn.c: one byte stream ----

struct rpc_conn_events {
    // One frame's payload. 0, or -errno: the peer broke the protocol.
    int (*frame)(void *ctx, const uint8_t *in, size_t len);
    // It is over: reason for people, protocol error or not. The handler frees the connection.
    void (*down)(void *ctx, const char *reason, bool protocol);
    // False: leave what has arrived where it is (rpc_conn_resume reads on).
    bool (*may_read)(void *ctx);
    void *ctx;
};

struct rpc_conn {
    struct loop *loop;
    struct rpc_conn_events events;
    size_t frame_max;
    nng_stream *stream;
    nng_aio *recv_aio, *send_aio;
    struct loop_post post;
    struct loop_timer send_timer;
    pthread_mutex_t lock;
    bool recv_done; // guarded by lock; all else belongs to the loop

    bool receiving, failed, down_told;
    struct buf in; // recv_aio writes behind in.len while `receiving`
    struct buf open; // the frame that is being filled, with room for its prefix
    uint32_t open_records;
    struct buf out;     // complete frames that wait
    struct buf sending; // what send_aio sends, from sent_bytes on
    struct crypto_tls *tls; // NULL: frames cross the stream as they are
    struct buf cipher;      // with TLS what recv_aio writes to, else unused
    struct buf wire;        // with TLS what waits to be sent, else unused
    size_t sent_bytes;
    bool send_busy;
    bool one_by_one; // a frame is sent, and received, by itself
};

// Takes stream and TLS (NULL: none) over, in any case.
struct rpc_conn *rpc_conn_new(struct loop *loop, nng_stream *stream, struct crypto_tls *tls,
                              size_t frame_max, const struct rpc_conn_events *events);
void rpc_conn_free(struct rpc_conn **conn);
void rpc_conn_start(struct rpc_conn *c);  // begin to read
void rpc_conn_resume(struct rpc_conn *c); // may_read is true again: soon, not inside
// The buffer to append records to, a new frame if `bytes` more do not fit into max or the records
// are too many.
struct buf *rpc_conn_open(struct rpc_conn *c, size_t bytes, size_t max);
// Closes the open frame and sends. Returns how many frames that were: 0 or 1.
unsigned rpc_conn_flush(struct rpc_conn *c);
size_t rpc_conn_unsent(const struct rpc_conn *c); // bytes

// ---- rpc_tls.c ----

// For a tls+ URL: who we are (to be freed), and url moved to what nng is to open. For others NULL.
// -ENOKEY: no keys are loaded.
int rpc_tls_identity(const char **url, struct crypto_tls_identity **held);
// Whether the peer's certificate is the one of this role. Without TLS there is none to ask for.
bool rpc_tls_is(const struct crypto_tls *tls, Berth__Role role);

// ---- rpc_listener.c, rpc_dialer.c: byte streams that come to be, on the loop's thread ----

struct rpc_listener;
struct rpc_dialer;

// Listens at url: ipc:// (its folder is made; a dead server's socket is replaced; processes of
// other users are refused), tcp:// or tls+tcp://. fn takes each stream over and calls
// rpc_listener_tls for it. -errno: -EADDRINUSE if a live server listens there, -ENOKEY.
int rpc_listener_new(struct rpc_listener **out, struct loop *loop, const char *url,
                     void (*fn)(void *ctx, nng_stream *stream), void *ctx);
void rpc_listener_free(struct rpc_listener **listener);
struct crypto_tls *rpc_listener_tls(const struct rpc_listener *l); // for one stream; or NULL

// Each rpc_dialer_dial is followed by one call of fn: with a stream, which it takes over, or NULL
// when none came within timeout_ms. One at a time. -errno: a URL that cannot be dialled, -ENOKEY.
int rpc_dialer_new(struct rpc_dialer **out, struct loop *loop, const char *url, int64_t timeout_ms,
                   void (*fn)(void *ctx, nng_stream *stream), void *ctx);
void rpc_dialer_free(struct rpc_dialer **dialer); // fn is not called any more
void rpc_dialer_dial(struct rpc_dialer *d);
struct crypto_tls *rpc_dialer_tls(const struct rpc_dialer *d); // likewise

// ---- rpc_calls.c: what a client waits for, found by its number and by its age ----

#define RPC_CALL_BUCKETS 1024

struct rpc_call {
    uint64_t id; // ascending
    uint32_t method;
    ProtobufCClosure closure;
    void *closure_data;
    struct mono_time deadline;
    struct rpc_call *next, *prev; // oldest first
    struct rpc_call *bucket_next;
};

struct rpc_call_list {
    struct rpc_call *first, *last;
};

struct rpc_calls {
    struct rpc_call_list sent; // or about to be
    size_t outstanding;
    struct rpc_call *buckets[RPC_CALL_BUCKETS];
    struct rpc_call *spare;
};

struct rpc_call *rpc_call_new(struct rpc_calls *c); // on no list, not cleared
void rpc_call_free(struct rpc_calls *c, struct rpc_call *call);
void rpc_call_append(struct rpc_call_list *l, struct rpc_call *call);
void rpc_call_sent(struct rpc_calls *c, struct rpc_call *call);     // on to `sent`
void rpc_call_answered(struct rpc_calls *c, struct rpc_call *call); // off it
struct rpc_call *rpc_call_find(struct rpc_calls *c, uint64_t id);   // of those sent, or NULL
void rpc_calls_fini(struct rpc_calls *c);                           // when none is out

// ---- shared ----

int rpc_errno(int nng_error); // -errno
static inline void rpc_count(struct metric_cell *cell, double n)
{
    if (cell)
        cell->value += n;
}
