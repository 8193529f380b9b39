// The calls that wait for a borrow: answered when it is on disk, and when backend and pool know it;
// refused when a step fails, or takes too long. What comes while a ledger is written goes into the
// next one together.
#include "services/borrow/lend_internal.h"

#include "common/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_WITHIN_MS 3500 // the gateway waits for 4 s

// ---- calls that wait ----

static void arm_deadline(struct borrow *b)
{
    const struct lending *first = TAILQ_FIRST(&b->lendings);
    if (first)
        loop_timer_arm(b->loop, &b->deadline, first->deadline);
    else
        loop_timer_cancel(b->loop, &b->deadline);
}

void lending_add(struct borrow *b, struct lending *l)
{
    l->b = b;
    l->deadline = mono_after(clock_mono(), ANSWER_WITHIN_MS);
    TAILQ_INSERT_TAIL(&b->lendings, l, link);
    arm_deadline(b);
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

void lending_fail(struct lending *l, const Berth__Error *error)
{
    refuse(l->b, l->closure_data, error);
    lending_end(l);
}

void lending_refuse(struct lending *l, int code, const char *service, const char *reason,
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

void lending_fail_waiting(struct borrow *b, const struct book_entry *entry,
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

void lend_go_on(struct borrow *b)
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

void lending_wait(struct lending *l, struct book_entry *entry)
{
    l->entry = entry;
    entry->waiters++;
    lend_go_on(l->b);
}

void lend_settled(void *ctx, enum keeper_outcome outcome, const Berth__Error *error)
{
    struct borrow *b = ctx;
    if (outcome == KEEPER_NOT_WRITTEN) {
        for (size_t i = b->book.len; i-- > 0;) {
            if (b->book.entries[i]->in_write)
                lending_fail_waiting(b, b->book.entries[i], error);
        }
        drop_unwritten(b, false);
    } else if (outcome == KEEPER_NOT_CONFIRMED) {
        // Nothing may be written behind a ledger that the backend does not know.
        lending_fail_waiting(b, NULL, error);
        drop_unwritten(b, true);
        return;
    } else {
        pool_link_tell(b->pool);
    }
    lend_go_on(b);
}

void lend_pool_changed(void *ctx)
{
    lend_go_on(ctx);
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
