// What behaviour.md and licenses.md say about licenses, seats and sessions, statement by statement.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/pool/core/pool.h"

#define U1 "00000000-0000-4000-8000-000000000001"
#define U2 "00000000-0000-4000-8000-000000000002"
#define H "MVTec_HALCON"
#define INTERVAL_MS 120500

static const uint8_t key[16] = "0123456789abcdef";
static struct pool_now now;
static unsigned char next_id;

struct lic {
    const char *uuid, *version, *edition, *modules;
    uint32_t count;
    int64_t issued, from, until; // 0: unlimited
    int signature;
    bool foreign;
};

static struct match_terms terms(const char *version, const char *edition, const char *modules)
{
    struct match_terms t;
    assert_int_equal(version_parse(version, strlen(version), &t.version), 0);
    assert_int_equal(edition_parse(edition, strlen(edition), &t.edition), 0);
    assert_int_equal(modules_parse(modules, strlen(modules), &t.modules), 0);
    return t;
}

static void load(struct pool *p, const struct lic *l, size_t len)
{
    struct license_fields *fields = calloc(len + 1, sizeof *fields);
    struct pool_record *records = calloc(len + 1, sizeof *records);
    uint8_t(*signatures)[64] = calloc(len + 1, sizeof *signatures);
    for (size_t i = 0; i < len; i++) {
        struct match_terms t = terms(l[i].version, l[i].edition, l[i].modules);
        fields[i] = (struct license_fields){
            .version = t.version,
            .edition = t.edition,
            .modules = t.modules,
            .count = l[i].count,
            .issued = {l[i].issued},
            .valid_from = l[i].from ? (struct wall_time){l[i].from} : WALL_MIN,
            .valid_until = l[i].until ? (struct wall_time){l[i].until} : WALL_MAX};
        strcpy(fields[i].uuid, l[i].uuid);
        strcpy(fields[i].feature, H);
        strcpy(fields[i].version_text, l[i].version);
        memset(signatures[i], l[i].signature, 64);
        records[i] = (struct pool_record){&fields[i], signatures[i], (uint32_t)i, l[i].foreign};
    }
    pool_load(p, records, len, now);
    free(signatures);
    free(records);
    free(fields);
}

static struct pool *start(const struct lic *l, size_t len, uint32_t max_per_client)
{
    now = (struct pool_now){{1000}, {5000}};
    struct pool *p = pool_new(&(struct pool_settings){INTERVAL_MS, max_per_client}, key);
    load(p, l, len);
    return p;
}

static enum pool_outcome ask_as(struct pool *p, const char *instance, const char *host,
                                const char *modules, struct pool_result *out)
{
    struct session_id id = {{++next_id, 1}};
    struct pool_request r = {H,
                             terms("24.11", "Steady", modules),
                             instance,
                             {.hostname = "pc", .host_id = host, .address = "10.0.0.1"}};
    return pool_request(p, &r, id, now, out);
}

static enum pool_outcome ask(struct pool *p, struct pool_result *out)
{
    return ask_as(p, NULL, NULL, "f", out);
}

static enum pool_session_state revalidate(struct pool *p, const struct pool_result *r)
{
    uint32_t within = 0;
    enum pool_session_state s = pool_revalidate(p, &r->id, now, &within);
    if (s == POOL_SESSION_OK)
        assert_int_equal(within, INTERVAL_MS / 1000);
    return s;
}

static const struct lic two_seats = {U1, "24.11", "Steady", "f", 2, 1, 0, 0, 1, false};

static void test_seat_is_blocked_until_return_or_expiry(void **state) // [P2], [P3]
{
    struct pool *p = start(&two_seats, 1, 0);
    struct pool_result a, b, c;
    assert_int_equal(ask(p, &a), POOL_GRANTED);
    assert_string_equal(a.license.uuid, U1);
    assert_int_equal(a.revalidate_within_s, 120);
    assert_int_equal(ask(p, &b), POOL_GRANTED);
    assert_int_equal(ask(p, &c), POOL_NO_SEAT);
    assert_int_equal(c.considered_len, 1);
    assert_string_equal(c.considered[0].reason, "all-in-use");
    assert_in_range(c.retry_after_s, 1, 120);
    assert_int_equal(pool_return(p, &a.id, now), POOL_SESSION_OK);
    assert_int_equal(pool_return(p, &a.id, now), POOL_SESSION_RETURNED);
    assert_int_equal(revalidate(p, &a), POOL_SESSION_RETURNED);
    assert_int_equal(ask(p, &a), POOL_GRANTED);
    now.mono.ms += INTERVAL_MS - 1;
    assert_int_equal(revalidate(p, &b), POOL_SESSION_OK);
    now.mono.ms += 1;
    assert_int_equal(ask(p, &c), POOL_GRANTED); // the seat of a, though nobody swept
    assert_int_equal(revalidate(p, &a), POOL_SESSION_EXPIRED);
    assert_int_equal(revalidate(p, &b), POOL_SESSION_OK);
    assert_int_equal(pool_end(p, &b.id, now), POOL_SESSION_OK);
    assert_int_equal(revalidate(p, &b), POOL_SESSION_ENDED);
    struct session_id unknown = {{0xff}};
    assert_int_equal(pool_return(p, &unknown, now), POOL_SESSION_UNKNOWN);
    pool_free(&p);
}

static void test_same_instance_same_session(void **state) // [P4]
{
    struct pool *p = start(&two_seats, 1, 0);
    struct pool_result a, b;
    assert_int_equal(ask_as(p, "run-1", NULL, "f", &a), POOL_GRANTED);
    assert_int_equal(ask_as(p, "run-1", NULL, "f", &b), POOL_EXISTING);
    assert_memory_equal(&a.id, &b.id, sizeof a.id);
    assert_int_equal(pool_session_count(p), 1);
    assert_int_equal(ask_as(p, "run-1", NULL, "", &b), POOL_INSTANCE_CONFLICT);
    assert_int_equal(ask_as(p, "run-2", NULL, "", &b), POOL_GRANTED);
    pool_return(p, &a.id, now);
    assert_int_equal(ask_as(p, "run-1", NULL, "", &b), POOL_GRANTED); // after its end: a new one
    pool_free(&p);
}

static void test_license_ends_sessions(void **state) // [P5]
{
    struct lic l[] = {{U1, "24.11", "Steady", "f", 2, 1, 0, 2000, 1, false},
                      {U2, "24.11", "Steady", "fc", 1, 1, 0, 0, 1, false}};
    struct pool *p = start(l, 2, 0);
    struct pool_result a, b, c;
    assert_int_equal(ask(p, &a), POOL_GRANTED);
    assert_int_equal(ask(p, &b), POOL_GRANTED);
    assert_int_equal(ask(p, &c), POOL_GRANTED);
    assert_string_equal(c.license.uuid, U2);
    now.wall.s = 1999;
    assert_int_equal(revalidate(p, &a), POOL_SESSION_OK);
    now.wall.s = 2000;
    assert_int_equal(revalidate(p, &a), POOL_SESSION_LICENSE_EXPIRED);
    assert_int_equal(ask(p, &a), POOL_NO_SEAT);
    assert_string_equal(a.considered[0].reason, "all-in-use");
    assert_string_equal(a.considered[1].reason, "expired");
    load(p, l, 1);
    assert_int_equal(revalidate(p, &c), POOL_SESSION_LICENSE_WITHDRAWN);
    assert_int_equal(revalidate(p, &c), POOL_SESSION_LICENSE_WITHDRAWN);
    // A newer file of the same identity that serves still keeps it; one that does not ends it.
    struct lic newer = {U1, "25.5", "Steady", "fc", 2, 2, 0, 0, 1, false};
    load(p, &newer, 1);
    assert_int_equal(revalidate(p, &b), POOL_SESSION_OK);
    struct lic other = {U1, "25.5", "Progress", "c", 2, 3, 0, 0, 1, false};
    load(p, &other, 1);
    assert_int_equal(revalidate(p, &b), POOL_SESSION_LICENSE_WITHDRAWN);
    pool_free(&p);
}

static void test_newest_wins(void **state) // [L3], "Which license counts"
{
    struct lic l[] = {{U1, "24.11", "Steady", "f", 5, 10, 0, 0, 1, false},
                      {U1, "24.11", "Steady", "f", 3, 30, 1500, 0, 1, false},
                      {U1, "24.11", "Steady", "f", 4, 20, 0, 1200, 1, false},
                      {U1, "24.11", "Steady", "f", 9, 90, 0, 0, 1, true}};
    struct pool *p = start(l, 4, 0);
    struct pool_license shown;
    static const struct {
        int64_t wall;
        uint32_t count, available;
        enum pool_validity validity;
    } times[] = {{1000, 4, 4, POOL_VALID},
                 {1200, 4, 0, POOL_EXPIRED}, // the older longer one does not come back to life
                 {1499, 4, 0, POOL_EXPIRED},
                 {1500, 3, 3, POOL_VALID}, // takes over at that moment
                 {1100, 4, 4, POOL_VALID}};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        now.wall.s = times[i].wall;
        assert_int_equal(pool_license_count(p, now), 1);
        pool_license_at(p, 0, &shown);
        assert_int_equal(shown.count, times[i].count);
        assert_int_equal(shown.available, times[i].available);
        assert_int_equal(shown.validity, times[i].validity);
        assert_false(shown.issue_tie);
    }
    assert_int_equal(pool_next_event(p, now).ms, now.mono.ms + 100 * 1000);
    struct lic tie[] = {{U1, "24.11", "Steady", "f", 1, 10, 0, 0, 1, false},
                        {U1, "24.11", "Steady", "f", 2, 10, 0, 0, 9, false},
                        {U1, "24.11", "Steady", "f", 2, 10, 0, 0, 9, false}};
    load(p, tie, 3);
    pool_license_at(p, 0, &shown);
    assert_int_equal(shown.count, 2); // the greater signature
    assert_true(shown.issue_tie);
    load(p, tie + 1, 2);
    pool_license_at(p, 0, &shown);
    assert_false(shown.issue_tie); // the same block twice is nothing to warn about
    pool_free(&p);
}

static void test_borrow_takes_seats_when_it_begins(void **state) // [B5]
{
    struct pool *p = start(&two_seats, 1, 0);
    struct pool_result a, b, c;
    ask(p, &a);
    ask(p, &b);
    struct pool_borrow_entry e = {U1, H, {{1100}, {1200}, "aa:bb"}};
    pool_add_borrow(p, &e, now);
    assert_int_equal(revalidate(p, &b), POOL_SESSION_OK); // until the period begins
    now.wall.s = 1100;
    assert_int_equal(revalidate(p, &a), POOL_SESSION_OK); // the older one
    assert_int_equal(revalidate(p, &b), POOL_SESSION_DISPLACED);
    assert_int_equal(ask(p, &c), POOL_NO_SEAT);
    assert_string_equal(c.considered[0].reason, "all-in-use");
    pool_add_borrow(p, &e, now);
    assert_int_equal(revalidate(p, &a), POOL_SESSION_DISPLACED);
    assert_int_equal(ask(p, &c), POOL_NO_SEAT);
    assert_string_equal(c.considered[0].reason, "all-borrowed");
    struct pool_license shown;
    assert_int_equal(pool_license_count(p, now), 1);
    pool_license_at(p, 0, &shown);
    assert_int_equal(shown.borrowed, 2);
    assert_int_equal(shown.borrows_len, 2);
    now.wall.s = 1200; // its end: the seats are free again
    assert_int_equal(ask(p, &c), POOL_GRANTED);
    pool_license_count(p, now);
    pool_license_at(p, 0, &shown);
    assert_int_equal(shown.borrows_len, 0);
    pool_free(&p);
}

static uint32_t borrowed_at(struct pool *p, int64_t s)
{
    struct pool_license shown;
    now.wall.s = s;
    assert_int_equal(pool_license_count(p, now), 1);
    pool_license_at(p, 0, &shown);
    return shown.borrowed;
}

// Whose clock is set back by up to a day finds the borrows of then again; older ones are forgotten.
static void test_ended_borrows_come_back_with_the_clock(void **state)
{
    enum { DAY = 86400, HOUR = 3600 };
    struct pool *p = start(&two_seats, 1, 0);
    struct pool_borrow_entry first = {U1, H, {{1100}, {1200}, "aa:01"}, "1"},
                             second = {U1, H, {{1150}, {1100 + 2 * HOUR}, "aa:02"}, "2"};
    pool_add_borrow(p, &first, now);
    pool_add_borrow(p, &second, now);
    assert_int_equal(borrowed_at(p, 1100 + 2 * HOUR), 0);
    assert_int_equal(borrowed_at(p, 1160), 2);
    assert_int_equal(borrowed_at(p, 1300), 1); // they end one after the other
    assert_int_equal(borrowed_at(p, 1200 + DAY + HOUR + 1), 0);
    struct pool_borrow_entry third = {U1, H, {{1}, {2 * DAY}, "aa:03"}, "3"};
    pool_add_borrow(p, &third, now);
    assert_int_equal(borrowed_at(p, 1160), 2); // the second and the third
    pool_free(&p);
}

static void test_lowered_count_displaces_the_youngest(void **state)
{
    struct lic l = two_seats;
    struct pool *p = start(&l, 1, 0);
    struct pool_result a, b, c;
    ask(p, &a);
    ask(p, &b);
    l.count = 1;
    l.issued = 2;
    load(p, &l, 1);
    assert_int_equal(revalidate(p, &b), POOL_SESSION_DISPLACED);
    assert_int_equal(revalidate(p, &a), POOL_SESSION_OK);
    assert_int_equal(ask(p, &c), POOL_NO_SEAT);
    pool_free(&p);
}

static void test_client_limit(void **state)
{
    struct lic l = two_seats;
    l.count = 10;
    struct pool *p = start(&l, 1, 2);
    struct pool_result a, r;
    assert_int_equal(ask_as(p, NULL, "h1", "f", &a), POOL_GRANTED);
    assert_int_equal(ask_as(p, NULL, "h1", "f", &r), POOL_GRANTED);
    assert_int_equal(ask_as(p, NULL, "h1", "f", &r), POOL_CLIENT_LIMIT);
    assert_int_equal(ask_as(p, NULL, "h2", "f", &r), POOL_GRANTED);
    assert_int_equal(ask_as(p, NULL, NULL, "f", &r), POOL_GRANTED); // by address
    pool_return(p, &a.id, now);
    assert_int_equal(ask_as(p, NULL, "h1", "f", &r), POOL_GRANTED);
    pool_free(&p);
}

static void test_considered(void **state)
{
    enum { MANY = 40 };
    struct lic l[MANY];
    char uuids[MANY][37];
    for (int i = 0; i < MANY; i++) {
        snprintf(uuids[i], sizeof uuids[i], "00000000-0000-4000-8000-%012d", i);
        l[i] = (struct lic){uuids[i], "24.5", "Steady", "f", 1, 1, 0, 0, 1, false};
    }
    l[3].edition = "Progress";
    l[4] = (struct lic){uuids[4], "24.11", "Steady", "", 1, 1, 0, 0, 1, false};
    l[5].foreign = true;
    struct pool *p = start(l, MANY, 0);
    struct pool_result r;
    assert_int_equal(ask_as(p, NULL, NULL, "fd", &r), POOL_NO_LICENSE);
    assert_int_equal(r.considered_len, POOL_CONSIDERED_MAX);
    assert_int_equal(r.omitted, MANY - POOL_CONSIDERED_MAX);
    assert_string_equal(r.considered[0].reason, "modules-missing:fd");
    assert_string_equal(r.considered[1].reason, "version-older");
    load(p, l + 3, 3);
    assert_int_equal(ask_as(p, NULL, NULL, "fd", &r), POOL_NO_LICENSE);
    assert_int_equal(r.considered_len, 3);
    // Progress covers Steady from 24.11 on, so that the version is what is wrong.
    assert_string_equal(r.considered[1].reason, "version-older");
    assert_string_equal(r.considered[2].reason, "server-id");
    assert_int_equal(pool_license_count(p, now), 2); // foreign ones are not shown
    load(p, NULL, 0);
    assert_int_equal(ask(p, &r), POOL_NO_LICENSE);
    assert_int_equal(r.considered_len, 0);
    char long_feature[80];
    memset(long_feature, 'x', 79);
    long_feature[79] = '\0';
    struct pool_request odd = {long_feature, terms("24.11", "Steady", "f"), NULL, {0}};
    assert_int_equal(pool_request(p, &odd, (struct session_id){{9}}, now, &r), POOL_NO_LICENSE);
    pool_free(&p);
}

static void test_shown_session(void **state)
{
    struct pool *p = start(&two_seats, 1, 0);
    struct pool_result r;
    assert_int_equal(ask_as(p, "run-1", "aa:bb", "f", &r), POOL_GRANTED);
    now.wall.s += 7;
    now.mono.ms += 7000;
    revalidate(p, &r);
    now.mono.ms += 700;
    struct pool_session s;
    assert_true(pool_session_get(p, &r.id, now, &s));
    assert_string_equal(s.instance_id, "run-1");
    assert_string_equal(s.client.host_id, "aa:bb");
    assert_null(s.client.user);
    assert_string_equal(s.license.version, "24.11");
    assert_int_equal(s.since.s, 1000);
    assert_int_equal(s.last_seen.s, 1007);
    assert_int_equal(s.expires.s, 1007 + 120);
    uint64_t cursor = 0;
    assert_true(pool_session_next(p, &cursor, now, &s));
    assert_false(pool_session_next(p, &cursor, now, &s));
    cursor = UINT64_MAX;
    assert_false(pool_session_next(p, &cursor, now, &s));
    char text[SESSION_ID_TEXT_BYTES];
    struct session_id back;
    session_id_format(&r.id, text);
    assert_int_equal(session_id_parse(text, 32, &back), 0);
    assert_memory_equal(&back, &r.id, sizeof back);
    assert_int_equal(session_id_parse(text, 31, &back), -EINVAL);
    assert_int_equal(session_id_parse("ABCDEF00000000000000000000000000", 32, &back), -EINVAL);
    assert_int_equal(session_id_parse("zz000000000000000000000000000000", 32, &back), -EINVAL);
    pool_free(&p);
}

// Every cut and every flipped byte: no crash, and what was whole before it is restored.
static void test_damaged_store(void **state) // [P6]
{
    struct pool *p = start(&two_seats, 1, 0);
    struct buf store = {0};
    struct pool_result a, b;
    pool_write_header(&store);
    pool_set_journal(p, &store);
    ask_as(p, "run-1", "aa:bb", "f", &a);
    size_t first = store.len;
    ask_as(p, "run-2", "aa:bb", "f", &b);
    pool_return(p, &a.id, now);
    struct pool_store_info info;
    struct error err;
    for (size_t i = 0; i < 2 * store.len; i++) {
        struct buf copy = {0};
        size_t at = i % store.len;
        bool cut = i >= store.len;
        buf_add(&copy, store.data, cut ? at : store.len);
        if (!cut)
            copy.data[at] ^= 0x20;
        struct pool *fresh = pool_new(&(struct pool_settings){INTERVAL_MS, 0}, key);
        load(fresh, &two_seats, 1);
        int r = pool_restore(fresh, copy.data, copy.len, now, &info, &err);
        assert_int_equal(r, at < 16 ? -EBADMSG : 0);
        assert_true(info.good_len <= at);
        if (at >= first)
            assert_int_equal(revalidate(fresh, &a), POOL_SESSION_OK);
        else
            assert_int_equal(pool_session_count(fresh), 0);
        pool_free(&fresh);
        buf_fini(&copy);
    }
    struct pool *fresh = pool_new(&(struct pool_settings){INTERVAL_MS, 0}, key);
    assert_int_equal(pool_restore(fresh, store.data, store.len, now, &info, &err), 0);
    load(fresh, &two_seats, 1);
    assert_int_equal(info.good_len, store.len);
    assert_int_equal(revalidate(fresh, &a), POOL_SESSION_RETURNED);
    assert_int_equal(revalidate(fresh, &b), POOL_SESSION_OK);
    assert_int_equal(ask_as(fresh, "run-2", "aa:bb", "f", &b), POOL_EXISTING);
    assert_int_equal(ask(fresh, &a), POOL_GRANTED);
    assert_int_equal(ask(fresh, &a), POOL_NO_SEAT); // no seat twice
    pool_free(&fresh);
    buf_fini(&store);
    pool_free(&p);
}

// While sessions may be missing nobody gets a new seat; those that live go on.
static void test_held_back(void **state)
{
    struct pool *p = start(&two_seats, 1, 0);
    struct pool_result a, b;
    struct pool_license shown;
    ask_as(p, "run-1", "aa:bb", "f", &a);
    pool_hold(p, mono_after(now.mono, 2500));
    assert_int_equal(ask(p, &b), POOL_NO_SEAT);
    assert_int_equal(b.retry_after_s, 3);
    assert_int_equal(ask_as(p, "run-1", "aa:bb", "f", &b), POOL_EXISTING);
    assert_int_equal(revalidate(p, &a), POOL_SESSION_OK);
    assert_true(pool_license_find(p, U1, H, now, &shown));
    assert_int_equal(shown.available, 0);
    assert_false(pool_license_find(p, U2, H, now, &shown));
    now.mono.ms += 2500;
    assert_true(pool_license_find(p, U1, H, now, &shown));
    assert_int_equal(shown.available, 1);
    pool_hold(p, MONO_NEVER);
    assert_int_equal(ask(p, &b), POOL_NO_SEAT);
    assert_in_range(b.retry_after_s, 1, INTERVAL_MS / 1000);
    pool_hold(p, (struct mono_time){0});
    assert_int_equal(ask(p, &b), POOL_GRANTED);
    now.mono.ms += INTERVAL_MS - 1;
    pool_prolong_all(p, now); // nobody could revalidate
    now.mono.ms += INTERVAL_MS - 1;
    assert_int_equal(revalidate(p, &a), POOL_SESSION_OK);
    now.mono.ms++;
    assert_int_equal(revalidate(p, &b), POOL_SESSION_EXPIRED);
    pool_free(&p);
}

static void test_interval_can_be_changed(void **state)
{
    struct pool *p = start(&two_seats, 1, 0);
    struct pool_result a, b;
    ask(p, &a);
    ask(p, &b);
    pool_set_settings(p, &(struct pool_settings){86400000, 0});
    uint32_t within;
    assert_int_equal(pool_revalidate(p, &a.id, now, &within), POOL_SESSION_OK);
    assert_int_equal(within, 86400);
    now.mono.ms += INTERVAL_MS;
    assert_int_equal(revalidate(p, &b), POOL_SESSION_EXPIRED);
    now.mono.ms += 86400000 - INTERVAL_MS - 1;
    pool_set_settings(p, &(struct pool_settings){1500, 0});
    assert_int_equal(pool_revalidate(p, &a.id, now, &within), POOL_SESSION_OK);
    assert_int_equal(within, 1);
    now.mono.ms += 1564; // and the running 64 ms
    while (pool_tick(p, now, 10)) {
    }
    assert_int_equal(pool_session_count(p), 0);
    assert_int_equal(pool_next_event(p, now).ms, MONO_NEVER.ms);
    pool_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seat_is_blocked_until_return_or_expiry),
        cmocka_unit_test(test_same_instance_same_session),
        cmocka_unit_test(test_license_ends_sessions),
        cmocka_unit_test(test_newest_wins),
        cmocka_unit_test(test_borrow_takes_seats_when_it_begins),
        cmocka_unit_test(test_ended_borrows_come_back_with_the_clock),
        cmocka_unit_test(test_lowered_count_displaces_the_youngest),
        cmocka_unit_test(test_client_limit),
        cmocka_unit_test(test_considered),
        cmocka_unit_test(test_shown_session),
        cmocka_unit_test(test_damaged_store),
        cmocka_unit_test(test_held_back),
        cmocka_unit_test(test_interval_can_be_changed),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
