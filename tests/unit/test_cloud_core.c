// The backend's pure decisions: who holds a server license, and where a ledger's head may go.
#include "tools/berth-cloud/lease.h"
#include "tools/berth-cloud/ledger_head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct lease_policy policy = {.silence_s = 600, .alive_s = 150};

// ---- leases: servers that say where they are ----

// A disk, which may be copied, at a place.
struct host {
    struct lease_place place;
    uint8_t token[LEASE_HASH_BYTES];
    bool has_token;
};

static uint32_t next_token;

static struct lease_place place(uint8_t boot, uint8_t folder, int64_t booted_s)
{
    struct lease_place p = {.known = true, .booted_s = booted_s};
    memset(p.boot, boot, sizeof p.boot);
    memset(p.folder, folder, sizeof p.folder);
    return p;
}

static struct lease_claim claim_of(const struct host *h)
{
    return (struct lease_claim){h->has_token ? h->token : NULL, h->place};
}

// True if the backend says ok. `lost`: the answer does not arrive.
static bool ask(struct lease *lease, struct host *h, int64_t now, bool lost)
{
    struct lease_claim claim = claim_of(h);
    uint8_t token[LEASE_HASH_BYTES];
    if (!lease_may_take(lease, &claim, now, &policy))
        return false;
    memset(token, 0, sizeof token);
    memcpy(token, &(uint32_t){++next_token}, sizeof next_token);
    lease_take(lease, &claim, token, now, &policy);
    if (!lost) {
        memcpy(h->token, token, sizeof token);
        h->has_token = true;
    }
    return true;
}

static struct host copy_to(const struct host *h, struct lease_place where)
{
    struct host copy = *h;
    copy.place = where;
    return copy;
}

static void restart_at_the_same_place(void **state)
{
    struct lease lease = {0};
    struct host first = {.place = place('b', 'f', 0)};
    assert_true(ask(&lease, &first, 998, true)); // killed before the very first answer came
    struct host key = {.place = place('b', 'g', 0)}; // a copy of the key alone
    assert_false(ask(&lease, &key, 999, false));
    assert_true(ask(&lease, &first, 999, true));
    assert_true(ask(&lease, &first, 1000, false));
    key.place = first.place;
    assert_true(ask(&lease, &first, 1000, false));
    assert_false(ask(&lease, &key, 1000, false)); // it has been confirmed: nobody comes without
    assert_true(ask(&lease, &first, 1001, true)); // killed before the answer came
    assert_true(ask(&lease, &first, 1001, false));
    assert_true(ask(&lease, &first, 1002, false));
}

// A request that was given up arrives after the next one: its answer reaches nobody.
static void late_request(void **state)
{
    struct lease lease = {0};
    struct host first = {.place = place('b', 'f', 0)};
    assert_true(ask(&lease, &first, 1000, false));
    struct host late = first;
    for (int i = 0; i < 5; i++) {
        assert_true(ask(&lease, &first, 1010 + 10 * i, false));
        assert_true(ask(&lease, &late, 1011 + 10 * i, true));
        assert_true(ask(&lease, &first, 1012 + 10 * i, false));
        late = first;
    }
    assert_true(ask(&lease, &first, 1100, false));
    assert_true(ask(&lease, &late, 1101, true));
    assert_true(ask(&lease, &first, 1102, false));
    struct lease_claim claim = claim_of(&first);
    assert_true(lease_goodbye(&lease, &claim, 1103, &policy));
    struct host other = {.place = place('c', 'g', 0)};
    assert_true(ask(&lease, &other, 1104, false));
}

// At whatever moment the disk is copied, and however often the first asks before the copy does.
static void copy_on_the_same_machine(void **state)
{
    for (int checks = 0; checks < 4; checks++) {
        struct lease lease = {0};
        struct host first = {.place = place('b', 'f', 0)};
        assert_true(ask(&lease, &first, 1000, false));
        struct host copy = copy_to(&first, place('b', 'g', 0));
        for (int i = 0; i < checks; i++)
            assert_true(ask(&lease, &first, 1060 + i, false));
        assert_false(ask(&lease, &copy, 1070, false));
        struct lease_claim claim = claim_of(&copy);
        assert_false(lease_goodbye(&lease, &claim, 1075, &policy));
        assert_true(ask(&lease, &first, 1080, false));
        // The first is silent: who has the current token may go on soon, the others wait.
        assert_false(ask(&lease, &copy, 1229, false));
        struct host moved = copy_to(&first, place('b', 'h', 0));
        assert_true(ask(&lease, &moved, 1230, false));
        assert_false(ask(&lease, &copy, 1829, false));
        assert_true(ask(&lease, &copy, 1830, false));
    }
}

static void copy_on_another_machine(void **state)
{
    struct lease lease = {0};
    struct host first = {.place = place('b', 'f', 0)};
    assert_true(ask(&lease, &first, 1000, false));
    struct host copy = copy_to(&first, place('c', 'f', 900)); // it ran before that check
    assert_false(ask(&lease, &copy, 1010, false));
    assert_true(ask(&lease, &first, 1060, false));
}

static void crash_and_boot(void **state)
{
    struct lease lease = {0};
    struct host first = {.place = place('b', 'f', 0)};
    assert_true(ask(&lease, &first, 1000, false));
    first.place = place('c', 'f', 1020);
    assert_true(ask(&lease, &first, 1030, false));
    first.place = place('d', 'f', 1040);
    assert_true(ask(&lease, &first, 1050, true));
    assert_true(ask(&lease, &first, 1051, false));
}

// A copy that is booted after the last check looks like the first after a crash: until the first
// speaks, whichever of its tokens the copy had.
static void copy_that_boots_is_found_out(void **state)
{
    for (int checks = 0; checks < 2; checks++) {
        struct lease lease = {0};
        struct host first = {.place = place('b', 'f', 0)};
        assert_true(ask(&lease, &first, 1000, false));
        struct host copy = copy_to(&first, place('c', 'f', 1065));
        for (int i = 0; i < checks; i++)
            assert_true(ask(&lease, &first, 1060, false));
        assert_true(ask(&lease, &copy, 1070, false));
        for (int i = 0; i < 5; i++) {
            assert_true(ask(&lease, &first, 1120 + 60 * i, i % 2 == 1));
            assert_false(ask(&lease, &copy, 1130 + 60 * i, false));
        }
    }
}

static void silent_and_unknown_places(void **state)
{
    struct lease lease = {0};
    struct host first = {.place = place('b', 'f', 0)}, other = {.place = place('c', 'g', 0)};
    struct host old = {0};
    assert_true(ask(&lease, &first, 1000, false));
    assert_false(ask(&lease, &other, 1599, false));
    old = copy_to(&first, (struct lease_place){0}); // an earlier version, after a downgrade
    assert_true(ask(&lease, &old, 1010, false));
    first = copy_to(&old, place('b', 'f', 0));
    assert_true(ask(&lease, &first, 1020, false));
    assert_true(ask(&lease, &other, 1620, false));
    assert_false(ask(&lease, &first, 1621, false));
}

// The first lives and asks every minute, some answers are lost, it restarts, it reboots. Copies of
// its disk, old and new, on its machine and others, try at any time. It is never refused twice in a
// row and copies never hold the license beyond its next check.
static void the_first_lives(void **state)
{
    srand(11);
    struct lease lease = {0};
    struct host first = {.place = place('b', 'f', 0)}, copies[4];
    int64_t now = 1000;
    assert_true(ask(&lease, &first, now, false));
    for (size_t i = 0; i < 4; i++)
        copies[i] = copy_to(&first, place((uint8_t)('0' + i), 'f', 0));
    copies[0].place = place('b', 'g', 0);
    for (int minute = 0; minute < 20000; minute++) {
        now += 60;
        // Exactly the one who holds it is at its next check.
        assert_true(ask(&lease, &first, now, rand() % 4 == 0));
        for (int tries = rand() % 4; tries > 0; tries--) {
            struct host *copy = &copies[rand() % 4];
            int what = rand() % 8;
            if (what == 0)
                *copy = copy_to(&first, copy->place);
            if (what == 1 && copy != &copies[0])
                copy->place = place((uint8_t)(rand() % 50), 'f', now + 1);
            if (what == 2) {
                struct lease_claim claim = claim_of(copy);
                lease_goodbye(&lease, &claim, now + 2, &policy);
            } else {
                ask(&lease, copy, now + 2 + tries, rand() % 3 == 0);
            }
        }
    }
}

// ---- heads ----

static struct ledger_claim claim(int64_t sequence, char hash, char epoch, char previous)
{
    struct ledger_claim c = {.head = {.present = sequence >= 0, .sequence = sequence},
                             .has_previous = previous != 0};
    memset(c.head.hash, hash, 64);
    if (epoch != 0)
        memset(c.head.epoch, epoch, 32);
    if (previous != 0)
        memset(c.previous, previous, 64);
    return c;
}

static void heads(void **state)
{
    static const struct {
        int64_t at;       // -1: none is registered
        char hash, epoch; // of the head
        int64_t sequence; // -1: null
        char claim_hash, claim_epoch, previous;
        bool moves, stays; // neither: refused
    } cases[] = {
        {-1, 0, 0, 7, 'a', 0, 0, true, false},
        {-1, 0, 0, 7, 'a', 'e', 'z', true, false},
        {-1, 0, 0, -1, 0, 0, 0, false, true},
        {5, 'a', 'e', -1, 0, 0, 0, false, true},
        {5, 'a', 'e', 5, 'a', 'e', 0, false, true},
        {5, 'a', 'e', 5, 'a', 0, 0, false, true},
        {5, 'a', 0, 5, 'a', 'e', 0, true, false}, // now the epoch is known
        {5, 'a', 'e', 5, 'a', 'e', 'z', false, true},
        {5, 'a', 'e', 5, 'b', 'e', 0, false, false},
        {5, 'a', 'e', 5, 'b', 'e', 'a', false, false},
        {5, 'a', 'e', 5, 'a', 'f', 0, false, false},
        {5, 'a', 'e', 6, 'b', 'e', 'a', true, false},
        {5, 'a', 'e', 6, 'b', 0, 'a', true, false},
        {5, 'a', 'e', 6, 'b', 'f', 'a', false, false},
        {5, 'a', 'e', 6, 'b', 'e', 'c', false, false},
        {5, 'a', 'e', 7, 'b', 'e', 'a', false, false},
        {5, 'a', 'e', 6, 'b', 'e', 0, true, false},
        {5, 'a', 'e', 900, 'b', 0, 0, true, false},
        {5, 'a', 'e', 900, 'b', 'f', 0, false, false},
        {5, 'a', 'e', 4, 'a', 'e', 0, false, false},
        {5, 'a', 'e', 4, 'b', 'e', 'a', false, false},
        {5, 'a', 'e', 0, 'a', 0, 0, false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ledger_head head = claim(cases[i].at, cases[i].hash, cases[i].epoch, 0).head;
        struct ledger_head before = head;
        struct ledger_claim c =
            claim(cases[i].sequence, cases[i].claim_hash, cases[i].claim_epoch, cases[i].previous);
        print_message("case %zu\n", i);
        assert_int_equal(ledger_head_move(&head, &c), cases[i].moves || cases[i].stays);
        if (!cases[i].moves) {
            assert_memory_equal(&head, &before, sizeof head);
            continue;
        }
        assert_int_equal(head.sequence, cases[i].sequence);
        assert_string_equal(head.hash, c.head.hash);
        if (cases[i].at >= 0 && cases[i].claim_epoch == 0)
            assert_string_equal(head.epoch, before.epoch);
    }
}

// A naive backend: the list of all heads there ever were. Nothing in it comes again but the last.
static void heads_never_go_back(void **state)
{
    static char history[20000];
    size_t len = 0;
    struct ledger_head head = {0};
    srand(5);
    for (int i = 0; i < 100000 && len < sizeof history - 8; i++) {
        int64_t sequence = (int64_t)len - 3 + rand() % 6;
        char hash = (char)('a' + rand() % 6), previous = (char)(rand() % 2 ? 'a' + rand() % 6 : 0);
        if (sequence < 0)
            continue;
        struct ledger_claim c = claim(sequence, hash, rand() % 2 ? 'e' : 0, previous);
        bool first = len == 0;
        bool last = !first && (size_t)sequence + 1 == len && history[sequence] == hash;
        bool next =
            !first && (previous == 0 ? (size_t)sequence >= len
                                     : (size_t)sequence == len && history[len - 1] == previous);
        assert_int_equal(ledger_head_move(&head, &c), first || last || next);
        if (first || next) {
            memset(history + len, 0, (size_t)sequence - len);
            len = (size_t)sequence + 1;
            history[sequence] = hash;
        }
        assert_int_equal(head.sequence, len - 1);
        assert_int_equal(head.hash[0], history[len - 1]);
    }
    assert_true(len > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restart_at_the_same_place),
        cmocka_unit_test(late_request),
        cmocka_unit_test(copy_on_the_same_machine),
        cmocka_unit_test(copy_on_another_machine),
        cmocka_unit_test(crash_and_boot),
        cmocka_unit_test(copy_that_boots_is_found_out),
        cmocka_unit_test(silent_and_unknown_places),
        cmocka_unit_test(the_first_lives),
        cmocka_unit_test(heads),
        cmocka_unit_test(heads_never_go_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
