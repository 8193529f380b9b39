#include "services/gateway/exchange.h"

#include "common/clock.h"
#include "common/json.h"
#include "services/gateway/access.h"
#include "services/gateway/core/error_table.h"
#include "services/gateway/core/jsonrpc.h"
#include "services/gateway/results.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BYTES 4096
#define ANSWER_MAX ((size_t)16 << 20) // of a whole exchange
#define ANSWER_KEPT ((size_t)64 << 10) // a larger buffer is not kept for the next exchange
#define SPARE_MAX 256
#define PAGES_DEADLINE_MS 4800 // results in pages: one RPC timeout does not bound them

struct call {
    struct exchange *exchange;
    struct jsonrpc_call envelope;
    const struct method *method; // NULL: unknown
    void *message;
    struct buf pages;    // of a method with pages
    size_t at, len;      // its answer in exchange->out; len 0: none
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
    int64_t started_us;
    struct loop_timer deadline; // armed for pages only
    struct exchange *next;      // among the spare ones
};

static void on_deadline(void *ctx);

// ---- life ----

static struct exchange *exchange_get(struct gateway *g)
{
    struct exchange *x = g->spare;
    if (x) {
        g->spare = x->next;
        g->spare_len--;
        return x;
    }
    x = calloc(1, sizeof *x);
    if (!x)
        abort();
    x->g = g;
    x->arena = arena_new(ARENA_BYTES);
    loop_timer_init(&x->deadline, on_deadline, x);
    return x;
}

static void exchange_free(struct exchange *x)
{
    arena_free(&x->arena);
    buf_fini(&x->out);
    buf_fini(&x->body);
    free(x);
}

static void buf_reuse(struct buf *b)
{
    if (b->cap > ANSWER_KEPT)
        buf_fini(b);
    else
        buf_clear(b);
}

static void exchange_put(struct exchange *x)
{
    struct gateway *g = x->g;
    loop_timer_cancel(g->loop, &x->deadline);
    for (size_t i = 0; i < x->calls_len; i++)
        buf_fini(&x->calls[i].pages);
    x->calls = NULL;
    x->calls_len = 0;
    if (g->spare_len >= SPARE_MAX) {
        exchange_free(x);
        return;
    }
    arena_reset(x->arena);
    buf_reuse(&x->out);
    buf_reuse(&x->body);
    x->next = g->spare;
    g->spare = x;
    g->spare_len++;
}

void exchange_free_spare(struct gateway *g)
{
    while (g->spare) {
        struct exchange *x = g->spare;
        g->spare = x->next;
        exchange_free(x);
    }
    g->spare_len = 0;
}

// ---- answering ----

static void respond(struct exchange *x, int status, const char *body, size_t len,
                    uint32_t retry_after_s)
{
    char seconds[16];
    struct http_header headers[2] = {{NULL, NULL}, {NULL, NULL}};
    struct http_request *r = x->request;
    x->request = NULL;
    if (status == 429) {
        snprintf(seconds, sizeof seconds, "%" PRIu32, retry_after_s);
        headers[0] = (struct http_header){"Retry-After", seconds};
    } else if (status == 401) {
        headers[0] = (struct http_header){"WWW-Authenticate", "Bearer realm=\"berth\""};
    }
    http_respond(r, status, status == 204 ? NULL : "application/json", body, len,
                 headers[0].name ? headers : NULL);
}

static void respond_batch(struct exchange *x)
{
    for (size_t i = 0; i < x->calls_len; i++) {
        const struct call *c = &x->calls[i];
        if (!c->len)
            continue;
        buf_add_char(&x->body, x->body.len ? ',' : '[');
        buf_add(&x->body, x->out.data + c->at, c->len);
    }
    if (x->body.len) {
        buf_add_char(&x->body, ']');
        respond(x, 200, x->body.data, x->body.len, 0);
    } else {
        respond(x, 204, NULL, 0, 0);
    }
}

static void exchange_settle(struct exchange *x)
{
    if (!x->undone && x->request) {
        const struct call *c = x->calls;
        if (x->batch)
            respond_batch(x);
        else if (!c->len)
            respond(x, 204, NULL, 0, 0);
        else
            respond(x, c->error ? c->error->http_status : 200, x->out.data + c->at, c->len,
                    c->retry_after_s);
    }
    if (!x->undone && !x->outstanding)
        exchange_put(x);
}

static void count(struct exchange *x, const struct call *c, const char *outcome)
{
    struct metrics *m = x->g->metrics;
    struct method_cells *cells = c->method ? &x->g->cells[method_index(c->method)] : NULL;
    if (!cells) {
        metric_add(m, M_REQUESTS, 1, c->envelope.method ? "unknown" : "invalid", outcome);
        return;
    }
    if (!c->error && c->done && cells->ok)
        cells->ok->value++;
    else
        metric_add(m, M_REQUESTS, 1, c->method->name, outcome);
    metric_observe_s(cells->duration, (double)(clock_mono_us() - x->started_us) / 1e6);
}

static void call_done(struct call *c, const char *outcome)
{
    struct exchange *x = c->exchange;
    c->done = true;
    c->len = x->out.len - c->at;
    count(x, c, outcome);
    x->undone--;
}

// Kinds of refusal that somebody may want to see in the log.
static bool is_worth_a_line(int code)
{
    return code < 0 || code == 1009 || code == 1010;
}

static void call_refuse(struct call *c, const Berth__Error *error)
{
    struct exchange *x = c->exchange;
    c->error = error_kind_of(error->code);
    c->retry_after_s = error->has_retry_after_s ? error->retry_after_s : 1;
    c->at = x->out.len;
    if (!c->envelope.notification) {
        jsonrpc_begin_error(&x->out, c->envelope.id);
        result_error(&x->out, error);
        buf_add_char(&x->out, '}');
    }
    if (is_worth_a_line(c->error->code))
        access_log(x->g, c->error->label, c->method ? c->method->name : NULL,
                   x->request ? http_request_address(x->request) : NULL);
    call_done(c, c->error->label);
}

static void call_refuse_code(struct call *c, int code, const char *message)
{
    Berth__Error error = BERTH__ERROR__INIT;
    error.code = code;
    error.message = message ? arena_strndup(c->exchange->arena, message, strlen(message)) : NULL;
    call_refuse(c, &error);
}

static void call_refuse_params(struct call *c, const struct param_fault *fault)
{
    struct arena *arena = c->exchange->arena;
    Berth__Error error = BERTH__ERROR__INIT;
    error.code = JSONRPC_INVALID_PARAMS;
    error.field = arena_printf(arena, "%s", fault->field);
    error.reason = arena_printf(arena, "%s", fault->reason);
    error.message = arena_printf(arena, "parameter %s: %s", fault->field, fault->reason);
    call_refuse(c, &error);
}

static void call_refuse_large(struct call *c)
{
    call_refuse_code(c, JSONRPC_INTERNAL_ERROR,
                     "the answer is larger than 16 MiB, which the server does not send");
}

// pages: the whole result, where it came in pages.
static void call_result(struct call *c, const void *reply, const struct buf *pages)
{
    struct exchange *x = c->exchange;
    c->at = x->out.len;
    if (!c->envelope.notification) {
        jsonrpc_begin_result(&x->out, c->envelope.id);
        if (pages) {
            buf_add_char(&x->out, '[');
            buf_add(&x->out, pages->data ? pages->data : "", pages->len);
            buf_add_char(&x->out, ']');
        } else {
            c->method->print(&x->out, reply);
        }
        buf_add_char(&x->out, '}');
        if (x->out.len > ANSWER_MAX) {
            x->out.len = c->at;
            call_refuse_large(c);
            return;
        }
    }
    call_done(c, "ok");
}

// ---- replies ----

static void call_send(struct call *c)
{
    struct exchange *x = c->exchange;
    ProtobufCService *service = rpc_client_service(x->g->peers[c->method->peer]);
    x->outstanding++;
    c->method->send(service, c->message, c);
}

// A page of a result. True: the call is not done, the next page is on its way.
static bool call_page(struct call *c, const void *reply)
{
    struct exchange *x = c->exchange;
    struct buf page BUF_CLEANUP = {0};
    c->method->print(&page, reply);
    if (page.len) {
        if (c->pages.len)
            buf_add_char(&c->pages, ',');
        buf_add(&c->pages, page.data, page.len);
    }
    if (c->pages.len > ANSWER_MAX) {
        call_refuse_large(c);
        return false;
    }
    if (!c->method->next_page(x->arena, c->message, reply)) {
        call_result(c, NULL, &c->pages);
        return false;
    }
    if (!x->deadline.heap_index) {
        int64_t passed_ms = (clock_mono_us() - x->started_us) / 1000;
        loop_timer_arm(x->g->loop, &x->deadline,
                       mono_after(loop_now(x->g->loop), PAGES_DEADLINE_MS - passed_ms));
    }
    call_send(c);
    return true;
}

void exchange_reply(const void *reply, void *call)
{
    struct call *c = call;
    struct exchange *x = c->exchange;
    x->outstanding--;
    if (c->done) {
        exchange_settle(x); // it came too late
        return;
    }
    if (!reply)
        call_refuse(c, rpc_client_error(x->g->peers[c->method->peer]));
    else if (!c->method->next_page)
        call_result(c, reply, NULL);
    else if (call_page(c, reply))
        return;
    exchange_settle(x);
}

static void on_deadline(void *ctx)
{
    static char service[] = "pool";
    struct exchange *x = ctx;
    Berth__Error error = BERTH__ERROR__INIT;
    error.code = 1011;
    error.service = service;
    for (size_t i = 0; i < x->calls_len; i++) {
        if (!x->calls[i].done)
            call_refuse(&x->calls[i], &error);
    }
    exchange_settle(x);
}

// ---- starting ----

static bool call_authorised(const struct call *c)
{
    const struct exchange *x = c->exchange;
    if (!x->authorised)
        return false;
    if (!(c->method->flags & METHOD_BORROW_TOKEN) || x->g->config->borrow.open)
        return true;
    return access_may_borrow(x->g, x->request);
}

static int call_read_params(struct call *c, struct param_fault *fault)
{
    struct exchange *x = c->exchange;
    const struct method *m = c->method;
    c->message = arena_alloc(x->arena, m->message->sizeof_message);
    m->message->message_init(c->message);
    int r = params_read(x->arena, m->params, m->params_len, c->envelope.params, c->message, fault);
    if (!r && m->check)
        r = m->check(c->message, fault);
    if (!r && m->flags & METHOD_CLIENT_INFO)
        methods_set_address(x->arena, c->message, http_request_address(x->request));
    return r;
}

// Takes the call from the address' bucket. False: refused.
static bool call_within_limit(struct call *c)
{
    struct exchange *x = c->exchange;
    Berth__Error error = BERTH__ERROR__INIT;
    if (x->table != &methods_licenses)
        return true;
    int64_t wait_ms = ratelimit_take(x->g->ratelimit, http_request_address(x->request),
                                     loop_now(x->g->loop));
    if (!wait_ms)
        return true;
    error.code = 1010;
    error.has_retry_after_s = 1;
    error.retry_after_s = (uint32_t)((wait_ms + 999) / 1000);
    call_refuse(c, &error);
    return false;
}

static void call_start(struct call *c)
{
    struct exchange *x = c->exchange;
    const struct jsonrpc_call *e = &c->envelope;
    struct param_fault fault = {"params", e->why};
    if (e->method)
        c->method = method_find(x->table, e->method);
    if (!call_within_limit(c))
        return;
    if (e->code == JSONRPC_INVALID_REQUEST) {
        call_refuse_code(c, e->code, e->why);
    } else if (!x->authorised) {
        call_refuse_code(c, 1009, NULL);
    } else if (!c->method) {
        call_refuse_code(c, JSONRPC_METHOD_NOT_FOUND,
                         arena_printf(x->arena, "there is no such method at %s", x->table->path));
    } else if (!call_authorised(c)) {
        call_refuse_code(c, 1009, NULL);
    } else if (e->code || call_read_params(c, &fault)) {
        call_refuse_params(c, &fault);
    } else if (e->notification && c->method->flags & METHOD_NOT_NOTIFIED) {
        c->error = error_kind_of(JSONRPC_INVALID_REQUEST); // for the count; nobody is told
        access_log(x->g, "notification", c->method->name, http_request_address(x->request));
        call_done(c, "notification-refused");
    } else {
        call_send(c);
    }
}

// The text as a whole cannot be worked on: one answer with id null.
static void exchange_refuse(struct exchange *x, int code, const char *why)
{
    x->batch = false;
    x->calls_len = x->undone = 1;
    x->calls = arena_zalloc(x->arena, sizeof *x->calls);
    x->calls->exchange = x;
    jsonrpc_read(&x->calls->envelope, NULL, (struct json_span){NULL, 0});
    if (call_within_limit(x->calls))
        call_refuse_code(x->calls, code, why);
    exchange_settle(x);
}

static void exchange_run(struct exchange *x, const cJSON *tree, const struct json_ids *ids)
{
    const cJSON *item = ids->batch ? tree->child : tree;
    x->calls = arena_zalloc(x->arena, x->calls_len * sizeof *x->calls);
    x->undone = (unsigned)x->calls_len;
    for (size_t i = 0; i < x->calls_len; i++, item = ids->batch ? item->next : NULL) {
        struct json_span id = ids->items[i];
        if (id.p) // the body may go before the answer is written
            id.p = arena_strndup(x->arena, id.p, id.len);
        x->calls[i].exchange = x;
        jsonrpc_read(&x->calls[i].envelope, item, id);
    }
    for (size_t i = 0; i < x->calls_len; i++)
        call_start(&x->calls[i]);
    exchange_settle(x);
}

void exchange_start(struct gateway *g, struct http_request *r, const struct method_table *table,
                    bool authorised)
{
    struct exchange *x = exchange_get(g);
    struct json_span spans[JSONRPC_BATCH_MAX];
    struct json_ids ids = {.items = spans, .cap = JSONRPC_BATCH_MAX};
    struct error err;
    size_t len;
    const char *body = http_request_body(r, &len);
    const char *why = NULL;
    x->request = r;
    x->table = table;
    x->authorised = authorised;
    x->started_us = clock_mono_us();
    const cJSON *tree = json_parse_ids(x->arena, body ? body : "", len, &ids, &err);
    if (!tree) {
        exchange_refuse(x, JSONRPC_PARSE_ERROR, err.text);
        return;
    }
    x->batch = ids.batch;
    x->calls_len = jsonrpc_count(&ids, &why);
    if (x->calls_len)
        exchange_run(x, tree, &ids);
    else
        exchange_refuse(x, JSONRPC_INVALID_REQUEST, why);
}
