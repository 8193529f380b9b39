// The way of one borrow: rules and capacity → a seat is held → signed → in the ledger, on disk →
// the backend knows → pool knows → answered. Those that come while a ledger is written share the
// next one. Whoever asks for a borrow that is on its way already waits for that one.
#include "services/borrow/internal.h"

#include "common/borrow_file.h"
#include "common/core/text.h"
#include "common/log.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_WITHIN_MS 3500 // the gateway waits for 4 s
#define MESSAGE_BYTES_MAX (64 * 1024)
#define BORROWS_MAX 50000 // a list of all of them is one answer between the processes

// A call that waits for its answer.
struct lending {
    TAILQ_ENTRY(lending) link;
    struct borrow *b;
    Berth__BorrowedLicense_Closure closure;
    void *closure_data; // NULL: it was answered, while the license was looked up
    struct mono_time deadline;
    bool finding;             // the license is being looked up
    struct book_entry *entry; // what it waits for
    char uuid[37], feature[65], host_id[HOSTID_MAX + 1];
    struct rules_ask ask;
};

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

// ---- calls that wait ----

static void arm_deadline(struct borrow *b)
{
    const struct lending *first = TAILQ_FIRST(&b->lendings);
    if (first)
        loop_timer_arm(b->loop, &b->deadline, first->deadline);
    else
        loop_timer_cancel(b->loop, &b->deadline);
}

// Its answer has been given.
static void lending_end(struct lending *l)
{
    TAILQ_REMOVE(&l->b->lendings, l, link);
    if (l->entry)
        l->entry->waiters--;
    l->closure_data = NULL;
    if (!l->finding)
        free(l);
}

static void lending_fail(struct lending *l, const Berth__Error *error)
{
    refuse(l->b, l->closure_data, error);
    lending_end(l);
}

static void lending_refuse(struct lending *l, int code, const char *service, const char *reason,
                           const char *message)
{
    refuse_with(l->b, l->closure_data, code, service, reason, message);
    lending_end(l);
}

static void lending_late(struct lending *l)
{
    const char *service = l->entry ? entry_waits_for(l->b, l->entry) : "pool";
    char message[200];
    snprintf(message, sizeof message,
             "%s did not do its part in time: ask for the same borrow again in a few seconds",
             service ? service : "borrow");
    lending_refuse(l, UNAVAILABLE, service ? service : "borrow", NULL, message);
}

static void on_deadline(void *ctx)
{
    struct borrow *b = ctx;
    struct lending *l;
    while ((l = TAILQ_FIRST(&b->lendings)) && l->deadline.ms <= clock_mono().ms)
        lending_late(l);
    arm_deadline(b);
}

// Fails those that wait for the entry, or for any that is not complete (entry NULL).
static void fail_waiting(struct borrow *b, const struct book_entry *entry,
                         const Berth__Error *error)
{
    struct lending *l, *next;
    for (l = TAILQ_FIRST(&b->lendings); l; l = next) {
        next = TAILQ_NEXT(l, link);
        if (l->entry && (entry ? l->entry == entry : entry_waits_for(b, l->entry) != NULL))
            lending_fail(l, error);
    }
    arm_deadline(b);
}

// ---- what to do next ----

static void answer_complete(struct borrow *b)
{
    struct lending *l, *next;
    for (l = TAILQ_FIRST(&b->lendings); l; l = next) {
        next = TAILQ_NEXT(l, link);
        if (!l->entry || entry_waits_for(b, l->entry))
            continue;
        answer_borrowed(l->entry, l->closure, l->closure_data);
        if (!l->entry->granted) {
            l->entry->granted = true;
            metric_add(b->metrics, M_BORROWS_GRANTED, 1);
            log_info("borrow.granted", LOG_S("borrow", l->entry->fields.borrow_id),
                     LOG_S("uuid", l->entry->fields.uuid),
                     LOG_S("feature", l->entry->fields.feature),
                     LOG_S("host", l->entry->fields.host_id));
        }
        lending_end(l);
    }
    arm_deadline(b);
}

// Those that nobody waits for any more are not written.
static bool any_to_write(struct borrow *b)
{
    bool any = false;
    for (size_t i = b->book.unwritten ? b->book.len : 0; i-- > 0;) {
        struct book_entry *e = b->book.entries[i];
        if (e->since || !e->own)
            continue;
        if (e->waiters)
            any = true;
        else
            book_remove(&b->book, e);
    }
    return any;
}

static void go_on(struct borrow *b)
{
    answer_complete(b);
    if (!keeper_is_idle(b->keeper))
        return;
    if (!keeper_is_confirmed(b->keeper)) {
        if (!TAILQ_EMPTY(&b->lendings))
            keeper_confirm(b->keeper);
    } else if (any_to_write(b)) {
        keeper_write(b->keeper);
    }
}

// Takes the seats back that were held for what is not on disk: all of it, or what was in a write.
static void drop_unwritten(struct borrow *b, bool all)
{
    for (size_t i = b->book.len; i-- > 0;) {
        struct book_entry *e = b->book.entries[i];
        if (!e->since && !e->waiters && (all || e->in_write))
            book_remove(&b->book, e);
    }
}

void lend_settled(void *ctx, enum keeper_outcome outcome, const Berth__Error *error)
{
    struct borrow *b = ctx;
    if (outcome == KEEPER_NOT_WRITTEN) {
        for (size_t i = b->book.len; i-- > 0;) {
            if (b->book.entries[i]->in_write)
                fail_waiting(b, b->book.entries[i], error);
        }
        drop_unwritten(b, false);
    } else if (outcome == KEEPER_NOT_CONFIRMED) {
        // Nothing may be written behind a ledger that the backend does not know.
        fail_waiting(b, NULL, error);
        drop_unwritten(b, true);
        return;
    } else {
        pool_link_tell(b->pool);
    }
    go_on(b);
}

void lend_pool_changed(void *ctx)
{
    go_on(ctx);
}

// ---- signing ----

struct signing {
    struct borrow *b;
    struct borrow_fields fields;
    struct buf vendor;
};

static void add_line_end(struct buf *text)
{
    if (text->len && text->data[text->len - 1] != '\n')
        buf_add_char(text, '\n');
}

static void on_signed(const Berth__SignReply *reply, void *data)
{
    struct signing *s = data;
    struct borrow *b = s->b;
    struct book_entry *e = book_find(&b->book, s->fields.borrow_id);
    if (e && !reply) {
        fail_waiting(b, e, rpc_client_error(b->trust));
        book_remove(&b->book, e);
    } else if (e) {
        struct buf own BUF_CLEANUP = {0}, certificate BUF_CLEANUP = {0};
        borrow_block_write_signed(&s->fields, reply->signature.data, reply->signature.len, &own);
        buf_add_str(&certificate, reply->certificate);
        add_line_end(&certificate);
        book_set_texts(&b->book, e, (struct ledger_text){s->vendor.data, s->vendor.len},
                       (struct ledger_text){own.data, own.len},
                       (struct ledger_text){certificate.data, certificate.len});
        go_on(b);
    }
    buf_fini(&s->vendor);
    free(s);
}

// The seat is held from here on, if it is not refused.
static void sign(struct lending *l, struct interval period, const Berth__FindLicenseReply *license)
{
    struct borrow *b = l->b;
    struct signing *s = must(calloc(1, sizeof *s));
    struct error err = {""};
    struct buf message BUF_CLEANUP = {0};
    uint8_t id[BORROW_ID_LEN / 2];
    s->b = b;
    s->fields = (struct borrow_fields){
        .valid_from = period.from, .valid_until = period.until, .issued = clock_wall()};
    crypto_random(id, sizeof id);
    hex_encode(id, sizeof id, s->fields.borrow_id);
    memcpy(s->fields.uuid, l->uuid, sizeof s->fields.uuid);
    memcpy(s->fields.feature, l->feature, sizeof s->fields.feature);
    memcpy(s->fields.host_id, l->host_id, sizeof s->fields.host_id);
    buf_add(&s->vendor, license->block.data, license->block.len);
    add_line_end(&s->vendor);
    if (license->certificate)
        buf_add_str(&s->vendor, license->certificate);
    add_line_end(&s->vendor);
    int r = borrow_file_message(s->vendor.data, s->vendor.len, &s->fields, &message, &err);
    if (r || message.len > MESSAGE_BYTES_MAX || s->vendor.len > LEDGER_PART_BYTES_MAX) {
        buf_fini(&s->vendor);
        free(s);
        lending_refuse(l, NOT_FOUND, NULL, NULL,
                       r ? err.text : "the license block of this license is too long to be lent");
        return;
    }
    l->entry = book_add(&b->book, &s->fields);
    l->entry->waiters = 1;
    Berth__SignCall call = BERTH__SIGN_CALL__INIT;
    call.purpose = BERTH__PURPOSE__BORROWED_FILE;
    call.message = (ProtobufCBinaryData){message.len, (uint8_t *)message.data};
    berth__trust__sign(rpc_client_service(b->trust), &call, on_signed, s);
}

// ---- rules ----

static void refuse_period(struct lending *l, enum rules_outcome outcome, struct wall_time limit)
{
    static const char *const messages[RULES_OUTCOMES] = {
        [RULES_FROM_PAST] = "the period begins in the past: let it begin now or later; the "
                            "earliest beginning is",
        [RULES_EMPTY] = "the period must end after it begins, at",
        [RULES_TOO_LONG] = "the period is too long: with this beginning it must end by",
        [RULES_TOO_FAR] = "the period ends too far ahead: it must end by",
        [RULES_LICENSE_FROM] = "the license is not valid yet at the beginning, but from",
        [RULES_LICENSE_UNTIL] = "the license expires before the period ends: it must end by",
        [RULES_SERVER_FROM] = "the server license is not valid yet at the beginning, but from",
        [RULES_SERVER_UNTIL] = "the server license expires before the period ends: it must end by",
    };
    char time[32], message[200];
    snprintf(message, sizeof message, "%s %s", messages[outcome], wall_format(limit, time));
    Berth__Error e = BERTH__ERROR__INIT;
    e.code = BORROW_PERIOD_INVALID;
    e.reason = (char *)(uintptr_t)rules_reason(outcome);
    e.limit = time;
    e.message = message;
    lending_fail(l, &e);
}

static void refuse_full(struct lending *l, struct interval conflict)
{
    char from[32], until[32], message[200];
    snprintf(message, sizeof message,
             "every seat of this license is borrowed from %s to %s: choose another period, or "
             "another license",
             wall_format(conflict.from, from), wall_format(conflict.until, until));
    Berth__Error e = BERTH__ERROR__INIT;
    e.code = BORROW_NOT_AVAILABLE;
    e.has_from_s = e.has_until_s = true;
    e.from_s = conflict.from.s;
    e.until_s = conflict.until.s;
    e.message = message;
    lending_fail(l, &e);
}

static struct rules_limits limits_of(struct borrow *b, const Berth__FindLicenseReply *license)
{
    const Berth__Verdict *v = verdict_watch_last(b->verdict);
    return (struct rules_limits){
        .max_period_s = b->max_period_s,
        .max_ahead_s = b->max_ahead_s,
        .license = {license->has_valid_from_s ? (struct wall_time){license->valid_from_s}
                                              : WALL_MIN,
                    license->has_valid_until_s ? (struct wall_time){license->valid_until_s}
                                               : WALL_MAX},
        .server = {WALL_MIN, v && v->has_license_until_s ? (struct wall_time){v->license_until_s}
                                                         : WALL_MAX}};
}

static void wait_for(struct lending *l, struct book_entry *entry)
{
    l->entry = entry;
    entry->waiters++;
    go_on(l->b);
}

static void on_found(const Berth__FindLicenseReply *license, const Berth__Error *error, void *ctx)
{
    struct lending *l = ctx;
    l->finding = false;
    if (!l->closure_data) { // too late
        free(l);
        return;
    }
    if (!license) {
        lending_fail(l, error);
        return;
    }
    struct borrow *b = l->b;
    struct wall_time now = clock_wall(), limit;
    struct interval period, conflict;
    // Meanwhile another call may have asked for the same.
    struct book_entry *same = book_same(&b->book, &l->ask, now);
    if (same) {
        wait_for(l, same);
        return;
    }
    const struct rules_limits limits = limits_of(b, license);
    enum rules_outcome outcome = rules_check(&l->ask, &limits, now, &period, &limit);
    if (outcome)
        refuse_period(l, outcome, limit);
    else if (!book_fits(&b->book, l->uuid, l->feature, period, license->count, &conflict))
        refuse_full(l, conflict);
    else if (b->book.len >= BORROWS_MAX)
        lending_refuse(l, UNAVAILABLE, "borrow", NULL,
                       "the server keeps as many borrows as it can: wait until some have ended");
    else
        sign(l, period, license);
}

// ---- the call ----

// False: refused already.
static bool read_ask(struct borrow *b, struct lending *l, const Berth__BorrowLicenseCall *input,
                     void *closure_data)
{
    struct error err = {""};
    if (hostid_parse(input->host_id, strlen(input->host_id), l->host_id, &err)) {
        Berth__Error e = BERTH__ERROR__INIT;
        e.code = INVALID_PARAMS;
        e.field = (char *)(uintptr_t) "hostId";
        e.reason = err.text;
        e.message = err.text;
        refuse(b, closure_data, &e);
        return false;
    }
    size_t uuid = strlen(input->uuid), feature = strlen(input->feature);
    if (uuid >= sizeof l->uuid || feature >= sizeof l->feature) {
        refuse_with(b, closure_data, NOT_FOUND, NULL, NULL,
                    "there is no such license; ListLicensesV1 lists those that there are");
        return false;
    }
    for (size_t i = 0; i <= uuid; i++)
        l->uuid[i] = (char)tolower((unsigned char)input->uuid[i]);
    memcpy(l->feature, input->feature, feature + 1);
    l->ask = (struct rules_ask){.uuid = l->uuid,
                                .feature = l->feature,
                                .host_id = l->host_id,
                                .from_given = input->has_valid_from_s,
                                .from = {input->valid_from_s},
                                .until = {input->valid_until_s}};
    return true;
}

static bool has_addon(const Berth__Verdict *v)
{
    for (size_t i = 0; v && i < v->n_addons; i++) {
        if (!strcmp(v->addons[i], "borrow") && !strcmp(v->variant, "cloud-ready"))
            return true;
    }
    return false;
}

void lend_license(Berth__Borrow_Service *rpc, const Berth__BorrowLicenseCall *input,
                  Berth__BorrowedLicense_Closure closure, void *closure_data)
{
    struct borrow *b = borrow_of(rpc);
    Berth__Error e = BERTH__ERROR__INIT;
    if (!may_call(b, closure_data))
        return;
    if (!verdict_watch_may_issue(b->verdict, &e)) {
        refuse(b, closure_data, &e);
        return;
    }
    struct lending *l = must(calloc(1, sizeof *l));
    if (!read_ask(b, l, input, closure_data)) {
        free(l);
        return;
    }
    struct book_entry *same = book_same(&b->book, &l->ask, clock_wall());
    if (!same && !has_addon(verdict_watch_fresh(b->verdict))) {
        free(l);
        refuse_with(b, closure_data, BORROW_NOT_ALLOWED, NULL, "addon",
                    "the server license has no addon 'borrow': ask the software vendor for one");
        return;
    }
    l->b = b;
    l->closure = closure;
    l->closure_data = closure_data;
    l->deadline = mono_after(clock_mono(), ANSWER_WITHIN_MS);
    TAILQ_INSERT_TAIL(&b->lendings, l, link);
    arm_deadline(b);
    if (same) {
        wait_for(l, same);
        return;
    }
    l->finding = true;
    pool_link_find(b->pool, l->uuid, l->feature, on_found, l);
}

// ---- life ----

void lend_init(struct borrow *b)
{
    TAILQ_INIT(&b->lendings);
    loop_timer_init(&b->deadline, on_deadline, b);
}

void lend_stop(struct borrow *b)
{
    struct lending *l;
    while ((l = TAILQ_FIRST(&b->lendings)))
        lending_late(l);
    loop_timer_cancel(b->loop, &b->deadline);
}
