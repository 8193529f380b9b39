// RPC between the processes: protobuf-c services over nng byte streams, batched: ipc://, tcp://,
// and tls+tcp:// with the certificates of rpc_keys_load. See proto/frame.proto for what crosses the
// wire, performance.md for why: all calls of a loop turn leave as one frame, in LOOP_IDLE or when
// 128 wait, with at most two frames in flight; replies the same. A frame of calls is at most 1 MiB,
// of replies 16 MiB, either at most 1,024 records; a peer that breaks the format is disconnected,
// logged and counted. Everything here is called on the loop thread.
#pragma once

#include "common/core/error.h"
#include "common/core/times.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "types.pb-c.h"

#include <protobuf-c/protobuf-c.h>

// Loads ca.pem, <process>.pem and <process>.key of the folder (`berth rpc-keys`), for the clients
// and servers with a tls+tcp:// URL that are made from now on. process: "pool", … Without it such a
// URL is refused with -ENOKEY. Then both sides of a connection show a certificate of that CA, and
// whose it is decides which role the peer may claim and which service it may offer.
int rpc_keys_load(const char *folder, const char *process, struct error *err);
void rpc_keys_unload(void);

struct rpc_metrics { // cells of the process's metrics table; members may be NULL
    struct metric_cell *frames_sent, *frames_received, *calls, *errors, *reconnects;
};

// ---- client ----
// Use the generated stubs on rpc_client_service(): berth__pool__request_session(svc, &call, fn, d).
// fn(reply, d) runs exactly once, later, never inside the stub. reply NULL: it failed, and
// rpc_client_error(client) says why until fn returns (code 1011 with service set when the peer is
// away, timed out, or the connection broke). The reply lives until fn returns. fn must not
// free the client.
struct rpc_client;

int rpc_client_new(struct rpc_client **out, struct loop *loop, const char *url, Berth__Role role,
                   const ProtobufCServiceDescriptor *service, const char *service_label,
                   int64_t timeout_ms, const struct rpc_metrics *metrics);
void rpc_client_free(struct rpc_client **client); // outstanding calls fail first
ProtobufCService *rpc_client_service(struct rpc_client *client);
const Berth__Error *rpc_client_error(const struct rpc_client *client);
bool rpc_client_connected(const struct rpc_client *client); // hello exchanged
// From the next connection on the server sends a heartbeat each second, whatever else it has to do.
// When none (nor anything else) came for three seconds it is taken for frozen: new calls fail at
// once with 1011, until it is heard of again. Right after rpc_client_new.
void rpc_client_want_heartbeats(struct rpc_client *client);
bool rpc_client_answers(const struct rpc_client *client); // connected, not silent
// fn runs each time a connection is made, before anything is called over it: for a peer that must
// be told something first. It may call stubs.
void rpc_client_on_connect(struct rpc_client *client, void (*fn)(void *ctx), void *ctx);
// Not batched, to measure against (tests/bench): each call is a frame of its own, which is sent by
// itself. With BERTH_RPC_UNBATCHED=1 in the environment of both sides it is also received by
// itself, length first, as nng receives its messages, and so is each answer.
void rpc_client_set_batching(struct rpc_client *client, bool on);

// ---- server ----
// `service` is the generated Berth__X_Service with its handlers. A handler gets (service, input,
// closure, closure_data); it answers, now or later, exactly once: closure(&reply, closure_data), or
// rpc_fail(closure_data, &error). input lives until the answer.
// Calls that are open when the server is freed must be answered all the same (it goes nowhere).
struct rpc_server;

int rpc_server_new(struct rpc_server **out, struct loop *loop, const char *url,
                   ProtobufCService *service, const struct rpc_metrics *metrics);
void rpc_server_free(struct rpc_server **server);
void rpc_fail(void *closure_data, const Berth__Error *error);
Berth__Role rpc_caller_role(const void *closure_data);
// The loop turn's batch: called after all calls of a frame were dispatched, before the replies
// leave (group commit). May be NULL.
void rpc_server_set_batch_end(struct rpc_server *server, void (*fn)(void *ctx), void *ctx);
