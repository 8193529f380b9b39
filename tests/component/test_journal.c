// Pool's sessions on disk: what was answered is found again whenever the process dies, whatever
// call to the disk fails; what a start finds, and what it makes of it.
#include "common/clock.h"
#include "services/pool/journal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEATS 60
#define INTERVAL_MS 60000
#define IDS_MAX 20000

static char root[64];
static struct loop *loop;
static unsigned images;

// ---- a pool with one license, and its journal ----

struct side {
    struct pool *pool;
    struct journal *journal;
    bool usable;
};

static struct pool_now now(void)
{
    return (struct pool_now){{1000}, clock_mono()};
}

static void on_changed(void *ctx, bool usable)
{
    struct side *s = ctx;
    s->usable = usable;
    pool_hold(s->pool, usable ? (struct mono_time){0} : MONO_NEVER);
}

// 0 or what journal_open said. A refused side is empty.
static int side_open(struct side *s, const char *folder, const struct journal_io *io,
                     struct error *err)
{
    static const uint8_t key[16] = "0123456789abcdef", signature[64];
    struct license_fields f = {.uuid = "11111111-1111-4111-8111-111111111111",
                               .feature = "F",
                               .version = {{24, 11}},
                               .version_text = "24.11",
                               .edition = EDITION_STEADY,
                               .count = SEATS,
                               .valid_from = WALL_MIN,
                               .valid_until = WALL_MAX};
    *s = (struct side){.usable = true};
    s->pool = pool_new(&(struct pool_settings){INTERVAL_MS, 0}, key);
    pool_load(s->pool, &(struct pool_record){&f, signature, 0, false}, 1, now());
    const struct journal_options options = {.loop = loop,
                                            .pool = s->pool,
                                            .folder = folder,
                                            .history_max_bytes = 500,
                                            .pause_ms = 5,
                                            .interval_s = INTERVAL_MS / 1000,
                                            .io = io,
                                            .changed = on_changed,
                                            .ctx = s};
    int r = journal_open(&s->journal, &options, now(), err);
    if (r)
        pool_free(&s->pool);
    return r;
}

static void side_close(struct side *s)
{
    journal_free(&s->journal);
    pool_free(&s->pool);
}

static enum pool_outcome ask(struct side *s, struct session_id *id)
{
    static uint64_t counter = 1;
    struct pool_request request = {"F", {{{24, 11}}, EDITION_STEADY, 0}, NULL, {.host_id = "h"}};
    struct pool_result result;
    struct session_id random = {{0}};
    memcpy(random.bytes, &counter, sizeof counter);
    counter++;
    enum pool_outcome outcome = pool_request(s->pool, &request, random, now(), &result);
    *id = result.id;
    return outcome;
}

static bool lives(struct side *s, const struct session_id *id)
{
    struct pool_session session;
    return pool_session_get(s->pool, id, now(), &session);
}

static void stop_loop(void *ctx)
{
    (void)ctx;
    loop_stop(loop);
}

static void run_ms(int64_t ms)
{
    struct loop_timer pause;
    loop_timer_init(&pause, stop_loop, NULL);
    loop_timer_arm(loop, &pause, mono_after(clock_mono(), ms));
    assert_int_equal(loop_run(loop), 0);
}

// ---- folders ----

static void new_folder(char out[static 96])
{
    snprintf(out, 96, "%s/%u", root, images++);
    assert_int_equal(mkdir(out, 0700), 0);
}

static void read_file(const char *folder, const char *name, struct buf *out)
{
    char path[160], block[65536];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "r");
    size_t n;
    buf_clear(out);
    while (f && (n = fread(block, 1, sizeof block, f)) > 0)
        buf_add(out, block, n);
    if (f)
        fclose(f);
}

static void write_file(const char *folder, const char *name, const void *data, size_t len)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    fclose(f);
}

// What a death of the process leaves behind, in a folder of its own.
static void take_image(const char *folder, char out[static 96])
{
    static const char *const names[] = {JOURNAL_FILE, JOURNAL_NEXT, JOURNAL_LOCK};
    struct buf data = {0};
    new_folder(out);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[160];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (access(path, F_OK))
            continue;
        read_file(folder, names[i], &data);
        write_file(out, names[i], data.data ? data.data : "", data.len);
    }
    buf_fini(&data);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st, (void)type, (void)where;
    return remove(path);
}

static void remove_tree(const char *folder)
{
    assert_int_equal(nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

// ---- a disk that fails ----

static struct {
    unsigned calls, fail_at; // 0: never
    unsigned fail_len;       // how many calls fail from there on
    int error;
} disk;

static bool disk_fails(void)
{
    unsigned n = __atomic_add_fetch(&disk.calls, 1, __ATOMIC_SEQ_CST);
    if (!disk.fail_at || n < disk.fail_at || n >= disk.fail_at + disk.fail_len)
        return false;
    errno = disk.error;
    return true;
}

static int try_openat(int dir, const char *name, int flags, mode_t mode)
{
    return disk_fails() ? -1 : openat(dir, name, flags, mode);
}

static ssize_t try_pwrite(int fd, const void *data, size_t len, off_t at)
{
    if (!disk_fails())
        return pwrite(fd, data, len, at);
    if (len > 1 && disk.error == ENOSPC) // a full disk takes what still fits
        (void)!pwrite(fd, data, len / 2, at);
    errno = disk.error;
    return -1;
}

static int try_ftruncate(int fd, off_t len)
{
    return disk_fails() ? -1 : ftruncate(fd, len);
}

static int try_fdatasync(int fd)
{
    return disk_fails() ? -1 : 0;
}

static int try_renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return disk_fails() ? -1 : renameat(from_dir, from, to_dir, to);
}

static const struct journal_io failing = {try_openat, try_pwrite, try_ftruncate, try_fdatasync,
                                          try_renameat};

// ---- random work, deaths and faults ----

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
    memset(&disk, 0, sizeof disk);
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

// ---- what a start finds ----

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
    memset(&disk, 0, sizeof disk);
    for (unsigned at = 1; at < 7; at++) { // a first start needs all of the first six calls
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

// ---- life of the suite ----

static int setup(void **state)
{
    strcpy(root, "/tmp/berth-journal-XXXXXX");
    return mkdtemp(root) && !loop_new(&loop) ? 0 : -1;
}

static int teardown(void **state)
{
    remove_tree(root);
    loop_free(&loop);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_start_and_lost_state),
        cmocka_unit_test(test_boots),
        cmocka_unit_test(test_cut_off_and_altered),
        cmocka_unit_test(test_folders_that_do_not_serve),
        cmocka_unit_test(test_random_deaths),
        cmocka_unit_test(test_random_faults),
    };
    return cmocka_run_group_tests_name("journal", tests, setup, teardown);
}
