// Every call that changes the disk fails, or is the last one of the process: the store can be
// read again, and what was written is there.
#include "services/borrow/store.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static int calls, fail_at;
static bool dead; // every later call fails as well, as if the process were gone

static bool faulty(void)
{
    int n = calls++;
    errno = EIO;
    return n == fail_at || (dead && n > fail_at && fail_at >= 0);
}

static int try_openat(int dir, const char *name, int flags, mode_t mode)
{
    return faulty() ? -1 : store_io_system.openat(dir, name, flags, mode);
}

static ssize_t try_write(int fd, const void *data, size_t len)
{
    size_t part = len > 1000 ? 1000 : len;
    if (!faulty())
        return store_io_system.write(fd, data, part);
    store_io_system.write(fd, data, part / 2);
    errno = ENOSPC;
    return -1;
}

static int try_fsync(int fd)
{
    return faulty() ? -1 : store_io_system.fsync(fd);
}

static int try_renameat(int dir, const char *from, const char *to)
{
    return faulty() ? -1 : store_io_system.renameat(dir, from, to);
}

static int try_unlinkat(int dir, const char *name)
{
    return faulty() ? -1 : store_io_system.unlinkat(dir, name);
}

static const struct store_io io = {try_openat, try_write, try_fsync, try_renameat, try_unlinkat};

static void fill(struct buf *b, int sequence)
{
    for (int i = 0; i < 400; i++)
        buf_printf(b, "%08d", sequence);
}

static int64_t judge(void *ctx, const struct buf *ledger, const struct buf *signature)
{
    struct buf want BUF_CLEANUP = {0};
    char first[9] = "";
    (void)ctx;
    if (ledger->len < 8 || ledger->len != signature->len ||
        memcmp(ledger->data, signature->data, ledger->len))
        return -1;
    memcpy(first, ledger->data, 8);
    int sequence = atoi(first);
    fill(&want, sequence);
    return want.len == ledger->len && !memcmp(want.data, ledger->data, want.len) ? sequence : -1;
}

static int put(struct store *s, int sequence)
{
    struct buf a BUF_CLEANUP = {0};
    fill(&a, sequence);
    return store_write(s, &a, &a, NULL);
}

static int64_t get(const char *dir, const struct store_io *with, int *result)
{
    struct store *s;
    struct buf ledger BUF_CLEANUP = {0}, signature BUF_CLEANUP = {0};
    assert_int_equal(store_new(&s, dir, with, NULL), 0);
    *result = store_load(s, judge, NULL, &ledger, &signature, NULL);
    store_free(&s);
    return *result ? -1 : judge(NULL, &ledger, &signature);
}

static void clean(const char *dir)
{
    static const char *const files[] = {STORE_LEDGER, STORE_SIGNATURE, STORE_LOCK,
                                        STORE_LEDGER ".next", STORE_SIGNATURE ".next",
                                        "borrowed.again"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
}

static void test_every_call_fails(void **state)
{
    char dir[] = "/tmp/berth-store-XXXXXX";
    int points = 0;
    assert_non_null(mkdtemp(dir));
    for (int mode = 0; mode < 2; mode++) {
        for (int at = 0, r = -1; r || at % 13; at++, points++) {
            struct store *s;
            int loaded;
            clean(dir);
            fail_at = -1, dead = mode;
            assert_int_equal(store_new(&s, dir, &io, NULL), 0);
            assert_int_equal(put(s, 1), 0);
            calls = 0, fail_at = at / 13;
            r = put(s, 2);
            store_free(&s);
            calls = 0, fail_at = at % 13; // the start that follows is cut off as well
            get(dir, &io, &loaded);
            int64_t got = get(dir, &store_io_system, &loaded);
            assert_int_equal(loaded, 0);
            assert_true(got == 2 || (r && got == 1));
            if (r < 0 && !mode)
                assert_int_equal(got, 1); // refused: nothing has changed
            assert_int_equal(get(dir, &store_io_system, &loaded), got);
        }
    }
    print_message("# %d points\n", points);
    assert_true(points > 20);
    clean(dir);
    rmdir(dir);
}

static void test_lock_links_and_absence(void **state)
{
    char dir[] = "/tmp/berth-store-XXXXXX", path[256];
    struct store *a, *b;
    struct stat st;
    int r;
    assert_non_null(mkdtemp(dir));
    get(dir, &store_io_system, &r);
    assert_int_equal(r, -ENOENT);
    assert_int_equal(store_new(&a, dir, &store_io_system, NULL), 0);
    assert_int_equal(store_new(&b, dir, &store_io_system, NULL), -EBUSY);
    assert_null(b);
    assert_int_equal(put(a, 1), 0);
    store_free(&a);
    snprintf(path, sizeof path, "%s/%s", dir, STORE_SIGNATURE);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(unlink(path), 0);
    get(dir, &store_io_system, &r);
    assert_int_equal(r, -EBADMSG); // one file alone
    assert_int_equal(symlink(STORE_LEDGER, path), 0);
    get(dir, &store_io_system, &r);
    assert_int_equal(r, -EBADMSG);
    clean(dir);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_fails),
        cmocka_unit_test(test_lock_links_and_absence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
