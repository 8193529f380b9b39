#include "services/borrow/keeper.h"

#include "common/clock.h"
#include "common/core/text.h"
#include "common/daemon.h"
#include "common/log.h"
#include "services/borrow/keeper_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNAVAILABLE 1011
#define SERVER_NOT_LICENSED 1004
#define SIGN_ATTEMPTS 3 // the certificate may be renewed between asking and signing
#define BACKOFF_MIN_MS 2000
#define BACKOFF_MAX_MS 60000

static char *text(const char *s)
{
    return (char *)(uintptr_t)s; // protobuf-c has no const
}

bool keeper_is_open(const struct keeper *k)
{
    return k->open;
}

bool keeper_is_idle(const struct keeper *k)
{
    return k->open && !k->busy;
}

bool keeper_is_confirmed(const struct keeper *k)
{
    return k->confirmed == k->sequence;
}

uint64_t keeper_sequence(const struct keeper *k)
{
    return k->sequence;
}

uint64_t keeper_confirmed(const struct keeper *k)
{
    return k->confirmed;
}

void keeper_settle(struct keeper *k, enum keeper_outcome outcome, const Berth__Error *error)
{
    k->busy = false;
    if (outcome == KEEPER_NOT_CONFIRMED) {
        int64_t wait = k->backoff_ms ? k->backoff_ms : BACKOFF_MIN_MS;
        k->backoff_ms = 2 * wait < BACKOFF_MAX_MS ? 2 * wait : BACKOFF_MAX_MS;
        loop_timer_arm(k->setup.loop, &k->retry, mono_after(clock_mono(), wait));
        log_warn("ledger.not_confirmed", LOG_I("sequence", (int64_t)k->sequence),
                 LOG_S("msg", error && error->message ? error->message : ""));
    } else if (outcome == KEEPER_NOT_WRITTEN) {
        log_error("ledger.not_written",
                  LOG_S("msg", error && error->message ? error->message : ""));
    } else {
        k->backoff_ms = 0;
    }
    k->setup.settled(k->setup.ctx, outcome, error);
}

void keeper_unsure(struct keeper *k, const char *why)
{
    struct error text;
    error_set(&text, "%s: %s; the process ends, and reads at its next start what there is",
              k->setup.directory, why);
    daemon_fail(k->setup.loop, DAEMON_EXIT_FAULT, text.text);
}

static void disk_failed(struct keeper *k, enum keeper_outcome outcome, const struct error *err)
{
    Berth__Error e = BERTH__ERROR__INIT;
    char message[512];
    snprintf(message, sizeof message,
             "the borrow cannot be kept on the server's disk (%.300s): tell the administrator",
             err->text);
    e.code = UNAVAILABLE;
    e.service = text("borrow");
    e.message = message;
    keeper_settle(k, outcome, &e);
}

static void sign(struct keeper *k);

// Has the ledger signed anew, if who signed it is not the one who signs now.
static void check_signer(struct keeper *k)
{
    k->check_signer = false;
    k->resigning = true;
    k->attempts = 0;
    memcpy(k->next_hash, k->hash, sizeof k->next_hash);
    sign(k);
}

// ---- the head ----

static void on_moved(const Berth__HeadReply *reply, void *data)
{
    struct keeper *k = data;
    if (k->stopped)
        return;
    const Berth__Error *e = rpc_client_error(k->setup.trust);
    if (reply) {
        k->confirmed = k->sequence;
        if (k->check_signer)
            check_signer(k);
        else
            keeper_settle(k, KEEPER_DONE, NULL);
    } else if (e->code == SERVER_NOT_LICENSED && e->reason &&
               !strcmp(e->reason, "ledger-rollback")) {
        keeper_refuse(k, "the vendor's backend remembers another " STORE_LEDGER " of this server, "
                         "as new as this one or newer: this one is a copy, or an old one");
    } else {
        keeper_settle(k, KEEPER_NOT_CONFIRMED, e);
    }
}

// Before the backend learns of a ledger, this process must know it to be on disk.
static bool write_reread(struct keeper *k)
{
    struct error err = {""};
    int r = store_write(k->store, &k->ledger, &k->signature, &err);
    k->reread = r != 0;
    if (r == STORE_UNSURE)
        keeper_unsure(k, err.text);
    else if (r)
        disk_failed(k, KEEPER_NOT_CONFIRMED, &err);
    return !r;
}

void keeper_confirm(struct keeper *k)
{
    k->busy = true;
    loop_timer_cancel(k->setup.loop, &k->retry);
    if (k->reread && !write_reread(k))
        return;
    Berth__LedgerHead head = BERTH__LEDGER_HEAD__INIT;
    Berth__MoveHeadCall call = BERTH__MOVE_HEAD_CALL__INIT;
    head.epoch = k->epoch;
    head.sequence = k->sequence;
    head.hash = (ProtobufCBinaryData){sizeof k->hash, k->hash};
    call.head = &head;
    call.has_previous = k->sequence > 1;
    call.previous = (ProtobufCBinaryData){sizeof k->previous, k->previous};
    berth__trust__move_head(keeper_trust(k), &call, on_moved, k);
}

// ---- writing ----

// The ledger that was encoded is on disk.
static void take_next(struct keeper *k)
{
    struct buf last = k->ledger;
    k->ledger = k->next;
    k->next = last; // its memory serves the next one
    memcpy(k->hash, k->next_hash, sizeof k->hash);
    memcpy(k->previous, k->next_previous, sizeof k->previous);
    k->sequence++;
    for (size_t i = 0; i < k->setup.book->len; i++) {
        struct book_entry *e = k->setup.book->entries[i];
        if (e->in_write)
            book_written(k->setup.book, e, k->sequence);
        e->in_write = false;
    }
    keeper_confirm(k);
}

static void commit(struct keeper *k, const Berth__SignReply *reply)
{
    struct ledger_signature sig = {.len = reply->signature.len,
                                   .certificate = {k->certificate.data, k->certificate.len}};
    struct buf signature = {0};
    struct error err = {"the signature and certificate that trust gave do not fit"};
    int64_t begun_us = clock_mono_us();
    int r = -1;
    if (sig.len && sig.len <= sizeof sig.bytes) {
        memcpy(sig.bytes, reply->signature.data, sig.len);
        r = ledger_signature_encode(&sig, &signature);
    }
    if (!r)
        r = store_write(k->store, k->resigning ? &k->ledger : &k->next, &signature, &err);
    if (r) {
        buf_fini(&signature);
        if (r == STORE_UNSURE)
            keeper_unsure(k, err.text);
        else
            disk_failed(k, KEEPER_NOT_WRITTEN, &err);
        return;
    }
    metric_observe_s(k->setup.write_duration, (double)(clock_mono_us() - begun_us) / 1e6);
    buf_fini(&k->signature);
    k->signature = signature;
    k->reread = false;
    if (!k->resigning) {
        take_next(k);
        return;
    }
    log_info("ledger.signed_anew", LOG_S("msg", "its signer's certificate is no longer the one"));
    keeper_settle(k, KEEPER_DONE, NULL);
}

static void on_signed(const Berth__SignReply *reply, void *data)
{
    struct keeper *k = data;
    if (k->stopped)
        return;
    if (!reply) {
        keeper_settle(k, k->resigning ? KEEPER_DONE : KEEPER_NOT_WRITTEN,
                      rpc_client_error(k->setup.trust));
        return;
    }
    bool same = k->certificate.len == strlen(reply->certificate) &&
                !memcmp(k->certificate.data, reply->certificate, k->certificate.len);
    if (same && k->resigning && k->attempts == 1) {
        keeper_settle(k, KEEPER_DONE, NULL); // it was signed by this very certificate
    } else if (same) {
        commit(k, reply);
    } else if (k->attempts < SIGN_ATTEMPTS) {
        // The certificate is a part of what is signed.
        buf_clear(&k->certificate);
        buf_add_str(&k->certificate, reply->certificate);
        sign(k);
    } else {
        struct error err;
        error_set(&err, "the server license changes all the time");
        disk_failed(k, KEEPER_NOT_WRITTEN, &err);
    }
}

static void sign(struct keeper *k)
{
    struct buf message BUF_CLEANUP = {0};
    Berth__SignCall call = BERTH__SIGN_CALL__INIT;
    k->attempts++;
    ledger_signed_text((struct ledger_text){k->certificate.data, k->certificate.len}, k->next_hash,
                       &message);
    call.purpose = BERTH__PURPOSE__LEDGER;
    call.message = (ProtobufCBinaryData){message.len, (uint8_t *)message.data};
    berth__trust__sign(keeper_trust(k), &call, on_signed, k);
}

static void encode(struct keeper *k)
{
    struct book *b = k->setup.book;
    struct ledger_record *records = calloc(b->len + 1, sizeof *records);
    struct ledger l = {.sequence = k->sequence + 1, .records = records};
    if (!records)
        abort();
    for (size_t i = 0; i < b->len; i++) {
        struct book_entry *e = b->entries[i];
        if (!e->own)
            continue;
        e->in_write = !e->since;
        book_record(e, &records[l.records_len++]);
    }
    if (!k->sequence) {
        uint8_t random[LEDGER_EPOCH_LEN / 2];
        crypto_random(random, sizeof random);
        hex_encode(random, sizeof random, k->epoch);
    }
    memcpy(l.server_id, k->server_id, sizeof l.server_id);
    memcpy(l.epoch, k->epoch, sizeof l.epoch);
    if (k->sequence)
        memcpy(l.previous, k->hash, sizeof l.previous);
    memcpy(k->next_previous, l.previous, sizeof l.previous);
    buf_clear(&k->next);
    ledger_encode(&l, &k->next);
    crypto_sha256(k->next.data, k->next.len, k->next_hash);
    free(records);
}

void keeper_write(struct keeper *k)
{
    struct error err = {""};
    k->busy = true;
    k->resigning = false;
    k->attempts = 0;
    book_expire(k->setup.book, clock_wall());
    encode(k);
    int r = keeper_lock(k, &err);
    if (!r && k->next.len > LEDGER_BYTES_MAX) { // it could not be read again
        r = -EFBIG;
        error_set(&err, "the ledger would be larger than %d MiB", LEDGER_BYTES_MAX >> 20);
    }
    if (r)
        disk_failed(k, KEEPER_NOT_WRITTEN, &err);
    else
        sign(k);
}

// ---- after the start, and when trust was started anew ----

void keeper_present(struct keeper *k)
{
    if (keeper_is_idle(k) && k->sequence)
        keeper_confirm(k);
}

void keeper_take_up(struct keeper *k)
{
    k->check_signer = true;
    keeper_confirm(k);
}
