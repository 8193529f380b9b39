#include "services/trust/endpoint.h"

#include "common/log.h"
#include "services/trust/refusal.h"

#include <stdlib.h>

struct endpoint {
    Berth__Trust_Service service; // first: handlers get this as their service
    struct endpoint_parts parts;
    struct rpc_server *server;
    void (*refused)(void *ctx, const char *method);
    void *ctx;
};

static bool may_call(struct endpoint *e, const void *closure_data, Berth__Role role,
                     const char *method)
{
    Berth__Role caller = rpc_caller_role(closure_data);
    if (caller == role)
        return true;
    const ProtobufCEnumValue *name =
        protobuf_c_enum_descriptor_get_value(&berth__role__descriptor, (int)caller);
    log_warn("trust.refused", LOG_S("method", method), LOG_S("role", name ? name->name : "?"),
             LOG_S("msg", "this process may not call that method"));
    e->refused(e->ctx, method);
    return false;
}

static void on_watch(Berth__Trust_Service *service, const Berth__WatchCall *call,
                     Berth__Verdict_Closure closure, void *closure_data)
{
    struct endpoint *e = (struct endpoint *)service;
    if (call->has_issued_s && rpc_caller_role(closure_data) == BERTH__ROLE__POOL)
        timekeeper_issued(e->parts.timekeeper, (struct wall_time){call->issued_s});
    watch_call(e->parts.watch, call, closure, closure_data);
}

static void on_sign(Berth__Trust_Service *service, const Berth__SignCall *call,
                    Berth__SignReply_Closure closure, void *closure_data)
{
    struct endpoint *e = (struct endpoint *)service;
    if (!may_call(e, closure_data, BERTH__ROLE__BORROW, "Sign"))
        return refuse_role(closure_data, "Sign");
    signer_sign(e->parts.signer, call, closure, closure_data);
}

static void on_delegate(Berth__Trust_Service *service, const Berth__DelegateCall *call,
                        Berth__DelegateReply_Closure closure, void *closure_data)
{
    struct endpoint *e = (struct endpoint *)service;
    if (!may_call(e, closure_data, BERTH__ROLE__POOL, "Delegate"))
        return refuse_role(closure_data, "Delegate");
    signer_delegate(e->parts.signer, call, closure, closure_data);
}

static void on_read_head(Berth__Trust_Service *service, const Berth__Empty *call,
                         Berth__HeadReply_Closure closure, void *closure_data)
{
    struct endpoint *e = (struct endpoint *)service;
    (void)call;
    if (!may_call(e, closure_data, BERTH__ROLE__BORROW, "ReadHead"))
        return refuse_role(closure_data, "ReadHead");
    head_read(e->parts.head, closure, closure_data);
}

static void on_move_head(Berth__Trust_Service *service, const Berth__MoveHeadCall *call,
                         Berth__HeadReply_Closure closure, void *closure_data)
{
    struct endpoint *e = (struct endpoint *)service;
    if (!may_call(e, closure_data, BERTH__ROLE__BORROW, "MoveHead"))
        return refuse_role(closure_data, "MoveHead");
    head_move(e->parts.head, call, closure, closure_data);
}

int endpoint_new(struct endpoint **out, struct loop *loop, const char *url,
                 const struct endpoint_parts *parts, const struct rpc_metrics *metrics,
                 void (*refused)(void *ctx, const char *method), void *ctx)
{
    struct endpoint *e = calloc(1, sizeof *e);
    if (e == NULL)
        abort();
    // An RPC without a handler does not compile.
    e->service = (Berth__Trust_Service)BERTH__TRUST__INIT(on_);
    e->parts = *parts;
    e->refused = refused;
    e->ctx = ctx;
    int r = rpc_server_new(&e->server, loop, url, &e->service.base, metrics);
    if (r < 0)
        endpoint_free(&e);
    *out = e;
    return r;
}

void endpoint_free(struct endpoint **endpoint)
{
    struct endpoint *e = *endpoint;
    if (e == NULL)
        return;
    rpc_server_free(&e->server);
    free(e);
    *endpoint = NULL;
}
