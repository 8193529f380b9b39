// The live sessions: storage in chunks that never move, two indexes that grow one bucket at a time
// (so that no call waits for a rehash), and a timer wheel. Knows nothing about licenses.
#pragma once

#include "services/pool/core/pool.h"
#include "services/pool/core/siphash.h"

#define SESSION_NONE UINT32_MAX

// Numbers of sessions link them instead of pointers: half the size.
struct session {
    struct session_id id;
    int64_t expires_ms; // monotonic
    uint64_t seq;       // order of the grants, over restarts too
    char *facts;        // what the client said, see facts.h
    uint32_t since_s, last_seen_s;
    uint32_t license;       // number in the catalog
    uint32_t license_epoch; // of the license's terms when the session was last found to fit them
    uint32_t license_prev, license_next; // sessions of the license, oldest first
    uint32_t id_next;
    uint32_t key_hash, key_next; // of (instanceId, feature)
    uint32_t wheel_prev, wheel_next;
    uint16_t wheel_slot;
    bool live;
    bool has_key;
};

// Buckets double from one power of two to the next one by one (linear hashing).
struct session_index {
    uint32_t **segments;
    uint32_t buckets, low_mask, count;
};

// Slots of 64 ms; a session due later than the wheel reaches waits in its last slot and is filed
// again. A revalidation only moves `expires_ms`: a session is filed again when its slot comes up.
#define WHEEL_SLOT_SHIFT 6
#define WHEEL_SLOTS 16384
struct session_wheel {
    uint32_t *heads;
    uint64_t filled[WHEEL_SLOTS / 64];
    int64_t slot; // absolute number; everything before it is done
    // The look through the running slot: what lies before scan_at is not due before scanned_due_ms.
    int64_t scanned_slot, scanned_due_ms;
    uint32_t scan_at;
};

struct session_table {
    struct session **chunks;
    uint32_t chunks_len;
    uint32_t used;      // session numbers given out so far
    uint32_t free_head; // linked by id_next
    uint32_t live;
    struct session_index by_id, by_key;
    struct session_wheel wheel;
};

void session_table_init(struct session_table *t);
void session_table_fini(struct session_table *t); // frees facts too

#define SESSION_CHUNK_SHIFT 12
static inline struct session *session_at(const struct session_table *t, uint32_t n)
{
    return &t->chunks[n >> SESSION_CHUNK_SHIFT][n & ((1u << SESSION_CHUNK_SHIFT) - 1)];
}

// A zeroed session, indexed by id (and key_hash if has_key); not on the wheel yet.
uint32_t session_add(struct session_table *t, const struct session_id *id, bool has_key,
                     uint32_t key_hash);
// Takes it off the indexes and the wheel and frees facts; the number may be given out again.
void session_remove(struct session_table *t, uint32_t n);
uint32_t session_find(const struct session_table *t, const struct session_id *id);
// The first session with this key hash behind `after` (SESSION_NONE: from the beginning).
uint32_t session_find_key(const struct session_table *t, uint32_t key_hash, uint32_t after);

void wheel_file(struct session_table *t, uint32_t n);   // by its expires_ms
void wheel_refile(struct session_table *t, uint32_t n); // after it was set to an earlier moment
// The next session that is due at now, or SESSION_NONE. Looks at sessions that were prolonged and
// files them again; each look costs one of *budget. *budget == 0: there may be more.
// running: looks into the slot that is not over yet, too.
uint32_t wheel_next_due(struct session_table *t, struct mono_time now, bool running,
                        size_t *budget);
// A lower bound of the next moment at which something is due or must be filed again.
struct mono_time wheel_next_ms(const struct session_table *t);
