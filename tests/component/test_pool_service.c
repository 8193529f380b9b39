// berth-pool in one process with a trust and a borrow that the test plays, over real RPC: license
// files are loaded with the verdict's keys, sessions come and go, and without a valid verdict, or
// before the borrows are known, nothing is issued.
#include "common/clock.h"
#include "tests/component/pool_fixture.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

static void test_sessions(void **state)
{
    struct pool_fixture *f = *state;
    assert_int_equal(pool_list(f), 2);
    assert_int_equal(pool_ask(f, "Steady"), 0);
    char first[64];
    strcpy(first, f->text);
    assert_int_equal(strlen(first), 32);
    assert_int_equal(pool_ask(f, "Steady"), 0);
    char second[64];
    strcpy(second, f->text);
    assert_int_equal(pool_ask(f, "Steady"), 1002);
    assert_int_equal(pool_ask(f, "Progress"), 1001);
    assert_int_equal(pool_ask(f, "steady"), -32602);
    assert_int_equal(pool_ask_again(f, first), 0);
    assert_int_equal(pool_give_back(f, first), 0);
    assert_int_equal(pool_ask_again(f, first), 1003);
    assert_string_equal(f->text, "returned");
    assert_int_equal(pool_give_back(f, "guess"), 1003);
    assert_string_equal(f->text, "unknown");
    assert_int_equal(pool_ask(f, "Steady"), 0);
    // Not revalidated for an interval of one second:
    for (int i = 0; i < POOL_TRIES && pool_ask(f, "Steady") == 1002; i++)
        pool_pause(f, POOL_PAUSE_MS);
    assert_int_equal(f->code, 0);
    assert_int_equal(pool_ask_again(f, second), 1003);
    assert_string_equal(f->text, "expired");
}

static void test_verdict(void **state)
{
    struct pool_fixture *f = *state;
    assert_int_equal(pool_ask(f, "Steady"), 0);
    char id[64];
    strcpy(id, f->text);
    f->verdict.generation = 2;
    f->verdict.state = BERTH__STATE__INVALID;
    f->verdict.reason = (char *)(uintptr_t) "revoked";
    for (int i = 0; i < POOL_TRIES && pool_ask(f, "Steady") != 1004; i++)
        pool_pause(f, POOL_PAUSE_MS);
    assert_int_equal(f->code, 1004);
    assert_string_equal(f->text, "revoked");
    assert_int_equal(pool_ask_again(f, id), 1004);
    assert_int_equal(pool_list(f), 2);
    assert_int_equal(pool_give_back(f, id), 0);
    rpc_server_free(&f->trust); // silence: after 3 s nothing is issued, licenses are still listed
    for (int i = 0; i < 4 * POOL_TRIES && pool_ask(f, "Steady") != 1011; i++)
        pool_pause(f, POOL_PAUSE_MS);
    assert_int_equal(f->code, 1011);
    assert_int_equal(pool_list(f), 2);
}

static void test_files_and_keys(void **state)
{
    struct pool_fixture *f = *state;
    pool_write_license(f, "license.dat", 5);
    for (int i = 0; i < POOL_TRIES && pool_list(f) != 5; i++)
        pool_pause(f, POOL_PAUSE_MS);
    assert_int_equal(f->code, 5);
    char *revoked[] = {f->id};
    f->verdict.generation = 3;
    f->verdict.n_revoked_key_ids = 1;
    f->verdict.revoked_key_ids = revoked;
    for (int i = 0; i < POOL_TRIES && pool_list(f); i++)
        pool_pause(f, POOL_PAUSE_MS);
    assert_int_equal(f->listed, 0);
    assert_int_equal(pool_ask(f, "Steady"), 1001);
    f->verdict.n_revoked_key_ids = 0;
    f->verdict.revoked_key_ids = NULL;
}

// ---- a full disk ----

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

// What is refused took no seat; what lives goes on; and all is well when there is room again.
static void test_full_disk(void **state)
{
    struct pool_fixture *f = *state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(pool_ask_proof(f, "run-1", "host-1", NULL), 0);
    char id[64];
    strcpy(id, f->text);
    limit_files(10);
    for (int i = 0; i < 2; i++) { // the first finds it out, the second is told at once
        assert_int_equal(pool_ask(f, "Steady"), 1011);
        assert_string_equal(f->text, "pool");
        assert_int_equal(pool_ask_again(f, id), 0);
        assert_int_equal(pool_list(f), 2);
        assert_int_equal(f->available, 0); // none that anybody could get
        assert_int_equal(pool_ask_proof(f, "run-1", "host-1", NULL), 0);
        assert_string_equal(f->text, id);
    }
    limit_files(RLIM_INFINITY);
    for (int i = 0; i < POOL_TRIES && pool_ask(f, "Steady"); i++) {
        assert_int_equal(f->code, 1011);
        assert_int_equal(pool_ask_again(f, id), 0);
        pool_pause(f, POOL_PAUSE_MS);
    }
    char second[64];
    strcpy(second, f->text);
    assert_int_equal(f->code, 0);
    assert_int_equal(pool_ask(f, "Steady"), 1002);
    pool_stop(f); // what was written anew is restored
    pool_start(f);
    pool_no_borrows(f);
    assert_int_equal(pool_ask_again(f, id), 0);
    assert_int_equal(pool_ask_again(f, second), 0);
    assert_int_equal(pool_ask(f, "Steady"), 1002);
}

// ---- borrows ----

struct seat {
    Berth__BorrowedSeat message;
    Berth__Interval period;
};

static Berth__BorrowedSeat *seat(struct seat *s, const char *id, int64_t from_s, int64_t until_s)
{
    berth__borrowed_seat__init(&s->message);
    berth__interval__init(&s->period);
    s->period.valid_from_s = clock_wall().s + from_s;
    s->period.valid_until_s = clock_wall().s + until_s;
    s->period.host_id = (char *)(uintptr_t) "aa:bb:cc:dd:ee:ff";
    s->message.borrow_id = (char *)(uintptr_t)id;
    s->message.uuid = (char *)(uintptr_t)POOL_UUID;
    s->message.feature = (char *)(uintptr_t) "F";
    s->message.period = &s->period;
    return &s->message;
}

// [B5], [P6]: until borrow has told which seats are borrowed, nothing is issued; sessions do not
// run out meanwhile.
static void test_nothing_before_the_borrows_are_known(void **state)
{
    struct pool_fixture *f = *state;
    assert_int_equal(pool_ask(f, "Steady"), 0);
    char id[64];
    strcpy(id, f->text);
    pool_stop(f);
    pool_start(f);
    for (int i = 0; i < 3; i++) { // longer than an interval
        assert_false(pool_service_ready(f->pool));
        assert_int_equal(pool_ask(f, "Steady"), 1011);
        assert_string_equal(f->text, "borrow");
        assert_int_equal(pool_ask_again(f, id), 1011);
        assert_int_equal(pool_list(f), 2);
        assert_int_equal(f->available, 1);
        pool_pause(f, 500);
    }
    struct seat s;
    Berth__BorrowedSeat *list[] = {seat(&s, "b1", -10, 1000)};
    assert_int_equal(pool_tell(f, f->borrow, true, false, NULL, 0), 0);
    assert_int_equal(pool_ask_again(f, id), 1011);
    assert_int_equal(pool_tell(f, f->borrow, false, true, list, 1), 0);
    assert_true(pool_service_ready(f->pool));
    assert_int_equal(pool_ask_again(f, id), 0);
    assert_int_equal(pool_ask(f, "Steady"), 1002);
    rpc_client_free(&f->borrow); // what was told holds while borrow is away
    assert_int_equal(pool_ask_again(f, id), 0);
    assert_int_equal(pool_list(f), 2);
    assert_int_equal(f->intervals, 1);
}

static void test_borrows(void **state)
{
    struct pool_fixture *f = *state;
    struct seat s, t;
    assert_int_equal(pool_ask(f, "Steady"), 0);
    char first[64], second[64];
    strcpy(first, f->text);
    assert_int_equal(pool_ask(f, "Steady"), 0);
    strcpy(second, f->text);
    // Only borrow may tell, and the others may not ask for texts.
    assert_int_equal(pool_add(f, f->client, seat(&s, "b1", -10, 1000)), 1009);
    assert_int_equal(pool_tell(f, f->client, true, true, NULL, 0), 1009);
    assert_int_equal(pool_find(f, f->client, POOL_UUID), 1009);
    // A borrow to come takes no seat, one that has begun takes the youngest session's ([B5]).
    assert_int_equal(pool_add(f, f->borrow, seat(&s, "b1", 1000, 2000)), 0);
    assert_int_equal(pool_ask_again(f, second), 0);
    assert_int_equal(pool_add(f, f->borrow, seat(&s, "b1", -10, 1000)), 0); // replaces it
    assert_int_equal(pool_list(f), 2);
    assert_int_equal(f->intervals, 1);
    assert_int_equal(pool_ask_again(f, first), 0);
    assert_int_equal(pool_ask_again(f, second), 1003);
    assert_string_equal(f->text, "displaced");
    assert_int_equal(pool_add(f, f->borrow, seat(&t, "b2", -10, 1000)), 0);
    assert_int_equal(pool_ask_again(f, first), 1003);
    assert_int_equal(pool_ask(f, "Steady"), 1002);
    assert_int_equal(pool_list(f), 2);
    assert_int_equal(f->available, 0);
    assert_int_equal(f->intervals, 2);
    // All anew, in two pages; what stands in none is gone.
    Berth__BorrowedSeat *list[] = {seat(&t, "b3", -10, 1000)};
    assert_int_equal(pool_tell(f, f->borrow, true, false, list, 1), 0);
    assert_int_equal(pool_add(f, f->borrow, seat(&s, "b4", -10, 1000)), -32602);
    assert_int_equal(pool_list(f), 2);
    assert_int_equal(f->intervals, 2); // not before the last page
    assert_int_equal(pool_tell(f, f->borrow, false, true, NULL, 0), 0);
    assert_int_equal(pool_list(f), 2);
    assert_int_equal(f->available, 1);
    assert_int_equal(f->intervals, 1);
    // Nonsense is refused and changes nothing.
    assert_int_equal(pool_tell(f, f->borrow, false, true, NULL, 0), -32602);
    assert_int_equal(pool_add(f, f->borrow, seat(&s, "", -10, 1000)), -32602);
    assert_int_equal(pool_add(f, f->borrow, seat(&s, "b5", 10, 10)), -32602);
    seat(&s, "b6", -10, 10)->uuid = (char *)(uintptr_t)POOL_UUID "0";
    assert_int_equal(pool_add(f, f->borrow, &s.message), -32602);
    assert_int_equal(pool_list(f), 2);
    assert_int_equal(f->intervals, 1);
}

static void test_license_text(void **state)
{
    struct pool_fixture *f = *state;
    assert_int_equal(pool_find(f, f->borrow, POOL_UUID), 2);
    assert_memory_equal(f->block.data, "-----BEGIN LICENSE-----\nformat: 1\n", 34);
    const char *end = strstr(f->block.data, "-----END LICENSE-----\nsignature: ");
    assert_non_null(end);
    assert_string_equal(strchr(end + 30, '\n'), "\n"); // the signature line is the last
    assert_int_equal(pool_find(f, f->borrow, "3c2d8f6e-0b7a-4f1e-9a52-6f0f4c1f3a78"), 1008);
    for (unsigned count = 3; count < 6; count++) { // the text follows the file
        pool_write_license(f, "license.dat", count);
        for (int i = 0; i < POOL_TRIES && pool_find(f, f->borrow, POOL_UUID) != (int)count; i++)
            pool_pause(f, POOL_PAUSE_MS);
        char line[32];
        snprintf(line, sizeof line, "\ncount: %u\n", count);
        assert_non_null(strstr(f->block.data, line));
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, pool_setup, pool_teardown)
    const struct CMUnitTest tests[] = {T(test_sessions),
                                       T(test_verdict),
                                       T(test_files_and_keys),
                                       T(test_full_disk),
                                       T(test_nothing_before_the_borrows_are_known),
                                       T(test_borrows),
                                       T(test_license_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
