// Host IDs, periods and rules of borrowing: tables, and random operations against a naive model.
#include "common/core/hostid.h"
#include "services/borrow/core/rules.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static void test_host_ids(void **state)
{
    static const struct {
        const char *text, *want; // NULL: refused
    } cases[] = {
        {"00:1A:2b:3C:4d:5E", "00:1a:2b:3c:4d:5e"},
        {"00-1a-2b-3c-4d-5e", "00:1a:2b:3c:4d:5e"},
        {"001A2B3C4D5E", "00:1a:2b:3c:4d:5e"},
        {"02:00:00:00:00:00", "02:00:00:00:00:00"},
        {"000000000000", NULL},
        {"00:00:00:00:00:00", NULL},
        {"00-00-00-00-00-00", NULL},
        {"ff:ff:ff:ff:ff:ff", NULL},
        {"FF-FF-FF-FF-FF-FF", NULL},
        {"01005e000001", NULL},
        {"33-33-00-00-00-01", NULL},
        {"00:1a-2b:3c-4d:5e", NULL},
        {"00:1a:2b:3c:4d", NULL},
        {"00:1a:2b:3c:4d:5e:6f", NULL},
        {"00:1a:2b:3c:4d:5g", NULL},
        {" 001a2b3c4d5e", NULL},
        {"", NULL},
        {"BERTH-7F3A-2291", "BERTH-7F3A-2291"},
        {"a", "a"},
        {"._-", "._-"},
        {"001a2b3c4d5", "001a2b3c4d5"},
        {"001a2b3c4d5g", "001a2b3c4d5g"},
        {"a b", NULL},
        {"a/b", NULL},
        {"\xC3\xA4", NULL},
        {"1234567890123456789012345678901234567890123456789012345678901234",
         "1234567890123456789012345678901234567890123456789012345678901234"},
        {"12345678901234567890123456789012345678901234567890123456789012345", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[HOSTID_MAX + 1] = "x";
        int r = hostid_parse(cases[i].text, strlen(cases[i].text), out, NULL);
        assert_int_equal(r, cases[i].want ? 0 : -EINVAL);
        assert_string_equal(out, cases[i].want ? cases[i].want : "");
    }
    char out[HOSTID_MAX + 1];
    assert_int_equal(hostid_parse("a\0b", 3, out, NULL), -EINVAL);
}

static struct interval period(int64_t from, int64_t until)
{
    return (struct interval){{from}, {until}};
}

static void test_half_open(void **state)
{
    struct interval_set set = {0};
    struct interval c;
    interval_set_add(&set, period(10, 20));
    assert_true(interval_set_fits(&set, period(0, 10), 1, &c));
    assert_true(interval_set_fits(&set, period(20, 30), 1, &c));
    assert_false(interval_set_fits(&set, period(5, 25), 1, &c));
    assert_int_equal(c.from.s, 10);
    assert_int_equal(c.until.s, 20);
    assert_false(interval_set_fits(&set, period(15, 25), 1, &c));
    assert_int_equal(c.from.s, 15);
    interval_set_add(&set, period(20, 30)); // the conflict goes on without a gap
    assert_false(interval_set_fits(&set, period(0, 25), 1, &c));
    assert_int_equal(c.from.s, 10);
    assert_int_equal(c.until.s, 25);
    assert_true(interval_set_fits(&set, period(0, 40), 2, &c));
    assert_false(interval_set_fits(&set, period(50, 60), 0, &c));
    assert_int_equal(c.from.s, 50);
    assert_int_equal(c.until.s, 60);
    interval_set_fini(&set);
}

static uint64_t seed = 88172645463325252u;
static int64_t below(int64_t n)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (int64_t)(seed % (uint64_t)n);
}

enum { SPAN = 400, OPS = 120000 };

// The model knows, for every second, how many are borrowed.
static bool model_fits(const uint32_t *depth, struct interval p, uint32_t count,
                       struct interval *conflict)
{
    for (int64_t t = p.from.s; t < p.until.s; t++) {
        if (depth[t] + 1 <= count)
            continue;
        conflict->from.s = t;
        while (t < p.until.s && depth[t] + 1 > count)
            t++;
        conflict->until.s = t;
        return false;
    }
    return true;
}

static void test_against_model(void **state)
{
    struct interval_set set = {0};
    uint32_t depth[SPAN] = {0}, count = 3;
    int64_t now = 0;
    size_t lent = 0, refused = 0;
    for (int op = 0; op < OPS; op++) {
        if (below(40) == 0 || now >= SPAN - 60) {
            if (now >= SPAN - 60) {
                interval_set_fini(&set);
                memset(depth, 0, sizeof depth);
                now = 0, count = (uint32_t)below(6);
            } else {
                now += below(10);
            }
            continue;
        }
        int64_t from = now + below(40);
        struct interval p = period(from, from + 1 + below(19)), got = {0}, want = {0};
        bool fits = model_fits(depth, p, count, &want);
        assert_int_equal(interval_set_fits(&set, p, count, &got), fits);
        if (!fits) {
            assert_int_equal(got.from.s, want.from.s);
            assert_int_equal(got.until.s, want.until.s);
            refused++;
            continue;
        }
        lent++;
        interval_set_add(&set, p);
        for (int64_t t = p.from.s; t < p.until.s; t++)
            assert_true(++depth[t] <= count);
    }
    assert_true(lent > 1000 && refused > 10000);
    interval_set_fini(&set);
}

static void test_ten_thousand_are_fast(void **state)
{
    struct interval_set set = {0};
    struct interval c;
    for (int i = 0; i < 10000; i++) {
        int64_t from = below(3000000);
        interval_set_add(&set, period(from, from + 1 + below(604800)));
    }
    struct timespec a, b;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    for (int i = 0; i < 20; i++)
        assert_true(interval_set_fits(&set, period(0, 4000000), 10001, &c));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    double ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
    assert_true(ms / 20 < 50); // borrow.md [D4]: the whole borrow
    interval_set_fini(&set);
}

#define DAY 86400

static void test_rules(void **state)
{
    const int64_t now = 1700000000;
    const struct rules_limits open = {7 * DAY, 42 * DAY,
                                      {WALL_MIN, WALL_MAX}, {WALL_MIN, WALL_MAX}};
    struct rules_limits license = open, server = open;
    license.license = period(now + 100, now + 3 * DAY);
    server.server = period(now + 100, now + 3 * DAY);
    const struct {
        const struct rules_limits *limits;
        bool given;
        int64_t from, until; // after now
        enum rules_outcome want;
        int64_t limit; // or, when good, the beginning
    } cases[] = {
        {&open, false, 0, 1, RULES_OK, 0},
        {&open, false, 0, 0, RULES_EMPTY, 0},
        {&open, false, 0, -1, RULES_EMPTY, 0},
        {&open, true, -300, 60, RULES_OK, 0},
        {&open, true, -301, 60, RULES_FROM_PAST, 0},
        {&open, true, -300, 7 * DAY, RULES_OK, 0},
        {&open, false, 0, 7 * DAY + 1, RULES_TOO_LONG, 7 * DAY},
        {&open, true, 5, 7 * DAY + 5, RULES_OK, 5},
        {&open, true, 5, 7 * DAY + 6, RULES_TOO_LONG, 7 * DAY + 5},
        {&open, true, 35 * DAY, 42 * DAY, RULES_OK, 35 * DAY},
        {&open, true, 35 * DAY + 1, 42 * DAY + 1, RULES_TOO_FAR, 42 * DAY},
        {&license, true, 100, 3 * DAY, RULES_OK, 100},
        {&license, true, 99, 3 * DAY, RULES_LICENSE_FROM, 100},
        {&license, true, 100, 3 * DAY + 1, RULES_LICENSE_UNTIL, 3 * DAY},
        {&server, true, 99, 3 * DAY, RULES_SERVER_FROM, 100},
        {&server, true, 100, 3 * DAY + 1, RULES_SERVER_UNTIL, 3 * DAY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rules_ask ask = {"u", "f", "h", cases[i].given, {now + cases[i].from},
                                {now + cases[i].until}};
        struct interval p;
        struct wall_time limit;
        assert_int_equal(rules_check(&ask, cases[i].limits, (struct wall_time){now}, &p, &limit),
                         cases[i].want);
        int64_t got = cases[i].want ? limit.s : p.from.s;
        assert_int_equal(got, now + cases[i].limit);
        assert_true(!*rules_reason(cases[i].want) == (cases[i].want == RULES_OK));
    }
}

static void test_same_again(void **state)
{
    const struct rules_held held = {"u", "f", "h", {{1000}, {2000}}};
    const struct {
        const char *uuid, *feature, *host;
        bool given;
        int64_t from, until, now;
        bool want;
    } cases[] = {
        {"u", "f", "h", true, 1000, 2000, 500, true},
        {"u", "f", "h", true, 1000, 2000, 1900, true}, // begun long since
        {"v", "f", "h", true, 1000, 2000, 500, false},
        {"u", "g", "h", true, 1000, 2000, 500, false},
        {"u", "f", "i", true, 1000, 2000, 500, false},
        {"u", "f", "h", true, 1001, 2000, 500, false},
        {"u", "f", "h", true, 1000, 2001, 500, false},
        {"u", "f", "h", false, 0, 2000, 1000, true},
        {"u", "f", "h", false, 0, 2000, 999, false},
        {"u", "f", "h", false, 0, 2000, 2000, false},
        {"u", "f", "h", true, 900, 2000, 1010, true}, // was moved to now at first
        {"u", "f", "h", true, 900, 2000, 890, false},
        {"u", "f", "h", true, 699, 2000, 1010, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rules_ask ask = {cases[i].uuid, cases[i].feature, cases[i].host, cases[i].given,
                                {cases[i].from}, {cases[i].until}};
        assert_int_equal(rules_same(&ask, &held, (struct wall_time){cases[i].now}),
                         cases[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host_ids),
        cmocka_unit_test(test_half_open),
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_ten_thousand_are_fast),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_same_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
