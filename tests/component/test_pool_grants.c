// Grants of berth-pool, over real RPC with a trust that the test plays: what a client gets verifies
// with the vendor's CA, and is for the host and the program run that the session began with.
#include "common/clock.h"
#include "tests/component/pool_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define NONCE "sixteen bytes.."
#define OTHER "another nonce.."

static int verify(struct pool_fixture *f, const char *id, const char *instance, const char *host,
                  const char *nonce, struct grant_facts *facts)
{
    struct arena *arena = arena_new(4096);
    const struct grant_texts texts = {f->grant[0].data, f->grant[1].data, f->grant[2].data,
                                      f->grant[3].data};
    const struct grant_expected expected = {(const uint8_t *)nonce, 16, id, instance, host, "F"};
    struct error err = {{0}};
    assert_true(f->grant[0].len);
    int r = grant_verify(facts, arena, &texts, &expected, f->ca, &err);
    if (r)
        print_message("%s\n", err.text);
    else
        assert_string_equal(facts->uuid, POOL_UUID);
    arena_free(&arena);
    return r;
}

static void test_grants(void **state)
{
    struct pool_fixture *f = *state;
    struct grant_facts facts;
    assert_int_equal(pool_ask_proof(f, "run-1", "host-1", NONCE), 0);
    char id[64], second[64];
    strcpy(id, f->text);
    assert_int_equal(verify(f, id, "run-1", "host-1", NONCE, &facts), 0);
    assert_int_equal(facts.revalidate_within_s, 1);
    assert_true(facts.time.s >= clock_wall().s - 60 && facts.time.s <= clock_wall().s);
    assert_true(verify(f, id, "run-1", "host-1", OTHER, &facts));
    assert_int_equal(pool_ask_again_proof(f, id, OTHER), 0);
    assert_int_equal(verify(f, id, "run-1", "host-1", OTHER, &facts), 0);
    assert_int_equal(pool_ask_again(f, id), 0);
    assert_int_equal(f->grant[0].len, 0); // none asked for, none given
    // The same program run from another host gets no grant of its own: a session is not shared.
    assert_int_equal(pool_ask_proof(f, "run-1", "host-2", NONCE), 0);
    assert_string_equal(f->text, id);
    assert_true(verify(f, id, "run-1", "host-2", NONCE, &facts));
    assert_int_equal(verify(f, id, "run-1", "host-1", NONCE, &facts), 0);
    // A grant must name both.
    assert_int_equal(pool_ask_proof(f, NULL, "host-1", NONCE), -32602);
    assert_int_equal(pool_ask_proof(f, "run-2", NULL, NONCE), -32602);
    assert_int_equal(pool_ask(f, "Steady"), 0);
    strcpy(second, f->text);
    assert_int_equal(pool_ask_again_proof(f, second, NONCE), -32602);
    assert_int_equal(pool_ask_again(f, second), 0);
    assert_int_equal(pool_ask_again_proof(f, "00000000000000000000000000000000", NONCE), 1003);
    // The longest that clients may send is signed as it is, not cut off.
    char longest[513];
    memset(longest, 'x', 512);
    longest[512] = '\0';
    assert_int_equal(pool_give_back(f, second), 0);
    assert_int_equal(pool_ask_proof(f, longest, longest, NONCE), 0);
    assert_int_equal(verify(f, f->text, longest, longest, NONCE, &facts), 0);
    assert_int_equal(f->delegated, 1);
}

// Renewed at half of its life, without a gap; and when trust does not delegate any more, there are
// no grants once the last one is over, while sessions go on.
static void test_delegations_end(void **state)
{
    struct pool_fixture *f = *state;
    struct grant_facts facts;
    pool_stop(f);
    f->delegation_s = 4;
    f->delegated = 0;
    pool_start(f);
    pool_no_borrows(f);
    assert_int_equal(pool_ask_proof(f, "run-1", "host-1", NONCE), 0);
    char id[64];
    strcpy(id, f->text);
    for (int i = 0; i < POOL_TRIES && f->delegated < 3; i++) {
        assert_int_equal(pool_ask_again_proof(f, id, NONCE), 0);
        assert_int_equal(verify(f, id, "run-1", "host-1", NONCE, &facts), 0);
        pool_pause(f, POOL_PAUSE_MS);
    }
    assert_true(f->delegated >= 3);
    f->delegates = false;
    for (int i = 0; i < 2 * POOL_TRIES && !pool_ask_again_proof(f, id, NONCE); i++) {
        assert_int_equal(verify(f, id, "run-1", "host-1", NONCE, &facts), 0);
        pool_pause(f, POOL_PAUSE_MS);
    }
    assert_int_equal(f->code, 1011);
    assert_string_equal(f->text, "trust");
    assert_int_equal(pool_ask_again(f, id), 0);
    assert_int_equal(pool_ask_proof(f, "run-2", "host-1", NONCE), 1011);
    assert_int_equal(pool_list(f), 2);
    assert_int_equal(f->available, 1); // and no seat was taken by that
    f->delegates = true;
    for (int i = 0; i < POOL_TRIES && pool_ask_again_proof(f, id, NONCE); i++) {
        assert_int_equal(pool_ask_again(f, id), 0);
        pool_pause(f, POOL_PAUSE_MS);
    }
    assert_int_equal(verify(f, id, "run-1", "host-1", NONCE, &facts), 0);
}

// trust's clock is ahead by some seconds: the grant's time is one that its delegation covers.
static void test_clocks_of_two_hosts(void **state)
{
    struct pool_fixture *f = *state;
    struct grant_facts facts;
    pool_stop(f);
    f->clock_ahead_s = 20;
    pool_start(f);
    pool_no_borrows(f);
    assert_int_equal(pool_ask_proof(f, "run-1", "host-1", NONCE), 0);
    assert_int_equal(verify(f, f->text, "run-1", "host-1", NONCE, &facts), 0);
    assert_true(facts.time.s > clock_wall().s + 5);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, pool_setup, pool_teardown)
    const struct CMUnitTest tests[] = {T(test_grants), T(test_delegations_end),
                                       T(test_clocks_of_two_hosts)};
    return cmocka_run_group_tests_name("pool grants", tests, NULL, NULL);
}
