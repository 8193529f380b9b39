// The licenses by identity (uuid, feature): their records, which one is in force, their borrows and
// seats. Licenses are numbered; a number stays while anything refers to it.
#pragma once

#include "services/pool/core/pool.h"
#include "services/pool/core/siphash.h"

#define LICENSE_NONE UINT32_MAX

struct license_record {
    struct match_terms terms;
    char version_text[24];
    uint32_t count;
    uint32_t tag;
    struct wall_time issued, valid_from, valid_until;
    bool issue_tie;
};

struct license_borrow {
    struct wall_time from, until;
    char *host_id;         // and behind its NUL:
    const char *borrow_id; // NULL: none
    uint32_t id_mark;      // of the ID: most others are told apart without looking at theirs
    uint64_t told;         // later ones have greater numbers
};

struct license {
    char uuid[37];
    char feature[LICENSE_FEATURE_MAX + 1];
    bool foreign;                   // records are for another server: it serves nothing
    bool ever_loaded;               // last_terms are of a record
    struct license_record *records; // newest first
    uint32_t records_len;           // 0: withdrawn, or known by a borrow or a session only
    uint32_t in_force;              // of records
    enum pool_validity validity;    // of the one in force
    struct match_terms last_terms;  // of the record that was in force last
    char last_version_text[24];
    uint32_t epoch; // changes with last_terms

    struct license_borrow *borrows; // first those that have ended, then by (from, until, host)
    size_t borrows_len, borrows_cap;
    size_t ended_len;
    struct wall_time ended_at, ended_first; // they had ended at; the first end of them
    uint32_t borrowed;                      // cover now

    uint32_t capacity; // count - borrowed, at least 0; as it was last if withdrawn
    // Sessions, oldest first. cut is the first with `capacity` or more older ones ([B5]): it and
    // all behind it are displaced at their revalidation. Before cut there are min(live, capacity).
    uint32_t live, before_cut;
    uint32_t head, tail, cut;
    uint64_t cut_seq; // UINT64_MAX: no cut

    uint32_t class_number, member; // its place in the classes (classes.h); LICENSE_NONE: in none
    uint32_t hash_next;
};

struct catalog {
    struct license **licenses; // a number may be free: NULL
    uint32_t len, cap;
    uint32_t *buckets; // by identity
    uint32_t buckets_len;
    uint32_t *listed; // with records of this server, by (feature, uuid)
    uint32_t listed_len;
    uint32_t *all; // with records, foreign ones too, by (feature, uuid)
    uint32_t all_len;
    struct siphash_key key;
    // What is computed for `at` holds from then until `next`.
    struct wall_time at, next;
    uint64_t told; // borrows so far
};

void catalog_init(struct catalog *c, const struct siphash_key *key);
void catalog_fini(struct catalog *c);
static inline struct license *catalog_at(const struct catalog *c, uint32_t n)
{
    return c->licenses[n];
}
uint32_t catalog_find(const struct catalog *c, const char *uuid, const char *feature);
// Finds it, or makes one without records.
uint32_t catalog_need(struct catalog *c, const char *uuid, const char *feature);

// Replaces all records. Licenses that nothing refers to any more are freed. Then catalog_refresh.
void catalog_load(struct catalog *c, const struct pool_record *records, size_t len);
// Brings validity, the record in force, borrowed and capacity of all licenses to `now`. True: what
// is in force or valid has changed, so that the classes must be built anew.
bool catalog_refresh(struct catalog *c, struct wall_time now);
static inline bool catalog_is_current(const struct catalog *c, struct wall_time now)
{
    return now.s >= c->at.s && now.s < c->next.s;
}
// Something changes at t, unless that has been.
static inline void catalog_note_change(struct catalog *c, struct wall_time t, struct wall_time now)
{
    if (t.s > now.s && t.s < c->next.s)
        c->next = t;
}
static inline const struct license_record *license_in_force(const struct license *l)
{
    return &l->records[l->in_force];
}

// catalog_borrows.c
void catalog_clear_borrows(struct catalog *c);
// Replaces the one of this license with the same ID, if there is one.
void catalog_add_borrow(struct catalog *c, const struct pool_borrow_entry *entry);
// Those of the license that ended before `before`; not always at once.
void catalog_forget_borrows(struct catalog *c, const char *uuid, const char *feature,
                            struct wall_time before);
void license_clear_borrows(struct license *l);
// Which have ended at now, and how many cover it.
void license_refresh_borrows(struct catalog *c, struct license *l, struct wall_time now);
