// services/gateway/core/ratelimit, against buckets that are counted plainly.
#include "services/gateway/core/ratelimit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct mono_time at(int64_t ms)
{
    return (struct mono_time){ms};
}

static void off_by_default(void **state)
{
    struct ratelimit *rl = ratelimit_new(4, 1);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(ratelimit_take(rl, "a", at(0)), 0);
    assert_int_equal(ratelimit_addresses(rl), 0);
    ratelimit_free(&rl);
    assert_null(rl);
}

static void burst_then_rate(void **state)
{
    struct ratelimit *rl = ratelimit_new(4, 1);
    ratelimit_set(rl, 2, 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(ratelimit_take(rl, "a", at(1000)), 0);
    assert_int_equal(ratelimit_take(rl, "a", at(1000)), 500);
    assert_int_equal(ratelimit_take(rl, "b", at(1000)), 0); // each its own
    assert_int_equal(ratelimit_take(rl, "a", at(1499)), 1);
    assert_int_equal(ratelimit_take(rl, "a", at(1500)), 0);
    assert_int_equal(ratelimit_take(rl, "a", at(1500)), 500);
    for (int i = 0; i < 5; i++) // never more than the burst, however long it was silent
        assert_int_equal(ratelimit_take(rl, "a", at(INT64_MAX / 4)), 0);
    assert_int_not_equal(ratelimit_take(rl, "a", at(INT64_MAX / 4)), 0);
    assert_int_not_equal(ratelimit_take(rl, "a", at(0)), 0); // time never gives by going back
    ratelimit_free(&rl);
}

static void burst_zero_is_the_rate(void **state)
{
    struct ratelimit *rl = ratelimit_new(4, 1);
    ratelimit_set(rl, 3, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ratelimit_take(rl, "a", at(0)), 0);
    assert_int_equal(ratelimit_take(rl, "a", at(0)), 334);
    ratelimit_free(&rl);
}

static void oldest_is_forgotten(void **state)
{
    char name[16];
    struct ratelimit *rl = ratelimit_new(3, 7);
    ratelimit_set(rl, 1, 1);
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "a%d", i);
        assert_int_equal(ratelimit_take(rl, name, at(0)), 0);
    }
    assert_int_not_equal(ratelimit_take(rl, "a0", at(0)), 0); // used now: a1 is the oldest
    assert_int_equal(ratelimit_take(rl, "a3", at(0)), 0);
    assert_int_equal(ratelimit_addresses(rl), 3);
    assert_int_not_equal(ratelimit_take(rl, "a0", at(0)), 0);
    assert_int_not_equal(ratelimit_take(rl, "a2", at(0)), 0);
    assert_int_equal(ratelimit_take(rl, "a1", at(0)), 0); // forgotten, so full again
    ratelimit_free(&rl);
}

#define MODEL_ADDRESSES 40

static void random_against_model(void **state)
{
    srand(20261124);
    for (int round = 0; round < 50; round++) {
        uint32_t rate = 1 + (uint32_t)rand() % 50, burst = 1 + (uint32_t)rand() % 20;
        int64_t units[MODEL_ADDRESSES], filled[MODEL_ADDRESSES] = {0};
        int64_t now = 0;
        struct ratelimit *rl = ratelimit_new(MODEL_ADDRESSES, (uint64_t)rand());
        ratelimit_set(rl, rate, burst);
        for (int i = 0; i < MODEL_ADDRESSES; i++)
            units[i] = (int64_t)burst * 1000;
        for (int step = 0; step < 5000; step++) {
            char name[32];
            int who = rand() % MODEL_ADDRESSES;
            now += rand() % 4;
            snprintf(name, sizeof name, "192.0.2.%d", who);
            units[who] += (now - filled[who]) * rate;
            filled[who] = now;
            if (units[who] > (int64_t)burst * 1000)
                units[who] = (int64_t)burst * 1000;
            int64_t wait = ratelimit_take(rl, name, at(now));
            if (units[who] >= 1000) {
                assert_int_equal(wait, 0);
                units[who] -= 1000;
            } else {
                assert_true(wait > 0);
                assert_true(units[who] + wait * rate >= 1000);
                assert_true(units[who] + (wait - 1) * rate < 1000);
            }
        }
        ratelimit_free(&rl);
    }
}

static void flood_of_addresses(void **state)
{
    struct ratelimit *rl = ratelimit_new(1000, 3);
    ratelimit_set(rl, 1, 1);
    for (int i = 0; i < 200000; i++) {
        char name[64];
        snprintf(name, sizeof name, "2001:db8::%x:%x and a name that is longer than it may be", i,
                 i);
        assert_int_equal(ratelimit_take(rl, name, at(0)), 0);
        assert_true(ratelimit_addresses(rl) <= 1000);
    }
    ratelimit_free(&rl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(off_by_default),         cmocka_unit_test(burst_then_rate),
        cmocka_unit_test(burst_zero_is_the_rate), cmocka_unit_test(oldest_is_forgotten),
        cmocka_unit_test(random_against_model),   cmocka_unit_test(flood_of_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
