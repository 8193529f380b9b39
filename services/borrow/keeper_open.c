#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "services/borrow/keeper_internal.h"
#include "services/borrow/verify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS 300
#define ARENA __attribute__((cleanup(arena_free)))

void keeper_refuse(struct keeper *k, const char *what)
{
    struct error text;
    error_set(&text,
              "%s: %s. Put " STORE_LEDGER " and " STORE_SIGNATURE " back as they were when the "
              "server last ran; if they are lost, ask the software vendor, who can make a new pair "
              "(berth-vendor restore-ledger)",
              k->setup.directory, what);
    daemon_fail(k->setup.loop, DAEMON_EXIT_CONFIG, text.text);
}

int keeper_lock(struct keeper *k, struct error *err)
{
    return k->store ? 0 : store_new(&k->store, k->setup.directory, k->setup.io, err);
}

static void opened(struct keeper *k)
{
    k->open = true;
    k->opening = false;
    k->setup.opened(k->setup.ctx);
}

// ---- reading ----

struct judging {
    struct ledger_verifier verifier;
    struct error first; // what is wrong with the pair under the plain names
};

static int64_t judge(void *ctx, const struct buf *ledger, const struct buf *signature)
{
    struct judging *j = ctx;
    ARENA struct arena *arena = arena_new(65536);
    struct ledger l;
    struct error err = {""};
    int r = ledger_read(&l, arena, &j->verifier, ledger, signature, &err);
    if (r && !*j->first.text)
        j->first = err;
    return r || l.sequence > INT64_MAX ? -1 : (int64_t)l.sequence;
}

// Of the pair that was read, which is a good one.
static int take(struct keeper *k, const struct ledger_verifier *verifier, const struct head *head)
{
    ARENA struct arena *arena = arena_new(65536);
    struct ledger l;
    struct error err = {""};
    struct ledger_signature signature;
    int r = ledger_read(&l, arena, verifier, &k->ledger, &k->signature, &err);
    if (!r)
        r = ledger_signature_decode(&signature, k->signature.data, k->signature.len, &err);
    if (r)
        return keeper_refuse(k, err.text), r;
    crypto_sha256(k->ledger.data, k->ledger.len, k->hash);
    enum head_fit fit = head_compare(&l, k->hash, head);
    if (*head_fault(fit)) {
        error_set(&err, STORE_LEDGER " (number %llu) %s (number %llu)",
                  (unsigned long long)l.sequence, head_fault(fit),
                  (unsigned long long)head->sequence);
        return keeper_refuse(k, err.text), -EBADMSG;
    }
    memcpy(k->epoch, l.epoch, sizeof k->epoch);
    memcpy(k->previous, l.previous, sizeof k->previous);
    k->sequence = l.sequence;
    k->reread = fit != HEAD_FITS;
    buf_clear(&k->certificate);
    buf_add(&k->certificate, signature.certificate.p, signature.certificate.len);
    book_load(k->setup.book, &l);
    book_expire(k->setup.book, clock_wall());
    log_info("ledger.loaded", LOG_I("sequence", (int64_t)l.sequence),
             LOG_I("borrows", (int64_t)l.records_len));
    return 0;
}

// 0; 1: there is no ledger; negative: the process ends.
static int load(struct keeper *k, const struct head *head)
{
    struct error err = {""};
    struct judging j = {.verifier = {k->setup.vendor_ca, k->server_id}};
    int r = store_load(k->store, judge, &j, &k->ledger, &k->signature, &err);
    if (r == -ENOENT && !head->present)
        return 1;
    if (r == -ENOENT)
        error_set(&err, STORE_LEDGER " and " STORE_SIGNATURE ": the ledger %s (number %llu)",
                  head_fault(HEAD_MISSING), (unsigned long long)head->sequence);
    else if (r == -EBADMSG && !*err.text)
        error_set(&err, STORE_LEDGER " and " STORE_SIGNATURE ": %s", j.first.text);
    if (r == -ENOENT || r == -EBADMSG)
        return keeper_refuse(k, err.text), r;
    if (r < 0) {
        error_prefix(&err, "%s", k->setup.directory);
        daemon_fail(k->setup.loop, DAEMON_EXIT_FAULT, err.text);
        return r;
    }
    return take(k, &j.verifier, head);
}

// ---- opening ----

// 0, or negative: the process ends.
static int lock(struct keeper *k, bool needed)
{
    struct error err = {""};
    int r = keeper_lock(k, &err);
    if (!r)
        return 0;
    if (!needed && r != -EBUSY) { // it may be mended before the first borrow
        log_warn("ledger.no_directory", LOG_S("msg", err.text));
        return 0;
    }
    daemon_fail(k->setup.loop, r == -EBUSY ? DAEMON_EXIT_CONFIG : DAEMON_EXIT_FAULT, err.text);
    return r;
}

static void open_with(struct keeper *k, const struct head *head)
{
    bool there = store_present(k->setup.directory) || head->present;
    if (!there && !k->addon) { // never had it, so nothing is kept
        opened(k);
        return;
    }
    if (!k->setup.vendor_ca) {
        daemon_fail(k->setup.loop, DAEMON_EXIT_CONFIG,
                    "trust.vendor_ca: the borrow ledger cannot be verified without the certificate "
                    "of the vendor's CA: name a file that berth-borrow can read");
        return;
    }
    if (lock(k, there))
        return;
    int r = there ? load(k, head) : 1;
    if (r < 0)
        return;
    opened(k);
    if (!r)
        keeper_take_up(k);
}

static void on_head(const Berth__HeadReply *reply, void *data)
{
    struct keeper *k = data;
    if (k->stopped)
        return;
    struct head head = {.present = reply && reply->head};
    if (!reply) {
        loop_timer_arm(k->setup.loop, &k->retry, mono_after(clock_mono(), RETRY_MS));
        return;
    }
    if (head.present) {
        const Berth__LedgerHead *h = reply->head;
        head.sequence = h->sequence;
        if (strlen(h->epoch) < sizeof head.epoch)
            strcpy(head.epoch, h->epoch);
        if (h->hash.len == sizeof head.hash)
            memcpy(head.hash, h->hash.data, sizeof head.hash);
    }
    open_with(k, &head);
}

static void ask_head(struct keeper *k)
{
    Berth__Empty call = BERTH__EMPTY__INIT;
    k->opening = true;
    berth__trust__read_head(keeper_trust(k), &call, on_head, k);
}

static void on_retry(void *ctx)
{
    struct keeper *k = ctx;
    if (!k->open)
        ask_head(k);
    else if (!k->busy && !keeper_is_confirmed(k))
        keeper_confirm(k);
}

void keeper_new(struct keeper **out, const struct keeper_setup *setup)
{
    struct keeper *k = calloc(1, sizeof *k);
    if (!k)
        abort();
    k->setup = *setup;
    loop_timer_init(&k->retry, on_retry, k);
    *out = k;
}

void keeper_stop(struct keeper *k)
{
    k->stopped = true;
    loop_timer_cancel(k->setup.loop, &k->retry);
}

void keeper_free(struct keeper **keeper)
{
    struct keeper *k = *keeper;
    if (!k)
        return;
    loop_timer_cancel(k->setup.loop, &k->retry);
    store_free(&k->store);
    buf_fini(&k->ledger);
    buf_fini(&k->signature);
    buf_fini(&k->next);
    buf_fini(&k->certificate);
    free(k);
    *keeper = NULL;
}

void keeper_verdict(struct keeper *k, const Berth__Verdict *v)
{
    k->addon = false;
    for (size_t i = 0; i < v->n_addons; i++)
        k->addon |= !strcmp(v->addons[i], "borrow");
    if (k->open) { // the backend may be back
        if (!k->busy && !keeper_is_confirmed(k) && v->state == BERTH__STATE__VALID)
            keeper_confirm(k);
        return;
    }
    if (k->opening || strlen(v->server_id) >= sizeof k->server_id)
        return;
    strcpy(k->server_id, v->server_id);
    ask_head(k);
}
