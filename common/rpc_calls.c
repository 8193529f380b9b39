#include "common/rpc_internal.h"

#include <stdlib.h>

struct rpc_call *rpc_call_new(struct rpc_calls *c)
{
    struct rpc_call *call = c->spare;
    if (call)
        c->spare = call->next;
    else if (!(call = malloc(sizeof *call)))
        abort();
    return call;
}

void rpc_call_free(struct rpc_calls *c, struct rpc_call *call)
{
    call->next = c->spare;
    c->spare = call;
}

void rpc_call_append(struct rpc_call_list *l, struct rpc_call *call)
{
    call->next = NULL;
    call->prev = l->last;
    if (l->last)
        l->last->next = call;
    else
        l->first = call;
    l->last = call;
}

static void list_remove(struct rpc_call_list *l, struct rpc_call *call)
{
    if (call->prev)
        call->prev->next = call->next;
    else
        l->first = call->next;
    if (call->next)
        call->next->prev = call->prev;
    else
        l->last = call->prev;
}

void rpc_call_sent(struct rpc_calls *c, struct rpc_call *call)
{
    struct rpc_call **bucket = &c->buckets[call->id % RPC_CALL_BUCKETS];
    rpc_call_append(&c->sent, call);
    call->bucket_next = *bucket;
    *bucket = call;
    c->outstanding++;
}

void rpc_call_answered(struct rpc_calls *c, struct rpc_call *call)
{
    struct rpc_call **at = &c->buckets[call->id % RPC_CALL_BUCKETS];
    while (*at != call)
        at = &(*at)->bucket_next;
    *at = call->bucket_next;
    list_remove(&c->sent, call);
    c->outstanding--;
}

struct rpc_call *rpc_call_find(struct rpc_calls *c, uint64_t id)
{
    struct rpc_call *call = c->buckets[id % RPC_CALL_BUCKETS];
    while (call && call->id != id)
        call = call->bucket_next;
    return call;
}

void rpc_calls_fini(struct rpc_calls *c)
{
    while (c->spare) {
        struct rpc_call *call = c->spare;
        c->spare = call->next;
        free(call);
    }
}
