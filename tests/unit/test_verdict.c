#include "services/trust/core/clock_mark.h"
#include "services/trust/core/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define H 3600000LL
#define WALL 1800000000LL

static const struct verdict_config four_hours = {.grace_ms = 4 * H,
                                                 .check_interval_ms = 300000,
                                                 .license_not_before = {WALL - 1000},
                                                 .license_not_after = {WALL + 1000000}};

static struct mono_time at(int64_t ms)
{
    return (struct mono_time){ms};
}

static void check(struct verdict_core *v, enum verdict_check c, int64_t now)
{
    const struct verdict_input in = {.check = c, .reason = "revoked", .next_check_s = 60};
    verdict_apply(v, &in, at(now));
}

static void assert_view(const struct verdict_core *v, int64_t now, int64_t wall,
                        enum verdict_state state, const char *reason)
{
    struct verdict_view view = verdict_view(v, at(now), (struct wall_time){wall});
    assert_int_equal(view.state, state);
    assert_string_equal(view.reason, reason);
}

static void grace_ends_after_four_hours(void **state)
{
    struct verdict_core v;
    verdict_init(&v, &four_hours, at(0));
    assert_view(&v, 0, WALL, VERDICT_INVALID, "grace-over");
    check(&v, CHECK_OK, 1000);
    assert_view(&v, 1000, WALL, VERDICT_VALID, "");
    check(&v, CHECK_FAILED, 61000);
    assert_view(&v, 61000, WALL, VERDICT_GRACE, "");
    assert_view(&v, 1000 + 4 * H - 60000, WALL, VERDICT_GRACE, "");
    assert_view(&v, 1000 + 4 * H - 1, WALL, VERDICT_GRACE, "");
    assert_view(&v, 1000 + 4 * H, WALL, VERDICT_INVALID, "grace-over");
    check(&v, CHECK_FAILED, 1000 + 5 * H);
    assert_view(&v, 1000 + 5 * H, WALL, VERDICT_INVALID, "grace-over");
    check(&v, CHECK_OK, 1000 + 6 * H);
    assert_view(&v, 1000 + 6 * H, WALL, VERDICT_VALID, "");
}

static void suspend_does_not_stretch(void **state)
{
    struct verdict_core v;
    verdict_init(&v, &four_hours, at(0));
    check(&v, CHECK_OK, 0);
    assert_view(&v, 4 * H - 1, WALL, VERDICT_VALID, "");
    assert_view(&v, 4 * H, WALL, VERDICT_INVALID, "grace-over");
}

static void grace_cannot_be_raised(void **state)
{
    struct verdict_config c = four_hours;
    c.grace_ms = 100 * H;
    struct verdict_core v;
    verdict_init(&v, &c, at(0));
    check(&v, CHECK_OK, 0);
    check(&v, CHECK_FAILED, 1);
    assert_view(&v, 4 * H, WALL, VERDICT_INVALID, "grace-over");
    verdict_configure(&v, 200 * H, 1000, at(2));
    assert_view(&v, 4 * H, WALL, VERDICT_INVALID, "grace-over");
    assert_int_equal(v.next_check.ms, 1002);
}

static void refusal_has_no_grace(void **state)
{
    struct verdict_core v;
    verdict_init(&v, &four_hours, at(0));
    check(&v, CHECK_OK, 0);
    check(&v, CHECK_REFUSED, 1);
    assert_view(&v, 1, WALL, VERDICT_INVALID, "revoked");
    check(&v, CHECK_FAILED, 2); // cutting the line does not turn a "no" into grace
    assert_view(&v, 2, WALL, VERDICT_INVALID, "revoked");
    check(&v, CHECK_OK, 3);
    assert_view(&v, 3, WALL, VERDICT_VALID, "");
}

static void license_dates(void **state)
{
    struct verdict_core v;
    verdict_init(&v, &four_hours, at(0));
    check(&v, CHECK_OK, 0);
    assert_view(&v, 0, WALL + 999999, VERDICT_VALID, "");
    assert_view(&v, 0, WALL + 1000000, VERDICT_INVALID, "expired");
    // A clock may be a day behind.
    assert_view(&v, 0, WALL - 1001, VERDICT_VALID, "");
    assert_view(&v, 0, WALL - 1000 - 86400, VERDICT_VALID, "");
    assert_view(&v, 0, WALL - 1001 - 86400, VERDICT_INVALID, "clock");
    verdict_license(&v, (struct wall_time){WALL + 5}, (struct wall_time){WALL + 2000000});
    assert_view(&v, 0, WALL + 1000000, VERDICT_VALID, "");
    assert_view(&v, 0, WALL + 2000000, VERDICT_INVALID, "expired");
}

static void behind_the_mark(void **state)
{
    struct verdict_core v;
    verdict_init(&v, &four_hours, at(0));
    check(&v, CHECK_OK, 0);
    verdict_mark(&v, (struct wall_time){WALL + 90000});
    assert_view(&v, 0, WALL + 90000 - 86400, VERDICT_VALID, "");
    assert_view(&v, 0, WALL + 90000 - 86401, VERDICT_INVALID, "clock");
    assert_view(&v, 0, WALL + 90000, VERDICT_VALID, "");
    // The backend's word is worth more.
    const struct verdict_input in = {
        .check = CHECK_OK, .next_check_s = 60, .date_known = true, .date = {WALL}};
    verdict_apply(&v, &in, at(0));
    assert_view(&v, 0, WALL, VERDICT_VALID, "");
}

// Naive: every second that passed is in a list. The mark is the greatest date that was shown, but
// never more than what is proven by the seconds.
static void mark_rises_with_time_that_passes(void **state)
{
    srand(3);
    for (int round = 0; round < 2000; round++) {
        struct clock_mark m;
        int64_t now = 1000, over = WALL, greatest = WALL;
        clock_mark_init(&m, (struct wall_time){WALL}, at(now));
        for (int i = 0; i < 40; i++) {
            int64_t passed_s = rand() % 100;
            now += passed_s * 1000;
            over += passed_s;
            if (rand() % 8 == 0) {
                int64_t proven = over - 500 + rand() % 1000;
                over = proven > over ? proven : over;
                greatest = proven > greatest ? proven : greatest;
                clock_mark_raise(&m, (struct wall_time){proven}, at(now));
            }
            int64_t wall = over + (rand() % 3 - 1) * (rand() % 2 ? 100000 : rand() % 50);
            int64_t shown = wall < over ? wall : over;
            greatest = shown > greatest ? shown : greatest;
            clock_mark_advance(&m, (struct wall_time){wall}, at(now));
            assert_int_equal(m.at.s, greatest);
        }
    }
}

static void wrong_clock(void **state)
{
    static const struct {
        int64_t skew_s;
        enum verdict_state state;
    } cases[] = {{0, VERDICT_VALID},         {301, VERDICT_VALID},      {-86399, VERDICT_VALID},
                 {86399, VERDICT_VALID},     {86400, VERDICT_INVALID},  {-86400, VERDICT_INVALID},
                 {9000000, VERDICT_INVALID}, {-9000000, VERDICT_INVALID}};
    struct verdict_config c = four_hours;
    c.license_not_before = (struct wall_time){0};
    struct verdict_core v;
    verdict_init(&v, &c, at(0));
    const struct verdict_input in = {
        .check = CHECK_OK, .next_check_s = 60, .date_known = true, .date = {WALL}};
    verdict_apply(&v, &in, at(0));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        // A minute later: the backend's clock has gone on.
        struct wall_time wall = {WALL + 60 + cases[i].skew_s};
        struct verdict_view view = verdict_view(&v, at(60000), wall);
        assert_int_equal(view.state, cases[i].state);
        assert_int_equal(view.skew_s, cases[i].skew_s);
        if (view.state == VERDICT_INVALID)
            assert_string_equal(view.reason, "clock");
    }
}

static void next_check_is_the_smallest(void **state)
{
    static const struct {
        int64_t grace_ms, interval_ms;
        uint32_t backend_s;
        int64_t expected_ms;
    } cases[] = {
        {4 * H, 300000, 60, 60000},     {4 * H, 300000, 3600, 300000}, {4 * H, 1000, 60, 1000},
        {2000, 300000, 60, 500},        {1000, 1000, 1, 250},          {40000, 300000, 0, 10000},
        {4 * H, 3600000, 3600, 3600000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct verdict_config c = four_hours;
        c.grace_ms = cases[i].grace_ms;
        c.check_interval_ms = cases[i].interval_ms;
        struct verdict_core v;
        verdict_init(&v, &c, at(7));
        for (enum verdict_check k = CHECK_OK; k <= CHECK_REFUSED; k++) {
            const struct verdict_input in = {
                .check = k, .reason = "revoked", .next_check_s = cases[i].backend_s};
            verdict_apply(&v, &in, at(7));
            assert_int_equal(v.next_check.ms, 7 + cases[i].expected_ms);
        }
    }
}

static void backoff_stays_between(void **state)
{
    static const uint32_t randoms[] = {0, 1u << 31, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        struct verdict_core v;
        verdict_init(&v, &four_hours, at(0));
        check(&v, CHECK_OK, 0);
        for (int n = 0; n < 40; n++) {
            const struct verdict_input in = {.check = CHECK_FAILED, .random = randoms[i]};
            verdict_apply(&v, &in, at(0));
            assert_in_range(v.next_check.ms, 5000, 60000);
            if (n == 0)
                assert_in_range(v.next_check.ms, 5000, 7500);
        }
        assert_in_range(v.next_check.ms, 30000, 60000);
    }
}

// Whoever reads trust.md would write it like this: remember everything, look back.
struct event {
    enum verdict_check check;
    int64_t now;
};

static enum verdict_state naive(const struct event *events, size_t n, int64_t grace, int64_t now,
                                const char **reason)
{
    int64_t last_ok = -1;
    bool failed = false, answered = false, refused = false;
    for (size_t i = 0; i < n; i++) {
        failed = events[i].check == CHECK_FAILED;
        if (failed)
            continue;
        answered = true;
        refused = events[i].check == CHECK_REFUSED;
        if (!refused)
            last_ok = events[i].now;
    }
    *reason = refused ? "revoked" : "grace-over";
    if (!answered || refused || now >= last_ok + grace)
        return VERDICT_INVALID;
    *reason = "";
    return failed ? VERDICT_GRACE : VERDICT_VALID;
}

static void random_histories(void **state)
{
    srand(20261124);
    for (int round = 0; round < 2000; round++) {
        struct event events[64];
        struct verdict_config c = four_hours;
        c.grace_ms = 1000 + rand() % 20000;
        struct verdict_core v;
        verdict_init(&v, &c, at(0));
        int64_t now = 0;
        for (size_t n = 0; n < 64; n++) {
            now += rand() % 5000;
            const char *reason;
            enum verdict_state want = naive(events, n, c.grace_ms, now, &reason);
            assert_view(&v, now, WALL, want, reason);
            events[n] = (struct event){CHECK_OK + rand() % 3, now};
            const struct verdict_input in = {.check = events[n].check,
                                             .reason = "revoked",
                                             .next_check_s = 1 + rand() % 3600,
                                             .random = (uint32_t)rand() << 1};
            verdict_apply(&v, &in, at(now));
            assert_in_range(v.next_check.ms - now, 1, c.grace_ms / 4);
            // Time alone changes it exactly when it says so.
            struct verdict_view view = verdict_view(&v, at(now), (struct wall_time){WALL});
            if (view.changes_at.ms != INT64_MAX) {
                assert_view(&v, view.changes_at.ms - 1, WALL, view.state, view.reason);
                assert_view(&v, view.changes_at.ms, WALL, VERDICT_INVALID, "grace-over");
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grace_ends_after_four_hours),
        cmocka_unit_test(suspend_does_not_stretch),
        cmocka_unit_test(grace_cannot_be_raised),
        cmocka_unit_test(refusal_has_no_grace),
        cmocka_unit_test(license_dates),
        cmocka_unit_test(wrong_clock),
        cmocka_unit_test(behind_the_mark),
        cmocka_unit_test(mark_rises_with_time_that_passes),
        cmocka_unit_test(next_check_is_the_smallest),
        cmocka_unit_test(backoff_stays_between),
        cmocka_unit_test(random_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
