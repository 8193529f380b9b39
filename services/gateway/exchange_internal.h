// What exchange.c (the request) and call.c (each call in it) share; not for others.
#pragma once

#include "common/http_server.h"
#include "services/gateway/core/error_table.h"
#include "services/gateway/core/jsonrpc.h"
#include "services/gateway/methods.h"

struct call {
    struct exchange *exchange;
    struct jsonrpc_call envelope;
    const struct method *method; // NULL: unknown
    void *message;
    struct buf pages;               // of a method with pages
    size_t at, len;                 // its answer in exchange->out; len 0: none
    const struct error_kind *error; // NULL: result
    uint32_t retry_after_s;
    bool done;
};

struct exchange {
    struct gateway *g;
    struct http_request *request; // NULL: answered
    const struct method_table *table;
    struct arena *arena;
    struct buf out;  // answers, in the order in which they came
    struct buf body; // of a batch: in the order of the calls
    struct call *calls;
    size_t calls_len;
    unsigned undone;      // calls that are not done
    unsigned outstanding; // calls whose reply has not come; a call may be done without (deadline)
    bool batch, authorised;
    bool slowed, waiting; // is to be answered late; waits for that
    int64_t started_us;
    struct loop_timer deadline; // armed for pages, or when slowed
    struct exchange *next;      // among the spare ones
};

// Judges the call and sends it on, or refuses it.
void call_start(struct call *c);
// Takes the call from the address' bucket. False: refused.
bool call_within_limit(struct call *c);
// The call is done with this error. message NULL: the usual one of the code.
void call_refuse_code(struct call *c, int code, const char *message);
// Answers a second later than it could: who guesses sessions is not to do so quickly, and who has
// one is served as ever, from the same address too.
#define SLOWED_MS 1000
// loop_timer of an exchange: calls that are not done fail with 1011.
void call_deadline(void *exchange);

// Answers the request if no call is left, and gives the exchange back when no reply is either.
void exchange_settle(struct exchange *x);
