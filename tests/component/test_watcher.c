// The watcher on a real file system: what appears, changes in the three ways of replacement, goes,
// and what must not be opened. Files count by their blocks' refusal, so that no keys are needed: a
// block signed with an unknown key is as visible as a good one.
#include "services/pool/watcher.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_S 3

// The loop runs on a thread of its own; what it saw last is told under the lock.
struct fixture {
    char folder[64], path[2][96];
    char *paths[2];
    struct loop *loop;
    struct watcher *watcher;
    pthread_t thread;
    struct loop_post start, stop;
    pthread_mutex_t lock;
    pthread_cond_t told;
    unsigned looks;
    unsigned records, lines, io; // of the last scan: how many records, and the sum of their lines
};

static void changed(void *ctx, const struct scan *scan)
{
    struct fixture *f = ctx;
    pthread_mutex_lock(&f->lock);
    f->looks++;
    f->records = f->lines = f->io = 0;
    for (size_t i = 0; i < scan->files_len; i++) {
        const struct license_set *set = scan->files[i].set;
        for (size_t j = 0; set && j < set->records_len; j++) {
            f->records++;
            f->lines += set->records[j].line;
            f->io += set->records[j].refusal == LICENSE_IO ||
                     set->records[j].refusal == LICENSE_TOO_LARGE;
        }
    }
    pthread_cond_signal(&f->told);
    pthread_mutex_unlock(&f->lock);
}

static void wait_for(struct fixture *f, unsigned records, unsigned lines)
{
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += DEADLINE_S;
    int r = 0;
    pthread_mutex_lock(&f->lock);
    while (!r && !(f->looks && f->records == records && f->lines == lines))
        r = pthread_cond_timedwait(&f->told, &f->lock, &deadline);
    pthread_mutex_unlock(&f->lock);
    if (r)
        print_message("records %u/%u, lines %u/%u\n", f->records, records, f->lines, lines);
    assert_int_equal(r, 0);
}

static void start_on_loop(void *ctx)
{
    struct fixture *f = ctx;
    const struct license_keys keys = {.server_id = "S-1"};
    watcher_set_keys(f->watcher, &keys);
}

static void stop_on_loop(void *ctx)
{
    struct fixture *f = ctx;
    loop_stop(f->loop);
}

static void *run(void *ctx)
{
    struct fixture *f = ctx;
    loop_run(f->loop);
    return NULL;
}

// A file with one block that begins at the given line.
static void write_at(const char *path, unsigned line)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (unsigned i = 1; i < line; i++)
        fputs("#\n", file);
    fputs("-----BEGIN LICENSE-----\nformat: 1\n-----END LICENSE-----\n", file);
    fclose(file);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    strcpy(f->folder, "/tmp/berth-test-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    assert_int_equal(chdir(f->folder), 0);
    assert_int_equal(mkdir("a", 0700), 0);
    snprintf(f->path[0], sizeof f->path[0], "%s/a", f->folder);
    strcpy(f->path[1], "b/c/"); // missing, relative
    f->paths[0] = f->path[0];
    f->paths[1] = f->path[1];
    assert_int_equal(loop_new(&f->loop), 0);
    assert_int_equal(watcher_new(&f->watcher, f->loop, f->paths, 2, NULL, changed, f), 0);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->told, NULL);
    f->start = (struct loop_post){.fn = start_on_loop, .ctx = f};
    f->stop = (struct loop_post){.fn = stop_on_loop, .ctx = f};
    assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    loop_post(f->loop, &f->stop);
    pthread_join(f->thread, NULL);
    watcher_free(&f->watcher);
    loop_free(&f->loop);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", f->folder);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static void start(struct fixture *f)
{
    loop_post(f->loop, &f->start);
}

static void test_create_rewrite_delete(void **state)
{
    struct fixture *f = *state;
    start(f);
    wait_for(f, 0, 0);
    write_at("a/license.dat", 1);
    wait_for(f, 1, 1);
    write_at("a/license.dat", 2);
    wait_for(f, 1, 2);
    write_at("a/license_x.dat", 10);
    wait_for(f, 2, 12);
    write_at("a/other.dat", 100);
    assert_int_equal(unlink("a/license.dat"), 0);
    wait_for(f, 1, 10);
}

static void test_there_at_start(void **state)
{
    struct fixture *f = *state;
    write_at("a/license.dat", 3);
    start(f);
    wait_for(f, 1, 3);
}

static void test_rename(void **state)
{
    struct fixture *f = *state;
    write_at("a/license.dat", 1);
    start(f);
    wait_for(f, 1, 1);
    for (unsigned i = 2; i < 5; i++) {
        write_at("a/.tmp", i);
        assert_int_equal(rename("a/.tmp", "a/license.dat"), 0);
        wait_for(f, 1, i);
    }
    assert_int_equal(rename("a/license.dat", "a/gone"), 0);
    wait_for(f, 0, 0);
}

// As the kubelet updates a volume: the visible names are links through ..data, which is swapped.
static void test_symlink_swap(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkdir("a/..1", 0700), 0);
    write_at("a/..1/license.dat", 1);
    assert_int_equal(symlink("..1", "a/..data"), 0);
    assert_int_equal(symlink("..data/license.dat", "a/license.dat"), 0);
    start(f);
    wait_for(f, 1, 1);
    assert_int_equal(mkdir("a/..2", 0700), 0);
    write_at("a/..2/license.dat", 2);
    assert_int_equal(symlink("..2", "a/..tmp"), 0);
    assert_int_equal(rename("a/..tmp", "a/..data"), 0);
    wait_for(f, 1, 2);
    write_at("a/..2/license.dat", 7); // written through the link's target
    wait_for(f, 1, 7);
}

static void test_search_path_is_swapped(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(rename("a", "v1"), 0);
    assert_int_equal(symlink("v1", "a"), 0);
    write_at("v1/license.dat", 1);
    start(f);
    wait_for(f, 1, 1);
    assert_int_equal(mkdir("v2", 0700), 0);
    write_at("v2/license.dat", 2);
    assert_int_equal(symlink("v2", "t"), 0);
    assert_int_equal(rename("t", "a"), 0);
    wait_for(f, 1, 2);
}

static void test_missing_folder_appears(void **state)
{
    struct fixture *f = *state;
    start(f);
    wait_for(f, 0, 0);
    assert_int_equal(mkdir("b", 0700), 0);
    assert_int_equal(mkdir("b/c", 0700), 0);
    write_at("b/c/license.dat", 4);
    wait_for(f, 1, 4);
    assert_int_equal(rename("b/c", "d"), 0);
    wait_for(f, 0, 0);
    assert_int_equal(rename("d", "b/c"), 0);
    wait_for(f, 1, 4);
}

static void test_hostile_files(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkfifo("a/license_fifo.dat", 0600), 0);
    assert_int_equal(mkdir("a/license_folder.dat", 0700), 0);
    assert_int_equal(symlink("license_loop.dat", "a/license_loop.dat"), 0);
    int fd = open("a/license_sparse.dat", O_CREAT | O_WRONLY, 0600);
    assert_int_equal(ftruncate(fd, 1 << 30), 0);
    close(fd);
    write_at("a/license.dat", 5);
    start(f);
    wait_for(f, 5, 5);
    assert_int_equal(f->io, 4);
    write_at("a/license.dat", 6);
    wait_for(f, 5, 6);
}

static void test_other_keys(void **state)
{
    struct fixture *f = *state;
    write_at("a/license.dat", 1);
    start(f);
    wait_for(f, 1, 1);
    pthread_mutex_lock(&f->lock);
    f->looks = 0;
    pthread_mutex_unlock(&f->lock);
    start(f);
    wait_for(f, 1, 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_create_rewrite_delete),
        T(test_there_at_start),
        T(test_rename),
        T(test_symlink_swap),
        T(test_search_path_is_swapped),
        T(test_missing_folder_appears),
        T(test_hostile_files),
        T(test_other_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
