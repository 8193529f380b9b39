// Keeps the ledger and its signature file on disk so that there is no instant from which they
// cannot be read again (borrow.md, "Persistence"). Knows nothing of what is in them.
#pragma once

#include "common/core/buf.h"
#include "common/core/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STORE_LEDGER "borrowed.ledger"
#define STORE_SIGNATURE "borrowed.ledger.sig"
#define STORE_LOCK "borrowed.lock"

// The calls that change the disk, so that a test can make each of them fail.
struct store_io {
    int (*openat)(int dir, const char *name, int flags, mode_t mode);
    ssize_t (*write)(int fd, const void *data, size_t len);
    int (*fsync)(int fd);
    int (*renameat)(int dir, const char *from, const char *to);
    int (*unlinkat)(int dir, const char *name);
};
extern const struct store_io store_io_system;

// Whether any file of a ledger lies in the directory.
bool store_present(const char *directory);

struct store;
// Locks the directory: -EBUSY while another process has it. No file is touched but the lock.
int store_new(struct store **out, const char *directory, const struct store_io *io,
              struct error *err);
void store_free(struct store **store);

// The sequence number of a pair that belongs together, or -1.
typedef int64_t store_judge_fn(void *ctx, const struct buf *ledger, const struct buf *signature);

// Reads the newest good pair of those that a crash can leave, and finishes the write that was cut
// off. -ENOENT if there is none, nor was. -EBADMSG: no good pair; err is empty unless a file is
// missing, or something else is in its place. Other negative values: an I/O error.
int store_load(struct store *store, store_judge_fn *judge, void *ctx, struct buf *ledger,
               struct buf *signature, struct error *err);

// STORE_UNSURE: what is on disk is not known (a failed fsync), so the process must end; the next
// start finds the old pair or the new one.
enum { STORE_UNSURE = 1 };
// 0: on disk, survives a power cut. Negative: nothing has changed, the old pair stands.
int store_write(struct store *store, const struct buf *ledger, const struct buf *signature,
                struct error *err);
