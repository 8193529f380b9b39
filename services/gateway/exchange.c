#include "services/gateway/exchange.h"

#include "common/clock.h"
#include "common/json.h"
#include "services/gateway/exchange_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define ARENA_BYTES 4096
#define ANSWER_KEPT ((size_t)64 << 10) // a larger buffer is not kept for the next exchange
#define SPARE_MAX 256

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
    loop_timer_init(&x->deadline, call_deadline, x);
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

void exchange_settle(struct exchange *x)
{
    if (!x->undone && x->request && x->slowed) {
        x->slowed = false;
        x->waiting = true;
        loop_timer_arm(x->g->loop, &x->deadline, mono_after(loop_now(x->g->loop), SLOWED_MS));
    }
    if (!x->undone && x->request && !x->waiting) {
        const struct call *c = x->calls;
        if (x->batch)
            respond_batch(x);
        else if (!c->len)
            respond(x, 204, NULL, 0, 0);
        else
            respond(x, c->error ? c->error->http_status : 200, x->out.data + c->at, c->len,
                    c->retry_after_s);
    }
    if (!x->undone && !x->outstanding && !x->request)
        exchange_put(x);
}

// ---- starting ----

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
