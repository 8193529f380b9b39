// Shared by journal.c (writing) and journal_open.c (what is found at a start).
#pragma once

#include "services/pool/journal.h"

#include <pthread.h>

struct journal_file {
    int fd; // -1: none
    uint64_t size;
};

struct journal {
    const struct journal_io *io;
    struct loop *loop;
    struct pool *pool;
    void (*changed)(void *ctx, bool usable);
    void *ctx;
    uint64_t history_max, rewrite_above;
    int64_t pause_ms, interval_s;

    char *folder;
    int dir, lock;
    char boot_id[POOL_BOOT_ID_BYTES];
    bool doubtful;
    struct buf records;       // done by the pool, and not written yet
    struct journal_file file; // none: it cannot be written
    struct loop_timer step, sync_timer;
    uint64_t errors;

    // The file that will take its place; until then records go to both.
    struct journal_file next;
    uint64_t cursor;
    bool sync_next; // when the sync that is under way is done

    struct {
        bool running, of_next;
        pthread_t thread;
        int fd, result;
        struct loop_post done;
    } sync;
};

void journal_init(struct journal *j, const struct journal_options *options);
void journal_resume(struct journal *j, uint64_t good_len);
// 0 or -errno; then there is no next file any more.
int journal_rewrite_begin(struct journal *j);
int journal_rewrite_page(struct journal *j, bool *more);
int journal_rewrite_end(struct journal *j);
