// What a start of pool finds of its sessions on disk, and what it makes of it.
#include "tests/component/journal_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_first_start_and_lost_state(void **state)
{
    char folder[96], path[160];
    struct error err;
    struct side s;
    struct session_id id;
    new_folder(folder);
    snprintf(path, sizeof path, "%s/made", folder);
    assert_int_equal(side_open(&s, path, NULL, &err), 0);
    assert_false(journal_is_doubtful(s.journal));
    assert_int_equal(ask(&s, &id), POOL_GRANTED);
    assert_int_equal(journal_flush(s.journal), 0);
    struct side second;
    assert_int_equal(side_open(&second, path, NULL, &err), -EBUSY);
    assert_non_null(strstr(err.text, "another berth-pool"));
    side_close(&s);
    assert_int_equal(side_open(&s, path, NULL, &err), 0);
    assert_false(journal_is_doubtful(s.journal));
    assert_true(lives(&s, &id));
    side_close(&s);

    char file[192];
    snprintf(file, sizeof file, "%s/%s", path, JOURNAL_FILE);
    assert_int_equal(unlink(file), 0);
    for (int i = 0; i < 2; i++) { // also if it ends in the middle of the wait
        assert_int_equal(side_open(&s, path, NULL, &err), 0);
        assert_true(journal_is_doubtful(s.journal));
        if (i)
            journal_settle(s.journal);
        side_close(&s);
    }
    assert_int_equal(side_open(&s, path, NULL, &err), 0);
    assert_false(journal_is_doubtful(s.journal));
    side_close(&s);

    // The whole folder: a note beside it still knows.
    remove_tree(path);
    assert_int_equal(side_open(&s, path, NULL, &err), 0);
    assert_true(journal_is_doubtful(s.journal));
    side_close(&s);
    remove_tree(path);
    snprintf(file, sizeof file, "%s.sessions", path);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(side_open(&s, path, NULL, &err), 0);
    assert_false(journal_is_doubtful(s.journal));
    side_close(&s);
}

// A store with three sessions, of this boot or another one, closed or not.
static void make_store(struct buf *out, bool same_boot, bool closed)
{
    struct side s;
    struct error err;
    struct session_id id;
    char folder[96];
    new_folder(folder);
    assert_int_equal(side_open(&s, folder, NULL, &err), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask(&s, &id), POOL_GRANTED);
    assert_int_equal(journal_flush(s.journal), 0);
    if (same_boot) {
        if (closed)
            side_close(&s);
        read_file(folder, JOURNAL_FILE, out);
        if (!closed)
            side_close(&s);
        return;
    }
    uint64_t cursor = 0;
    buf_clear(out);
    pool_write_header(out);
    pool_write_origin(out, "00000000-0000-0000-0000-000000000000");
    pool_write_sessions(s.pool, &cursor, 10, out);
    if (closed)
        pool_write_mark(out, POOL_MARK_CLOSED);
    side_close(&s);
}

static int start_from(const void *data, size_t len, size_t *sessions, bool *doubtful)
{
    char folder[96];
    struct side s;
    struct error err = {{0}};
    new_folder(folder);
    write_file(folder, JOURNAL_LOCK, "x", 1);
    write_file(folder, JOURNAL_FILE, data, len);
    int r = side_open(&s, folder, NULL, &err);
    if (!r) {
        *sessions = pool_session_count(s.pool);
        *doubtful = journal_is_doubtful(s.journal);
        side_close(&s);
    } else {
        assert_int_equal(r, -EBADMSG);
        assert_non_null(strstr(err.text, "Put the file back as it was; or delete it"));
    }
    remove_tree(folder);
    return r;
}

static void test_boots(void **state)
{
    static const struct {
        bool same_boot, closed, doubtful;
    } cases[] = {
        {true, true, false}, {true, false, false}, {false, true, false}, {false, false, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf store = {0};
        size_t sessions = 0;
        bool doubtful = false;
        make_store(&store, cases[i].same_boot, cases[i].closed);
        assert_int_equal(start_from(store.data, store.len, &sessions, &doubtful), 0);
        assert_int_equal(sessions, 3);
        assert_int_equal(doubtful, cases[i].doubtful);
        // Bytes behind the last word are nobody's; behind the last record of a machine that died
        // they are natural; of a process, only if a record begins with them.
        buf_add(&store, "\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9);
        int r = start_from(store.data, store.len, &sessions, &doubtful);
        assert_int_equal(r, !cases[i].closed && !cases[i].same_boot ? 0 : -EBADMSG);
        buf_fini(&store);
    }
}

static void test_cut_off_and_altered(void **state)
{
    struct buf store = {0};
    size_t sessions = 0, before = 3;
    bool doubtful = false;
    make_store(&store, true, false);
    // Cut off at each byte of the records of sessions: as a death in mid-write. The first 61 bytes,
    // header and boot ID, are in place before there is a session.
    for (size_t len = store.len; len >= 61; len--) {
        assert_int_equal(start_from(store.data, len, &sessions, &doubtful), 0);
        assert_true(sessions <= before && !doubtful);
        before = sessions;
    }
    assert_int_equal(before, 0);
    for (size_t at = 61; at < store.len; at += 3) {
        store.data[at] ^= 0x10;
        int r = start_from(store.data, store.len, &sessions, &doubtful);
        // In the size of the last record it looks like a longer one that was cut off.
        assert_true(r == -EBADMSG || (sessions == 2 && at >= store.len - 120));
        store.data[at] ^= 0x10;
    }
    // Where the boot ID is damaged, it may have been another one: then nothing is sure.
    store.data[30] ^= 1;
    assert_int_equal(start_from(store.data, store.len, &sessions, &doubtful), 0);
    assert_true(doubtful);
    buf_fini(&store);
}

static void test_folders_that_do_not_serve(void **state)
{
    struct side s;
    struct error err;
    char folder[96], path[160];
    new_folder(folder);
    snprintf(path, sizeof path, "%s/a/b", folder);
    assert_int_equal(side_open(&s, path, NULL, &err), -ENOENT);
    assert_non_null(strstr(err.text, "sessions.state_dir"));
    write_file(folder, "file", "x", 1);
    snprintf(path, sizeof path, "%s/file", folder);
    assert_int_equal(side_open(&s, path, NULL, &err), -ENOTDIR);
    // A link in the place of a file is not followed: it would let others choose what is written.
    snprintf(path, sizeof path, "%s/" JOURNAL_FILE, folder);
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_int_equal(side_open(&s, folder, NULL, &err), -ELOOP);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(side_open(&s, folder, NULL, &err), -EISDIR);
    disk.calls = disk.fail_at = 0;
    for (unsigned at = 1; at <= 8; at++) { // a first start needs all of its calls
        new_folder(folder);
        disk.calls = 0;
        disk.fail_at = at;
        disk.fail_len = 1;
        disk.error = EROFS;
        assert_int_equal(side_open(&s, folder, &failing, &err), -EROFS);
        assert_non_null(strstr(err.text, "must be able to write"));
        disk.fail_at = 0;
        assert_int_equal(side_open(&s, folder, &failing, &err), 0);
        assert_int_equal(journal_is_doubtful(s.journal), false); // it still is the first start
        side_close(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_start_and_lost_state),
        cmocka_unit_test(test_boots),
        cmocka_unit_test(test_cut_off_and_altered),
        cmocka_unit_test(test_folders_that_do_not_serve),
    };
    return cmocka_run_group_tests_name("journal", tests, fixture_setup, fixture_teardown);
}
