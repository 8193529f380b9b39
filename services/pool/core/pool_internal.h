// What the files of the pool share.
#pragma once

#include "services/pool/core/catalog.h"
#include "services/pool/core/classes.h"
#include "services/pool/core/clients.h"
#include "services/pool/core/facts.h"
#include "services/pool/core/session_table.h"
#include "services/pool/core/tombs.h"

struct pool {
    struct pool_settings settings;
    struct siphash_key key;
    struct session_table sessions;
    struct catalog catalog;
    struct classes classes;
    struct tombs tombs;
    struct clients clients;
    uint64_t next_seq;
    struct mono_time mono; // the greatest seen
    struct mono_time hold; // no new session before
    struct buf *journal;
    struct pool_stats stats;
    char *shown_facts; // behind the strings of the last struct pool_session
};

// Brings everything that depends on the wall time to now, and holds the monotonic time. Every
// public function begins with it.
void pool_advance(struct pool *p, struct pool_now *now);

// ---- seats.c ----

// Adjusts the cut of [B5] and the free bit after a change of capacity or sessions.
void seats_update(struct pool *p, uint32_t license);
void seats_update_all(struct pool *p);
void seats_take(struct pool *p, uint32_t session);    // links it as the license's newest
void seats_release(struct pool *p, uint32_t session); // unlinks it
void seats_relink_all(struct pool *p);                // by seq, after a restore

// ---- sessions.c ----

uint64_t client_hash(const struct pool *p, const struct pool_client *client);
uint32_t key_hash(const struct pool *p, const char *instance_id, const char *feature);
// Ends it: seat, indexes, memory of the reason, journal, counters.
void session_end(struct pool *p, uint32_t n, enum pool_session_state reason);
// Ends sessions that are due, running slot included, until budget is used up. True: ended some.
bool sessions_sweep(struct pool *p, struct mono_time now, bool running, size_t *budget);
// Whether the session may go on: OK or the reason why not. Does not end it.
enum pool_session_state session_check(struct pool *p, uint32_t n, struct mono_time now);
void session_prolong(struct pool *p, uint32_t n, struct pool_now now);
uint32_t interval_s(const struct pool *p);
uint32_t wall_u32(struct wall_time t);
struct pool_license_ref license_ref(const struct license *l);

// ---- store.c ----

void journal_begin(struct pool *p, uint32_t n);
void journal_end(struct pool *p, const struct session_id *id, enum pool_session_state reason);
