// The way of one borrow: rules and capacity → a seat is held → signed. From there on it is in
// lend_wait.c: in the ledger, on disk → the backend knows → pool knows → answered. Whoever asks for
// a borrow that is on its way already waits for that one.
#include "services/borrow/lend_internal.h"

#include "common/borrow_file.h"
#include "common/core/text.h"
#include "common/log.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_BYTES_MAX (64 * 1024)
#define BORROWS_MAX 50000 // a list of all of them is one answer between the processes

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
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

// Whoever borrows it cannot ask again when it turns out to be bad: so it is looked at with the eyes
// of its host before anything is promised.
static int check_file(const struct borrow *b, const struct buf *vendor, const struct buf *own,
                      const struct buf *certificate, struct error *err)
{
    struct borrow_file file;
    struct buf text BUF_CLEANUP = {0};
    if (!b->vendor_ca)
        return error_set(err, "the vendor's CA is not known"), -EINVAL;
    buf_add(&text, vendor->data, vendor->len);
    buf_add(&text, own->data, own->len);
    buf_add(&text, certificate->data, certificate->len);
    return borrow_file_verify(&file, text.data, text.len, b->vendor_ca, err);
}

static void fail_entry(struct borrow *b, struct book_entry *e, const Berth__Error *error)
{
    lending_fail_waiting(b, e, error);
    book_remove(&b->book, e);
}

static void fail_unusable(struct borrow *b, struct book_entry *e, const struct error *err)
{
    Berth__Error error = BERTH__ERROR__INIT;
    char message[512];
    snprintf(message, sizeof message, "the borrowed license file would not be usable: %.400s",
             err->text);
    log_error("borrow.unusable", LOG_S("uuid", e->fields.uuid), LOG_S("msg", err->text));
    error.code = UNAVAILABLE;
    error.service = (char *)(uintptr_t) "borrow";
    error.message = message;
    fail_entry(b, e, &error);
}

static void take_signed(struct signing *s, struct book_entry *e, const Berth__SignReply *reply)
{
    struct borrow *b = s->b;
    struct buf own BUF_CLEANUP = {0}, certificate BUF_CLEANUP = {0};
    struct error err = {""};
    borrow_block_write_signed(&s->fields, reply->signature.data, reply->signature.len, &own);
    buf_add_str(&certificate, reply->certificate);
    add_line_end(&certificate);
    if (check_file(b, &s->vendor, &own, &certificate, &err)) {
        fail_unusable(b, e, &err);
        return;
    }
    book_set_texts(&b->book, e, (struct ledger_text){s->vendor.data, s->vendor.len},
                   (struct ledger_text){own.data, own.len},
                   (struct ledger_text){certificate.data, certificate.len});
    lend_go_on(b);
}

static void on_signed(const Berth__SignReply *reply, void *data)
{
    struct signing *s = data;
    struct book_entry *e = book_find(&s->b->book, s->fields.borrow_id);
    if (e && reply)
        take_signed(s, e, reply);
    else if (e)
        fail_entry(s->b, e, rpc_client_error(s->b->trust));
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
        lending_wait(l, same);
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

void borrow_license(Berth__Borrow_Service *rpc, const Berth__BorrowLicenseCall *input,
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
    l->closure = closure;
    l->closure_data = closure_data;
    lending_add(b, l);
    if (same) {
        lending_wait(l, same);
        return;
    }
    l->finding = true;
    pool_link_find(b->pool, l->uuid, l->feature, on_found, l);
}
