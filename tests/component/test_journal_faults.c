// Pool's sessions on disk: what was answered is found again whenever the process dies, and whatever
// call to the disk fails.
#include "tests/component/journal_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define IDS_MAX 20000

struct model {
    struct side side;
    char folder[96];
    struct session_id ids[IDS_MAX];
    // Ended while the disk could be written: must stay so. FORGIVEN: while it could not.
    enum { LIVES = 1, ENDED, FORGIVEN } state[IDS_MAX];
    size_t len;
    size_t open[SEATS], open_len; // that live
    uint64_t seed;
    unsigned granted, refused, died, rewritten;
};

static uint32_t below(struct model *m, uint32_t n)
{
    m->seed = m->seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((m->seed >> 33) % n);
}

static void do_batch(struct model *m)
{
    struct session_id fresh[8], id;
    size_t fresh_len = 0, gone[8], gone_len = 0;
    for (uint32_t i = 0, n = 1 + below(m, 8); i < n; i++) {
        if (below(m, 2) && m->open_len) {
            size_t k = below(m, (uint32_t)m->open_len);
            gone[gone_len++] = m->open[k];
            m->open[k] = m->open[--m->open_len];
            assert_int_equal(pool_return(m->side.pool, &m->ids[gone[gone_len - 1]], now()),
                             POOL_SESSION_OK);
        } else if (ask(&m->side, &id) == POOL_GRANTED) {
            assert_true(m->side.usable); // nothing begins that cannot be written
            fresh[fresh_len++] = id;
        } else {
            assert_true(!m->side.usable || pool_session_count(m->side.pool) == SEATS);
        }
    }
    bool written = journal_flush(m->side.journal) == 0;
    for (size_t i = 0; i < gone_len; i++)
        m->state[gone[i]] = written ? ENDED : FORGIVEN;
    for (size_t i = 0; i < fresh_len; i++) {
        if (!written) {
            pool_end(m->side.pool, &fresh[i], now());
            m->refused++;
            continue;
        }
        assert_true(m->len < IDS_MAX);
        m->open[m->open_len++] = m->len;
        m->state[m->len] = LIVES;
        m->ids[m->len++] = fresh[i];
        m->granted++;
    }
}

// The process dies, and a new one finds what was answered: in the image, or goes on itself.
static void do_death(struct model *m)
{
    char image[96];
    struct error err = {{0}};
    struct side next;
    unsigned fail_at = disk.fail_at;
    disk.fail_at = 0;
    take_image(m->folder, image);
    if (side_open(&next, image, &failing, &err))
        fail_msg("%s", err.text);
    assert_false(journal_is_doubtful(next.journal));
    for (size_t i = 0; i < m->len; i++) {
        if (m->state[i] == LIVES)
            assert_true(lives(&next, &m->ids[i]));
        else if (m->state[i] == ENDED)
            assert_false(lives(&next, &m->ids[i]));
    }
    assert_true(pool_session_count(next.pool) <= SEATS);
    m->died++;
    if (below(m, 2)) {
        side_close(&next);
        remove_tree(image);
        disk.fail_at = fail_at;
        return;
    }
    side_close(&m->side);
    remove_tree(m->folder);
    strcpy(m->folder, image);
    side_close(&next); // what its journal calls is `next`
    if (side_open(&m->side, m->folder, &failing, &err))
        fail_msg("%s", err.text);
    // Those that came back to life end now.
    for (size_t i = 0; i < m->len; i++) {
        if (m->state[i] == FORGIVEN) {
            pool_return(m->side.pool, &m->ids[i], now());
            m->state[i] = ENDED;
        }
    }
    assert_int_equal(journal_flush(m->side.journal), 0);
}

static void run_model(uint64_t seed, unsigned operations, bool faults)
{
    struct model *m = calloc(1, sizeof *m);
    struct error err = {{0}};
    assert_non_null(m);
    disk.calls = disk.fail_at = 0;
    m->seed = seed;
    new_folder(m->folder);
    if (side_open(&m->side, m->folder, &failing, &err))
        fail_msg("%s", err.text);
    for (unsigned i = 0; i < operations; i++) {
        uint64_t before = journal_bytes(m->side.journal);
        uint32_t what = below(m, 100);
        if (what < 80)
            do_batch(m);
        else if (what < 99)
            run_ms(1 + below(m, 3));
        else
            do_death(m);
        m->rewritten += journal_bytes(m->side.journal) < before;
        if (faults && below(m, 40) == 0) {
            static const int errors[] = {ENOSPC, EIO, EDQUOT};
            disk.fail_at = disk.calls + 1 + below(m, 6);
            disk.fail_len = 1 + below(m, 8);
            disk.error = errors[below(m, 3)];
        }
        // The wait before it is tried again is long for a test.
        if (!m->side.usable && below(m, 10) == 0)
            disk.fail_at = 0;
        for (unsigned ms = 0; !m->side.usable && !disk.fail_at && ms < 10000; ms++)
            run_ms(1);
    }
    assert_true(m->granted > 100 && m->died && m->rewritten > 2);
    assert_true(!faults || m->refused > 0);
    disk.fail_at = 0;
    side_close(&m->side);
    free(m);
}

static void test_random_deaths(void **state)
{
    for (uint64_t seed = 1; seed <= 6; seed++)
        run_model(seed * 7919, 800, false);
}

static void test_random_faults(void **state)
{
    for (uint64_t seed = 1; seed <= 6; seed++)
        run_model(seed * 104729, 500, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_deaths),
        cmocka_unit_test(test_random_faults),
    };
    return cmocka_run_group_tests_name("journal faults", tests, fixture_setup, fixture_teardown);
}
