#include "services/borrow/pool_link.h"

#include "common/clock.h"
#include "common/log.h"

#include <stdlib.h>
#include <string.h>

#define CALL_TIMEOUT_MS 3000
#define RETRY_MS 500
#define PAGE 1000

struct pool_link {
    struct loop *loop;
    struct rpc_client *client;
    struct book *book;
    void (*changed)(void *ctx);
    void *ctx;
    struct loop_timer retry;
    uint64_t round;      // of telling all: what is answered to an earlier one means nothing
    uint64_t told_since; // the newest of those told with it
    bool begun;
    bool in_step;
    bool complained; // since it was in step
};

// One call that is on its way.
struct told {
    struct pool_link *link;
    uint64_t round;
    bool last; // page
    char borrow_id[BORROW_ID_LEN + 1];
};

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static ProtobufCService *pool_of(struct pool_link *l)
{
    return rpc_client_service(l->client);
}

static struct told *told_new(struct pool_link *l, bool last, const char *borrow_id)
{
    struct told *t = must(calloc(1, sizeof *t));
    *t = (struct told){.link = l, .round = l->round, .last = last};
    if (borrow_id)
        memcpy(t->borrow_id, borrow_id, sizeof t->borrow_id);
    return t;
}

// Whatever failed, all is told again: on the next connection, or after a while on this one.
static void fall_out(struct pool_link *l)
{
    const Berth__Error *e = rpc_client_error(l->client);
    l->round++;
    l->in_step = false;
    if (!l->complained)
        log_warn("pool.not_told", LOG_I("code", e ? e->code : 0),
                 LOG_S("msg", e && e->message ? e->message : ""));
    l->complained = true;
    if (rpc_client_connected(l->client))
        loop_timer_arm(l->loop, &l->retry, mono_after(clock_mono(), RETRY_MS));
    l->changed(l->ctx);
}

// False: pool did not take it, or was told all anew meanwhile.
static bool told_well(const struct told *t, const Berth__Empty *reply)
{
    bool current = t->round == t->link->round;
    if (current && !reply)
        fall_out(t->link);
    return current && reply;
}

// ---- all ----

static void on_page(const Berth__Empty *reply, void *data)
{
    struct told t = *(struct told *)data;
    struct pool_link *l = t.link;
    free(data);
    if (!told_well(&t, reply))
        return;
    if (!t.last)
        return;
    // Those that came after the pages were sent are told of by calls of their own.
    size_t known = 0;
    for (size_t i = 0; i < l->book->len; i++) {
        struct book_entry *e = l->book->entries[i];
        e->pool_knows |= e->since && e->since <= l->told_since;
        known += e->pool_knows;
    }
    l->in_step = true;
    l->complained = false;
    log_info("pool.told", LOG_I("borrows", (int64_t)known));
    l->changed(l->ctx);
}

struct page {
    Berth__BorrowedSeat seats[PAGE], *list[PAGE];
    Berth__Interval periods[PAGE];
};

static Berth__BorrowedSeat *fill_seat(Berth__BorrowedSeat *seat, Berth__Interval *period,
                                      struct book_entry *e)
{
    berth__borrowed_seat__init(seat);
    berth__interval__init(period);
    period->valid_from_s = e->fields.valid_from.s;
    period->valid_until_s = e->fields.valid_until.s;
    period->host_id = e->fields.host_id;
    seat->borrow_id = e->fields.borrow_id;
    seat->uuid = e->fields.uuid;
    seat->feature = e->fields.feature;
    seat->period = period;
    return seat;
}

// All pages leave in this turn of the loop, so that they are of one state of the book.
static void tell_all(void *ctx)
{
    struct pool_link *l = ctx;
    if (!l->begun || !rpc_client_connected(l->client))
        return;
    struct page *page = must(malloc(sizeof *page));
    struct book *b = l->book;
    size_t i = 0;
    l->round++;
    l->in_step = false;
    Berth__SetBorrowsCall call = BERTH__SET_BORROWS_CALL__INIT;
    call.borrows = page->list;
    for (call.first = true; !call.last; call.first = false) {
        call.n_borrows = 0;
        for (; i < b->len && call.n_borrows < PAGE; i++) {
            size_t n = call.n_borrows;
            if (!b->entries[i]->since)
                continue;
            b->entries[i]->told_round = l->round;
            if (b->entries[i]->since > l->told_since)
                l->told_since = b->entries[i]->since;
            page->list[n] = fill_seat(&page->seats[n], &page->periods[n], b->entries[i]);
            call.n_borrows++;
        }
        call.last = i == b->len;
        berth__pool__set_borrows(pool_of(l), &call, on_page, told_new(l, call.last, NULL));
    }
    free(page);
}

// ---- one ----

static void on_added(const Berth__Empty *reply, void *data)
{
    struct told t = *(struct told *)data;
    struct pool_link *l = t.link;
    free(data);
    if (!told_well(&t, reply))
        return;
    struct book_entry *e = book_find(l->book, t.borrow_id);
    if (e)
        e->pool_knows = true;
    l->changed(l->ctx);
}

void pool_link_tell(struct pool_link *l)
{
    if (!l->begun || !rpc_client_connected(l->client))
        return;
    for (size_t i = 0; i < l->book->len; i++) {
        struct book_entry *e = l->book->entries[i];
        if (!e->since || e->told_round == l->round)
            continue;
        Berth__BorrowedSeat seat;
        Berth__Interval period;
        Berth__AddBorrowCall call = BERTH__ADD_BORROW_CALL__INIT;
        call.borrow = fill_seat(&seat, &period, e);
        e->told_round = l->round;
        berth__pool__add_borrow(pool_of(l), &call, on_added,
                                told_new(l, false, e->fields.borrow_id));
    }
}

// ---- FindLicense ----

struct finding {
    struct pool_link *link;
    pool_link_found_fn *fn;
    void *ctx;
};

static void on_found(const Berth__FindLicenseReply *reply, void *data)
{
    struct finding f = *(struct finding *)data;
    free(data);
    f.fn(reply, rpc_client_error(f.link->client), f.ctx);
}

void pool_link_find(struct pool_link *l, const char *uuid, const char *feature,
                    pool_link_found_fn *fn, void *ctx)
{
    struct finding *f = must(malloc(sizeof *f));
    *f = (struct finding){l, fn, ctx};
    Berth__FindLicenseCall call = BERTH__FIND_LICENSE_CALL__INIT;
    call.uuid = (char *)(uintptr_t)uuid;
    call.feature = (char *)(uintptr_t)feature;
    berth__pool__find_license(pool_of(l), &call, on_found, f);
}

// ---- life ----

int pool_link_new(struct pool_link **out, struct loop *loop, const char *url,
                  const struct rpc_metrics *metrics, struct book *book, void (*changed)(void *ctx),
                  void *ctx)
{
    struct pool_link *l = must(calloc(1, sizeof *l));
    *l = (struct pool_link){.loop = loop, .book = book, .changed = changed, .ctx = ctx};
    int r = rpc_client_new(&l->client, loop, url, BERTH__ROLE__BORROW, &berth__pool__descriptor,
                           "pool", CALL_TIMEOUT_MS, metrics);
    if (r) {
        free(l);
        return r;
    }
    loop_timer_init(&l->retry, tell_all, l);
    rpc_client_on_connect(l->client, tell_all, l);
    *out = l;
    return 0;
}

void pool_link_free(struct pool_link **link)
{
    struct pool_link *l = *link;
    if (!l)
        return;
    l->round++; // what fails now is not told again
    rpc_client_free(&l->client);
    loop_timer_cancel(l->loop, &l->retry);
    free(l);
    *link = NULL;
}

void pool_link_begin(struct pool_link *l)
{
    l->begun = true;
    tell_all(l);
}

bool pool_link_in_step(const struct pool_link *l)
{
    return l->in_step && rpc_client_connected(l->client);
}
