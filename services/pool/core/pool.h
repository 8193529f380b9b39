// The licenses of this server, their seats, and the sessions that hold them (behaviour.md [L3],
// [P1] to [P6], [B5]; licenses.md "Which license counts" and "Matching"). Pure: times and random
// bytes are arguments, decisions are results; the shell answers, logs and stores.
//
// One owner thread. Strings in results point into the pool and hold until its next call that is not
// const; those of a struct pool_license_ref until pool_load. Memory failure aborts. Every call
// takes the time; `mono` must not run backwards (it is held at the greatest value seen if it does).
// `wall` may jump either way: validity and borrows follow it at the next call.
#pragma once

#include "common/core/buf.h"
#include "common/core/error.h"
#include "common/core/license_block.h"
#include "common/core/times.h"
#include "services/pool/core/match.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool;

struct pool_now {
    struct wall_time wall;
    struct mono_time mono;
};

#define SESSION_ID_BYTES 16
#define SESSION_ID_TEXT_BYTES 33 // 32 hex digits and NUL
struct session_id {
    uint8_t bytes[SESSION_ID_BYTES];
};
void session_id_format(const struct session_id *id, char out[static SESSION_ID_TEXT_BYTES]);
// 0, or -EINVAL: not exactly 32 lower-case hex digits.
int session_id_parse(const char *text, size_t len, struct session_id *out);

struct pool_settings {
    int64_t revalidation_interval_ms; // 1,000 … 86,400,000
    uint32_t max_per_client;          // 0: no limit
};

// key: 16 random bytes for the hash tables (what clients name themselves is hostile).
struct pool *pool_new(const struct pool_settings *settings, const uint8_t key[static 16]);
void pool_free(struct pool **p);
// Also at a reload. Sessions keep the deadline they have; a new interval counts from their next
// revalidation on. The limit hits new sessions only.
void pool_set_settings(struct pool *p, const struct pool_settings *settings);

// ---- Catalog ----

struct pool_record {
    const struct license_fields *fields;
    const uint8_t *signature; // 64 bytes: decides between equal issue times
    uint32_t tag;             // the caller's, e.g. which file; comes back in struct pool_license
    bool foreign;             // issued for another server: serves nothing, named as `server-id`
};

// Replaces the catalog by these records, in any order; everything is copied. Sessions stay with
// their (uuid, feature); what that means for them is decided at their next revalidation.
void pool_load(struct pool *p, const struct pool_record *records, size_t len, struct pool_now now);

// What a session got (LicenseRef in proto/types.proto).
struct pool_license_ref {
    const char *feature;
    const char *uuid;
    const char *version; // as written in the file
    enum edition edition;
    module_set modules;
};

enum pool_validity { POOL_VALID, POOL_EXPIRED, POOL_NOT_YET_VALID };

struct pool_borrow {
    struct wall_time from;
    struct wall_time until; // exclusive
    const char *host_id;
};

struct pool_license {
    struct pool_license_ref ref;
    uint32_t count;
    struct wall_time valid_from;  // WALL_MIN: unlimited
    struct wall_time valid_until; // WALL_MAX: unlimited
    struct wall_time issued;
    enum pool_validity validity;
    uint32_t borrowed;  // seats whose borrow covers now
    uint32_t live;      // sessions
    uint32_t available; // seats free now; 0 unless valid
    uint32_t tag;
    bool issue_tie;     // another record has the same identity and issue time: to be warned about
    size_t borrows_len; // current and future ones, see pool_license_borrow
};

// The catalog's licenses, one for each (uuid, feature), without foreign ones, sorted by feature and
// UUID; expired ones are among them. i < pool_license_count(). Listing all costs O(licenses).
size_t pool_license_count(struct pool *p, struct pool_now now);
void pool_license_at(struct pool *p, size_t i, struct pool_license *out);
// Finds one of them. False: there is none.
bool pool_license_find(struct pool *p, const char *uuid, const char *feature, struct pool_now now,
                       struct pool_license *out);
// The k-th of out->borrows_len.
void pool_license_borrow(struct pool *p, size_t i, size_t k, struct pool_borrow *out);

// ---- Borrows ----

struct pool_borrow_entry {
    const char *uuid;
    const char *feature;
    struct pool_borrow borrow;
    const char *borrow_id; // NULL: none, it replaces no other
};

// Replaces all borrows (of any license, in the catalog or not); copied. Ended ones need not be
// given.
void pool_set_borrows(struct pool *p, const struct pool_borrow_entry *entries, size_t len,
                      struct pool_now now);
// Adds one, or replaces the one of this license with the same ID. Its seat is taken as soon as its
// period covers now. Those of this license that ended more than a day ago are forgotten, by the
// hour. Costs O(those that have not ended).
void pool_add_borrow(struct pool *p, const struct pool_borrow_entry *entry, struct pool_now now);

// ---- Sessions ----

#define POOL_TEXT_MAX_BYTES 1024 // of each client string and the instance ID; longer is cut off

// NULL: not given. The address is the peer's.
struct pool_client {
    const char *hostname, *host_id, *user, *application, *pid, *address;
};

struct pool_request {
    const char *feature;
    struct match_terms terms; // edition: EDITION_STEADY or EDITION_PROGRESS
    const char *instance_id;  // NULL: none; then each request is a new one
    struct pool_client client;
};

enum pool_outcome {
    POOL_GRANTED,
    POOL_EXISTING,          // the session of this (instanceId, feature), prolonged
    POOL_NO_LICENSE,        // 1001
    POOL_NO_SEAT,           // 1002
    POOL_INSTANCE_CONFLICT, // -32602, field instanceId
    POOL_CLIENT_LIMIT,      // max_per_client is reached
};

#define POOL_CONSIDERED_MAX 32
struct pool_considered {
    const char *uuid;
    const char *feature;
    char reason[MATCH_REASON_BYTES];
};

struct pool_result {
    enum pool_outcome outcome;
    // POOL_GRANTED, POOL_EXISTING:
    struct session_id id;
    uint32_t revalidate_within_s;
    struct pool_license_ref license;
    // POOL_NO_LICENSE, POOL_NO_SEAT:
    struct pool_considered considered[POOL_CONSIDERED_MAX];
    size_t considered_len;
    uint32_t omitted;
    uint32_t retry_after_s; // POOL_NO_SEAT, POOL_CLIENT_LIMIT: 1 … interval
};

// random: the ID of the session if there will be a new one. An unlikely ID that is taken already
// aborts: then the random source is broken.
enum pool_outcome pool_request(struct pool *p, const struct pool_request *request,
                               struct session_id random, struct pool_now now,
                               struct pool_result *out);

// 1003's reasons; POOL_SESSION_OK is 0.
enum pool_session_state {
    POOL_SESSION_OK = 0,
    POOL_SESSION_UNKNOWN,
    POOL_SESSION_EXPIRED,
    POOL_SESSION_RETURNED,
    POOL_SESSION_ENDED,
    POOL_SESSION_DISPLACED,
    POOL_SESSION_LICENSE_EXPIRED,
    POOL_SESSION_LICENSE_WITHDRAWN,
    POOL_SESSION_STATES
};
const char *pool_session_state_name(enum pool_session_state s); // as in api.md; "ok" for OK

// OK: prolonged, *within_s is set. Otherwise the session is gone, and why. Reasons of ended
// sessions are remembered for a bounded number of them, then they are unknown.
enum pool_session_state pool_revalidate(struct pool *p, const struct session_id *id,
                                        struct pool_now now, uint32_t *within_s);
// OK: the seat is free. Otherwise there was none to return, and why.
enum pool_session_state pool_return(struct pool *p, const struct session_id *id,
                                    struct pool_now now);
// As pool_return, by an administrator: the client hears `ended`.
enum pool_session_state pool_end(struct pool *p, const struct session_id *id, struct pool_now now);

struct pool_session {
    struct session_id id;
    struct pool_license_ref license; // of a withdrawn license: as it was last
    struct match_terms requested;
    const char *instance_id; // NULL: none
    struct pool_client client;
    struct wall_time since, last_seen;
    struct wall_time expires; // for display: now + what is left on the monotonic clock
};

// False: no such session lives. The strings point to a buffer that the next call overwrites.
bool pool_session_get(struct pool *p, const struct session_id *id, struct pool_now now,
                      struct pool_session *out);
// Walks all sessions: *cursor is 0 at first and is advanced; false: no more. Survives changes in
// between: a session that lives during the whole walk comes exactly once. The cursor may come from
// a client; any value is safe.
bool pool_session_next(struct pool *p, uint64_t *cursor, struct pool_now now,
                       struct pool_session *out);
size_t pool_session_count(const struct pool *p);

// Frees the seats of expired sessions, looking at no more than about `budget` sessions. True: there
// is more to do now; call again after other work. (Nothing depends on its being called in time: an
// expired session is refused anyway, and a request without a seat frees the due ones first.)
bool pool_tick(struct pool *p, struct pool_now now, size_t budget);
// When pool_tick has something to do next, or a validity or borrow begins or ends; not before it is
// due, at most an hour ahead. MONO_NEVER: nothing.
struct mono_time pool_next_event(struct pool *p, struct pool_now now);

// Since pool_new; what was restored does not count.
struct pool_stats {
    uint64_t outcomes[POOL_CLIENT_LIMIT + 1]; // by enum pool_outcome
    uint64_t ended[POOL_SESSION_STATES];      // sessions that ended, by reason
    uint64_t refused[POOL_SESSION_STATES];    // revalidations and returns refused, by reason
    uint64_t revalidated;
    uint64_t denials[MATCH_REASONS]; // of the first license in `considered`
};
void pool_stats_get(const struct pool *p, struct pool_stats *out);

// ---- Keeping sessions over a restart [P6] ----
//
// A store is a sequence: one header, then records: sessions that began and ended, where it was
// written, and marks; each with a check sum. Records may be repeated and an end may come for a
// session that is not in it, so that a snapshot can be written in pages while new records are
// appended to the same file.

// From now on begun and ended sessions are appended to *journal (NULL: no more); the caller writes
// it out before it answers, and empties it. Not for revalidations: a restored session gets one
// interval.
void pool_set_journal(struct pool *p, struct buf *journal);
void pool_write_header(struct buf *out);
// Appends up to max sessions from *cursor (0 at first). False: that was all.
bool pool_write_sessions(struct pool *p, uint64_t *cursor, size_t max, struct buf *out);

// The boot of the machine on which the records behind this one are written (36 characters).
#define POOL_BOOT_ID_BYTES 37
void pool_write_origin(struct buf *out, const char *boot_id);
enum pool_mark {
    POOL_MARK_CLOSED = 1, // the last word: nothing is missing
    POOL_MARK_HOLDING,    // sessions may be missing: no new seat for an interval
    POOL_MARK_HELD,       // that interval is over
};
void pool_write_mark(struct buf *out, enum pool_mark mark);

struct pool_store_info {
    char boot_id[POOL_BOOT_ID_BYTES]; // of the last writer; "": unknown
    bool closed;                      // POOL_MARK_CLOSED was the last word
    bool holding;                     // POOL_MARK_HOLDING without POOL_MARK_HELD
    size_t good_len;                  // so far the records are whole; what follows is not used
    bool cut_off; // what follows is the beginning of a record, as a death in mid-write leaves it
};

// Reads a store, to be called once, after pool_load and pool_set_borrows or before, and before the
// first request. Sessions get one whole interval from `now`. Returns 0; or -EBADMSG with err: no
// header of ours, or a version that we do not know: nothing is restored.
int pool_restore(struct pool *p, const char *data, size_t len, struct pool_now now,
                 struct pool_store_info *info, struct error *err);
// All sessions get one whole interval from now: they could not be revalidated before.
void pool_prolong_all(struct pool *p, struct pool_now now);
// Gives no seat to a new session before `until`, whatever is free (0: no longer; MONO_NEVER: until
// further notice); sessions there are go on. Requests get POOL_NO_SEAT, and nothing is shown as
// available.
void pool_hold(struct pool *p, struct mono_time until);
