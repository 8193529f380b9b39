// Pool's file of sessions alone, for power_cut.py. Session n begins in turn n and ends in turn n
// + 5.
//   journal_rig write DIR FIRST COUNT        turns; after each that was answered 2 * its number
//   journal_rig close DIR FIRST COUNT        the same, and an orderly end: 2 * the last number + 1
//   journal_rig careless DIR FIRST COUNT     as write, with a journal that does not sync: the
//   control journal_rig read DIR                     "sure" or "doubtful", and the sessions that
//   live
#include "common/clock.h"
#include "common/log.h"
#include "services/pool/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIVE 5
#define HISTORY_BYTES 1500 // so that the file is written anew again and again
#define PAUSE_MS 15

static struct loop *loop;
static struct pool *pool;

static struct pool_now now(void)
{
    return (struct pool_now){{1000}, clock_mono()};
}

static void on_changed(void *ctx, bool usable)
{
    fprintf(stderr, "%s\n", usable ? "usable" : "not usable");
    exit(3);
}

static int careless_fdatasync(int fd)
{
    return 0;
}

static struct session_id id_of(unsigned n)
{
    struct session_id id = {{0}};
    memcpy(id.bytes, &n, sizeof n);
    return id;
}

static void stop_loop(void *ctx)
{
    loop_stop(loop);
}

static int turn(struct journal *journal, unsigned n)
{
    const struct pool_request request = {"F", {{{1}}, EDITION_STEADY, 0}, NULL, {.host_id = "h"}};
    struct pool_result result;
    struct session_id over = id_of(n - LIVE);
    if (pool_request(pool, &request, id_of(n), now(), &result) != POOL_GRANTED)
        return 1;
    if (n > LIVE)
        pool_return(pool, &over, now()); // of an earlier process: the file has it
    if (journal_flush(journal))
        return 1;
    printf("%u\n", 2 * n);
    fflush(stdout);
    struct loop_timer timer;
    loop_timer_init(&timer, stop_loop, NULL);
    loop_timer_arm(loop, &timer, mono_after(clock_mono(), 3));
    return loop_run(loop);
}

static int read_back(const struct journal *journal)
{
    uint64_t cursor = 0;
    struct pool_session session;
    printf("%s", journal_is_doubtful(journal) ? "doubtful" : "sure");
    while (pool_session_next(pool, &cursor, now(), &session)) {
        unsigned n;
        memcpy(&n, session.id.bytes, sizeof n);
        printf(" %u", n);
    }
    puts("");
    return 0;
}

static void make_pool(void)
{
    static const uint8_t key[16] = "0123456789abcdef", signature[64];
    const struct license_fields f = {.uuid = "11111111-1111-4111-8111-111111111111",
                                     .feature = "F",
                                     .version = {{1}},
                                     .edition = EDITION_STEADY,
                                     .count = 1000,
                                     .valid_from = WALL_MIN,
                                     .valid_until = WALL_MAX};
    pool = pool_new(&(struct pool_settings){3600000, 0}, key);
    pool_load(pool, &(struct pool_record){&f, signature, 0, false}, 1, now());
}

int main(int argc, char **argv)
{
    struct journal_io careless = journal_io_system;
    struct journal *journal;
    struct error err;
    careless.fdatasync = careless_fdatasync;
    if (argc < 3 || loop_new(&loop))
        return 2;
    make_pool();
    const struct journal_options options = {
        .loop = loop,
        .pool = pool,
        .folder = argv[2],
        .history_max_bytes = HISTORY_BYTES,
        .pause_ms = PAUSE_MS,
        .io = strcmp(argv[1], "careless") ? NULL : &careless,
        .changed = on_changed,
    };
    if (log_init("rig", LOG_ERROR, LOG_TEXT, "/dev/null") ||
        journal_open(&journal, &options, now(), &err)) {
        printf("%s\n", err.text);
        return 1;
    }
    if (!strcmp(argv[1], "read"))
        return read_back(journal);
    journal_settle(journal);
    unsigned first = (unsigned)atoi(argv[3]), last = first + (unsigned)atoi(argv[4]) - 1;
    int r = 0;
    for (unsigned n = first; n <= last && !r; n++)
        r = turn(journal, n);
    if (r || strcmp(argv[1], "close"))
        _exit(r); // dies
    journal_free(&journal);
    printf("%u\n", 2 * last + 1);
    return 0;
}
