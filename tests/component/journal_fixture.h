// A pool with one license and its journal, folders for it, and a disk that fails when it is told
// to.
#pragma once

#include "common/clock.h"
#include "services/pool/journal.h"

#include <stdatomic.h>

#define SEATS 60
#define INTERVAL_MS 60000

extern struct loop *loop;
int fixture_setup(void **state); // of the group
int fixture_teardown(void **state);

struct side {
    struct pool *pool;
    struct journal *journal;
    bool usable; // as the journal said
};
struct pool_now now(void);
// 0 or what journal_open said. A refused side is empty.
int side_open(struct side *s, const char *folder, const struct journal_io *io, struct error *err);
void side_close(struct side *s);
enum pool_outcome ask(struct side *s, struct session_id *id);
bool lives(struct side *s, const struct session_id *id);
void run_ms(int64_t ms); // the loop

void new_folder(char out[static 96]);
void remove_tree(const char *folder);
void read_file(const char *folder, const char *name, struct buf *out);
void write_file(const char *folder, const char *name, const void *data, size_t len);
// What a death of the process leaves behind, in a folder of its own.
void take_image(const char *folder, char out[static 96]);

// The calls from fail_at on (0: none) fail with error, fail_len of them.
extern struct failing_disk {
    atomic_uint calls, fail_at, fail_len; // syncs happen on a thread
    atomic_int error;
} disk;
extern const struct journal_io failing;
