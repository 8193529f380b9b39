#include "services/trust/head.h"

#include "common/clock.h"
#include "services/trust/refusal.h"

#include <stdlib.h>
#include <string.h>

#define WAITERS_MAX 1024

struct waiter {
    struct trust_ledger ledger;
    Berth__HeadReply_Closure closure;
    void *closure_data;
    struct mono_time deadline;
    struct waiter *next;
};

struct head {
    struct loop *loop;
    const struct bulletin *bulletin;
    void (*wanted)(void *ctx);
    void *ctx;
    struct cloud_ledger known;     // of the backend's newest answer
    struct trust_ledger presented; // what borrow had last, acknowledged or not
    struct cloud_ledger asked;     // of it, with the check under way
    struct waiter *first, **last;  // all wait equally long: the oldest deadline is first
    size_t waiting;
    struct loop_timer timer;
};

// The backend may not know what an epoch is.
static bool same_head(const struct cloud_ledger *a, const struct cloud_ledger *b)
{
    return a->present && b->present && a->sequence == b->sequence &&
           memcmp(a->hash, b->hash, sizeof a->hash) == 0 &&
           (a->epoch[0] == '\0' || b->epoch[0] == '\0' || strcmp(a->epoch, b->epoch) == 0);
}

static void reply_head(const struct cloud_ledger *head, Berth__HeadReply_Closure closure,
                       void *closure_data)
{
    Berth__LedgerHead wire = BERTH__LEDGER_HEAD__INIT;
    Berth__HeadReply reply = BERTH__HEAD_REPLY__INIT;
    if (head->present) {
        wire.epoch = (char *)(uintptr_t)head->epoch;
        wire.sequence = head->sequence;
        wire.hash = (ProtobufCBinaryData){sizeof head->hash, (uint8_t *)(uintptr_t)head->hash};
        reply.head = &wire;
    }
    closure(&reply, closure_data);
}

// ---- who waits ----

static struct waiter *waiter_take(struct head *h)
{
    struct waiter *w = h->first;
    h->first = w->next;
    if (h->first == NULL)
        h->last = &h->first;
    h->waiting--;
    return w;
}

static void waiter_keep(struct head *h, struct waiter *w)
{
    w->next = NULL;
    *h->last = w;
    h->last = &w->next;
    h->waiting++;
}

static void away(const struct waiter *w)
{
    refuse_unavailable(w->closure_data, "cloud",
                       "The vendor's backend did not confirm the borrow ledger. Ask again; if that "
                       "does not help, make the backend reachable.");
}

static void on_deadline(void *ctx)
{
    struct head *h = ctx;
    struct mono_time now = clock_mono();
    while (h->first != NULL && h->first->deadline.ms <= now.ms) {
        struct waiter *w = waiter_take(h);
        away(w);
        free(w);
    }
    if (h->first != NULL)
        loop_timer_arm(h->loop, &h->timer, h->first->deadline);
}

static void waiter_add(struct head *h, const struct trust_ledger *ledger,
                       Berth__HeadReply_Closure closure, void *closure_data)
{
    struct waiter *w = calloc(1, sizeof *w);
    if (w == NULL)
        abort();
    w->ledger = *ledger;
    w->closure = closure;
    w->closure_data = closure_data;
    w->deadline = mono_after(clock_mono(), HEAD_WAIT_MS);
    waiter_keep(h, w);
    if (h->waiting == 1)
        loop_timer_arm(h->loop, &h->timer, w->deadline);
}

// ---- calls ----

void head_new(struct head **out, struct loop *loop, const struct bulletin *bulletin,
              void (*wanted)(void *ctx), void *ctx)
{
    struct head *h = calloc(1, sizeof *h);
    if (h == NULL)
        abort();
    h->loop = loop;
    h->bulletin = bulletin;
    h->wanted = wanted;
    h->ctx = ctx;
    h->last = &h->first;
    loop_timer_init(&h->timer, on_deadline, h);
    *out = h;
}

void head_free(struct head **head)
{
    struct head *h = *head;
    if (h == NULL)
        return;
    while (h->first != NULL) {
        struct waiter *w = waiter_take(h);
        away(w);
        free(w);
    }
    loop_timer_cancel(h->loop, &h->timer);
    free(h);
    *head = NULL;
}

void head_read(struct head *h, Berth__HeadReply_Closure closure, void *closure_data)
{
    if (h->waiting == 0)
        h->presented = (struct trust_ledger){0};
    reply_head(&h->known, closure, closure_data);
    // That one was refused: without it the backend may say yes again.
    if (strcmp(h->bulletin->reason, "ledger-rollback") == 0)
        h->wanted(h->ctx);
}

// NULL, or the field that is not as it must be.
static const char *call_read(struct trust_ledger *out, const Berth__MoveHeadCall *call)
{
    const Berth__LedgerHead *head = call->head;
    *out = (struct trust_ledger){.head = {.present = true, .sequence = head->sequence}};
    if (strlen(head->epoch) != 32 || strspn(head->epoch, "0123456789abcdef") != 32)
        return "epoch";
    if (head->sequence > CLOUD_SEQUENCE_MAX)
        return "sequence";
    if (head->hash.len != sizeof out->head.hash)
        return "hash";
    memcpy(out->head.epoch, head->epoch, sizeof out->head.epoch);
    memcpy(out->head.hash, head->hash.data, sizeof out->head.hash);
    out->has_previous = call->has_previous;
    if (!call->has_previous)
        return NULL;
    if (call->previous.len != sizeof out->previous)
        return "previous";
    memcpy(out->previous, call->previous.data, sizeof out->previous);
    return NULL;
}

void head_move(struct head *h, const Berth__MoveHeadCall *call, Berth__HeadReply_Closure closure,
               void *closure_data)
{
    struct trust_ledger ledger;
    const char *field = call_read(&ledger, call);
    if (field != NULL)
        return refuse_params(closure_data, field);
    if (h->waiting == 0 && same_head(&ledger.head, &h->known)) {
        h->presented = ledger;
        return reply_head(&ledger.head, closure, closure_data);
    }
    if (h->waiting >= WAITERS_MAX)
        return refuse_unavailable(closure_data, "trust", "Too many calls wait for the backend.");
    waiter_add(h, &ledger, closure, closure_data);
    h->wanted(h->ctx);
}

// ---- checks ----

const struct trust_ledger *head_presented(struct head *h)
{
    if (h->first != NULL)
        h->presented = h->first->ledger;
    h->asked = h->presented.head;
    return &h->presented;
}

bool head_waits(const struct head *h)
{
    return h->first != NULL;
}

// One that waited for what was presented, with a yes of the backend: it counts only if the backend
// says that this is its head now.
static void answer_ok(const struct waiter *w, const struct cloud_ledger *known)
{
    if (same_head(&w->ledger.head, known))
        return reply_head(&w->ledger.head, w->closure, w->closure_data);
    if (known->present && known->sequence >= w->ledger.head.sequence)
        return refuse_reason(w->closure_data, "ledger-rollback",
                             "The vendor's backend knows a newer borrow ledger than this one.");
    away(w);
}

void head_checked(struct head *h, const struct trust_result *result)
{
    if (result->check == CHECK_OK || result->check == CHECK_REFUSED)
        h->known = result->ledger;
    // What waits for a later head than this one would fare no better after a "no" or a silence, and
    // must not overtake it.
    for (size_t n = h->waiting; n > 0; n--) {
        struct waiter *w = waiter_take(h);
        if (result->check == CHECK_REFUSED)
            refuse_reason(w->closure_data, result->reason, h->bulletin->verdict.message);
        else if (result->check != CHECK_OK)
            away(w);
        else if (same_head(&w->ledger.head, &h->known) || same_head(&w->ledger.head, &h->asked))
            answer_ok(w, &h->known);
        else {
            waiter_keep(h, w);
            continue;
        }
        free(w);
    }
    if (h->first != NULL)
        loop_timer_arm(h->loop, &h->timer, h->first->deadline);
    else
        loop_timer_cancel(h->loop, &h->timer);
}
