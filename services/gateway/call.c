#include "common/clock.h"
#include "services/gateway/access.h"
#include "services/gateway/exchange_internal.h"
#include "services/gateway/results.h"

#include <string.h>

#define ANSWER_MAX ((size_t)16 << 20) // of a whole exchange
#define PAGES_DEADLINE_MS 4800        // results in pages: one RPC timeout does not bound them

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

static void count_miss(struct exchange *x, const Berth__Error *error)
{
    if (error->code != 1003 || !error->reason || strcmp(error->reason, "unknown") || !x->request)
        return;
    const char *address = http_request_address(x->request);
    if (!ratelimit_take(x->g->misses, address, loop_now(x->g->loop)))
        return;
    x->slowed = true;
    metric_add(x->g->metrics, M_SESSION_MISSES_SLOWED, 1);
    access_log(x->g, "session-guesses", NULL, address);
}

static void call_refuse(struct call *c, const Berth__Error *error)
{
    struct exchange *x = c->exchange;
    count_miss(x, error);
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

void call_refuse_code(struct call *c, int code, const char *message)
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

void call_deadline(void *exchange)
{
    static char service[] = "pool";
    struct exchange *x = exchange;
    Berth__Error error = BERTH__ERROR__INIT;
    error.code = 1011;
    error.service = service;
    x->waiting = false;
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

bool call_within_limit(struct call *c)
{
    struct exchange *x = c->exchange;
    Berth__Error error = BERTH__ERROR__INIT;
    if (x->table != &methods_licenses)
        return true;
    int64_t wait_ms =
        ratelimit_take(x->g->ratelimit, http_request_address(x->request), loop_now(x->g->loop));
    if (!wait_ms)
        return true;
    error.code = 1010;
    error.has_retry_after_s = 1;
    error.retry_after_s = (uint32_t)((wait_ms + 999) / 1000);
    call_refuse(c, &error);
    return false;
}

void call_start(struct call *c)
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
