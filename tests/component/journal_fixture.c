#include "tests/component/journal_fixture.h"

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

static char root[64];
struct loop *loop;
static unsigned images;

// ---- a pool with one license, and its journal ----

struct pool_now now(void)
{
    return (struct pool_now){{1000}, clock_mono()};
}

static void on_changed(void *ctx, bool usable)
{
    struct side *s = ctx;
    s->usable = usable;
    pool_hold(s->pool, usable ? (struct mono_time){0} : MONO_NEVER);
}

int side_open(struct side *s, const char *folder, const struct journal_io *io, struct error *err)
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

void side_close(struct side *s)
{
    journal_free(&s->journal);
    pool_free(&s->pool);
}

enum pool_outcome ask(struct side *s, struct session_id *id)
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

bool lives(struct side *s, const struct session_id *id)
{
    struct pool_session session;
    return pool_session_get(s->pool, id, now(), &session);
}

static void stop_loop(void *ctx)
{
    (void)ctx;
    loop_stop(loop);
}

void run_ms(int64_t ms)
{
    struct loop_timer pause;
    loop_timer_init(&pause, stop_loop, NULL);
    loop_timer_arm(loop, &pause, mono_after(clock_mono(), ms));
    assert_int_equal(loop_run(loop), 0);
}

// ---- folders ----

void new_folder(char out[static 96])
{
    snprintf(out, 96, "%s/%u", root, images++);
    assert_int_equal(mkdir(out, 0700), 0);
}

void read_file(const char *folder, const char *name, struct buf *out)
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

void write_file(const char *folder, const char *name, const void *data, size_t len)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    fclose(f);
}

void take_image(const char *folder, char out[static 96])
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

void remove_tree(const char *folder)
{
    assert_int_equal(nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

// ---- a disk that fails ----

struct failing_disk disk;

static bool disk_fails(void)
{
    unsigned n = atomic_fetch_add(&disk.calls, 1) + 1;
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

const struct journal_io failing = {try_openat, try_pwrite, try_ftruncate, try_fdatasync,
                                   try_renameat};

// ---- life of the suite ----

int fixture_setup(void **state)
{
    strcpy(root, "/tmp/berth-journal-XXXXXX");
    return mkdtemp(root) && !loop_new(&loop) ? 0 : -1;
}

int fixture_teardown(void **state)
{
    remove_tree(root);
    loop_free(&loop);
    return 0;
}
