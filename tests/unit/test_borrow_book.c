// The borrows in memory against a naive model, 100,000 operations; and the ledger's head against
// what the backend remembers.
#include "services/borrow/core/book.h"
#include "services/borrow/core/head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t seed = 20261124;

static uint64_t below(uint64_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % n;
}

// ---- random borrows ----

#define OPERATIONS 100000
#define LICENSES 4
#define HOSTS 9
#define MODEL_MAX 4096

struct lent {
    unsigned license, host;
    int64_t from, until;
    char id[BORROW_ID_LEN + 1];
};

// All there ever was and has not ended, in a list that is always walked whole.
static struct lent model[MODEL_MAX];
static size_t model_len;

static uint32_t count_of(unsigned license)
{
    return license + 1;
}

static size_t depth_at(unsigned license, int64_t t)
{
    size_t n = 0;
    for (size_t i = 0; i < model_len; i++)
        n += model[i].license == license && model[i].from <= t && t < model[i].until;
    return n;
}

// Seats are short only where a period begins: of this one, or of another within it.
static bool model_fits(unsigned license, int64_t from, int64_t until)
{
    if (depth_at(license, from) >= count_of(license))
        return false;
    for (size_t i = 0; i < model_len; i++) {
        if (model[i].license == license && model[i].from > from && model[i].from < until &&
            depth_at(license, model[i].from) >= count_of(license))
            return false;
    }
    return true;
}

static void model_expire(int64_t now)
{
    size_t kept = 0;
    for (size_t i = 0; i < model_len; i++) {
        if (model[i].until > now)
            model[kept++] = model[i];
    }
    model_len = kept;
}

static const char *uuid_of(unsigned license)
{
    static char uuid[37];
    snprintf(uuid, sizeof uuid, "00000000-0000-4000-8000-00000000000%u", license / 2 % 10);
    return uuid;
}

struct run {
    struct book book;
    int64_t now;
    unsigned asked, lent, same, full, refused;
};

static const struct lent *model_same(unsigned license, unsigned host, int64_t from, int64_t until)
{
    for (size_t i = 0; i < model_len; i++) {
        if (model[i].license == license && model[i].host == host && model[i].from == from &&
            model[i].until == until)
            return &model[i];
    }
    return NULL;
}

static void ask(struct run *r)
{
    static const struct rules_limits limits = {.max_period_s = 600,
                                               .max_ahead_s = 3000,
                                               .license = {WALL_MIN, WALL_MAX},
                                               .server = {WALL_MIN, WALL_MAX}};
    unsigned license = (unsigned)below(LICENSES), host = (unsigned)below(HOSTS);
    char host_id[8];
    snprintf(host_id, sizeof host_id, "h%u", host);
    // Coarse times, so that periods meet and repeat.
    int64_t from = (r->now / 50 + (int64_t)below(50)) * 50 + 50;
    struct rules_ask a = {.uuid = uuid_of(license),
                          .feature = license % 2 ? "A" : "B",
                          .host_id = host_id,
                          .from_given = true,
                          .from = {from},
                          .until = {from + 50 * (1 + (int64_t)below(13))}};
    struct wall_time now = {r->now}, limit;
    struct interval period, conflict;
    r->asked++;
    const struct lent *same = model_same(license, host, a.from.s, a.until.s);
    struct book_entry *found = book_same(&r->book, &a, now);
    assert_true(!same == !found);
    if (found) {
        assert_string_equal(found->fields.borrow_id, same->id);
        r->same++;
        return;
    }
    if (rules_check(&a, &limits, now, &period, &limit)) {
        assert_true(a.until.s - a.from.s > 600 || a.until.s > r->now + 3000);
        r->refused++;
        return;
    }
    bool fits = book_fits(&r->book, a.uuid, a.feature, period, count_of(license), &conflict);
    assert_int_equal(fits, model_fits(license, period.from.s, period.until.s));
    if (!fits) {
        assert_true(depth_at(license, conflict.from.s) >= count_of(license));
        assert_true(depth_at(license, conflict.until.s - 1) >= count_of(license));
        r->full++;
        return;
    }
    struct borrow_fields f = {.valid_from = period.from, .valid_until = period.until};
    snprintf(f.borrow_id, sizeof f.borrow_id, "%032x", r->asked);
    snprintf(f.uuid, sizeof f.uuid, "%s", a.uuid);
    snprintf(f.feature, sizeof f.feature, "%s", a.feature);
    snprintf(f.host_id, sizeof f.host_id, "%s", host_id);
    struct book_entry *e = book_add(&r->book, &f);
    if (below(8) == 0) { // it could not be written: the seat is given back
        assert_ptr_equal(book_find(&r->book, f.borrow_id), e);
        book_remove(&r->book, e);
        return;
    }
    book_written(&r->book, e, r->asked);
    assert_true(model_len < MODEL_MAX);
    struct lent *l = &model[model_len++];
    *l = (struct lent){license, host, period.from.s, period.until.s, ""};
    snprintf(l->id, sizeof l->id, "%s", f.borrow_id);
    r->lent++;
}

static void test_random_borrows(void **state)
{
    struct run r = {.now = 1000000};
    (void)state;
    for (int i = 0; i < OPERATIONS; i++) {
        if (below(3)) {
            ask(&r);
            continue;
        }
        r.now += (int64_t)below(40);
        model_expire(r.now);
        assert_int_equal(book_active(&r.book, (struct wall_time){r.now}), model_len);
        if (below(2))
            book_expire(&r.book, (struct wall_time){r.now});
        for (unsigned l = 0; l < LICENSES; l++) // at no instant more than there are
            assert_true(depth_at(l, r.now + (int64_t)below(3000)) <= count_of(l));
    }
    book_expire(&r.book, (struct wall_time){r.now});
    assert_int_equal(r.book.len, model_len);
    assert_true(r.lent > 5000 && r.same > 50 && r.full > 5000 && r.refused > 500);
    book_fini(&r.book);
}

// ---- texts ----

static void test_texts_are_shared(void **state)
{
    struct book book = {0};
    struct borrow_fields f = {.valid_until = {10}};
    (void)state;
    for (int i = 0; i < 6; i++) {
        snprintf(f.borrow_id, sizeof f.borrow_id, "%032x", i);
        struct book_entry *e = book_add(&book, &f);
        const char *vendor = i % 2 ? "odd" : "even";
        book_set_texts(&book, e, (struct ledger_text){vendor, strlen(vendor)},
                       (struct ledger_text){"own", 3}, (struct ledger_text){"pem", 3});
        book_written(&book, e, 1);
    }
    assert_int_equal(book.parts_len, 3);
    for (int i = 0; i < 6; i += 2) {
        snprintf(f.borrow_id, sizeof f.borrow_id, "%032x", i);
        book_remove(&book, book_find(&book, f.borrow_id));
    }
    assert_int_equal(book.parts_len, 2);
    struct ledger_record record;
    book_record(book.entries[0], &record);
    assert_int_equal(record.vendor.len, 3);
    assert_memory_equal(record.vendor.p, "odd", 3);
    book.entries[0]->waiters = 1; // somebody waits for it
    book_expire(&book, (struct wall_time){10});
    assert_int_equal(book.len, 1);
    book.entries[0]->waiters = 0;
    book_expire(&book, (struct wall_time){10});
    assert_int_equal(book.len + book.parts_len, 0);
    book_fini(&book);
}

// ---- the head ----

static void test_head(void **state)
{
    static const uint8_t one[32] = {1}, two[32] = {2}, three[32] = {3};
    const struct head none = {0};
    struct head backend = {.present = true, .sequence = 5};
    memset(backend.epoch, 'e', LEDGER_EPOCH_LEN);
    memcpy(backend.hash, two, sizeof two);
    const struct {
        char epoch;
        uint64_t sequence;
        const uint8_t *hash, *previous;
        enum head_fit fit;
    } cases[] = {
        {'e', 5, two, one, HEAD_FITS},      {'e', 5, three, one, HEAD_FORKED},
        {'e', 6, three, two, HEAD_AHEAD},   {'e', 6, three, one, HEAD_FORKED},
        {'e', 7, three, two, HEAD_FORKED},  {'e', 4, two, one, HEAD_BEHIND},
        {'e', 0, two, one, HEAD_BEHIND},    {'f', 5, two, one, HEAD_EPOCH},
        {'f', 6, three, two, HEAD_EPOCH},   {'e', UINT64_MAX, three, two, HEAD_FORKED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ledger l = {.sequence = cases[i].sequence};
        memset(l.epoch, cases[i].epoch, LEDGER_EPOCH_LEN);
        memcpy(l.previous, cases[i].previous, sizeof l.previous);
        assert_int_equal(head_compare(&l, cases[i].hash, &backend), cases[i].fit);
        assert_int_equal(head_compare(&l, cases[i].hash, &none), HEAD_UNREGISTERED);
    }
    // A backend that answers with sequence and hash alone: the hash is of the epoch too.
    backend.epoch[0] = '\0';
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ledger l = {.sequence = cases[i].sequence};
        memset(l.epoch, 'e', LEDGER_EPOCH_LEN);
        memcpy(l.previous, cases[i].previous, sizeof l.previous);
        if (cases[i].fit != HEAD_EPOCH)
            assert_int_equal(head_compare(&l, cases[i].hash, &backend), cases[i].fit);
    }
    assert_int_equal(head_compare(NULL, one, &backend), HEAD_MISSING);
    assert_int_equal(head_compare(NULL, one, &none), HEAD_FITS);
    for (int fit = HEAD_FITS; fit < HEAD_FITS_COUNT; fit++)
        assert_int_equal(*head_fault((enum head_fit)fit) != '\0', fit >= HEAD_MISSING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_borrows),
        cmocka_unit_test(test_texts_are_shared),
        cmocka_unit_test(test_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
