// Pool's sessions on disk [P6]: a file of records that only grows, and is written anew in the
// background when most of it is history. What a turn of the loop changed is written by one call
// before the answers leave; a death of the process loses nothing that was answered. A death of the
// machine may lose what was written last (it is synced once a second, on a thread): that is
// recognised by the boot ID, and no new seat is given out until every session that may be missing
// has run out. docs/decisions.md, "Sessions on disk".
#pragma once

#include "common/loop.h"
#include "services/pool/core/pool.h"

#include <sys/types.h>

#define JOURNAL_FILE "sessions"
#define JOURNAL_NEXT "sessions.next"
#define JOURNAL_LOCK "sessions.lock"

// The calls that change the disk, so that a test can make each of them fail.
struct journal_io {
    int (*openat)(int dir, const char *name, int flags, mode_t mode);
    ssize_t (*pwrite)(int fd, const void *data, size_t len, off_t at);
    int (*ftruncate)(int fd, off_t len);
    int (*fdatasync)(int fd); // on a thread of its own, too
    int (*renameat)(int from_dir, const char *from, int to_dir, const char *to);
};
extern const struct journal_io journal_io_system;

struct journal_options {
    struct loop *loop;
    struct pool *pool;
    const char *folder;          // made if it is not there
    uint64_t history_max_bytes;  // of the file, before it is written anew; 0: 32 MiB
    int64_t pause_ms;            // between syncs, and before a disk is tried again; 0: 1,000
    int64_t interval_s;          // for what the messages say
    const struct journal_io *io; // NULL: the system's
    // The disk cannot be written any more (usable false: no session may begin), or again.
    void (*changed)(void *ctx, bool usable);
    void *ctx;
};

struct journal;

// Takes the folder for this process, restores the pool's sessions from it, and records what the
// pool does from now on. 0; or -errno with err, which says what to do: the folder is in use, cannot
// be written, or its file was altered. A full disk is no such error: changed(false) follows.
int journal_open(struct journal **out, const struct journal_options *options, struct pool_now now,
                 struct error *err);
// Ends it in order: a later start knows that nothing is missing.
void journal_free(struct journal **journal);

// Sessions may be missing in what was restored: whoever they belong to may still run.
bool journal_is_doubtful(const struct journal *journal);
// An interval has passed without a new session: nothing can be missing any more.
void journal_settle(struct journal *journal);

// Writes what the pool did since the last call. 0: the process may die now, it is on disk.
// Negative: it is not, changed(false) was called.
int journal_flush(struct journal *journal);

uint64_t journal_bytes(const struct journal *journal);
uint64_t journal_errors(const struct journal *journal);
