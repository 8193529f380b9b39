// A model of the pool that keeps plain arrays and looks at everything each time, written from the
// design and not from the code that it is compared with.
#pragma once

#include "services/pool/core/pool.h"

#define RECORDS_MAX 14
#define BORROWS_MAX 12
#define BORROW_IDS 4
#define SESSIONS_MAX 40000
#define INSTANCES 12
#define FEATURES 2
#define UUIDS 4

struct model_session {
    struct session_id id;
    int license; // uuid * FEATURES + feature
    struct match_terms terms;
    int instance, host;
    int64_t expires_ms;
    enum pool_session_state state; // OK: live
    bool forgotten;                // by the next process
};

struct model {
    struct license_fields records[RECORDS_MAX];
    uint8_t signatures[RECORDS_MAX][64];
    bool foreign[RECORDS_MAX];
    size_t records_len;
    struct {
        int license;
        struct wall_time from, until;
        int id; // of no other of the license
    } borrows[BORROWS_MAX];
    size_t borrows_len;
    struct model_session *sessions; // oldest first
    size_t sessions_len, first_live;
    int64_t interval_ms;
    uint32_t max_per_client;
    struct pool_now now;
};

extern const char *const model_features[FEATURES + 1]; // the last one has no licenses
extern const char *const model_uuids[UUIDS];

int license_of(const struct license_fields *f);
// The record in force, or -1: withdrawn.
int model_record(const struct model *m, int license);
uint32_t model_borrowed(const struct model *m, int license);
bool model_live(const struct model *m, const struct model_session *s);
// Sessions that live among the oldest `end`.
uint32_t model_live_before(const struct model *m, int license, size_t end);
// What a revalidation of the at-th session says.
enum pool_session_state model_check(const struct model *m, size_t at);
// *license: the chosen one; *existing: the session of this instance.
enum pool_outcome model_request(struct model *m, int feature, const struct match_terms *terms,
                                int instance, int host, int *license, size_t *existing);
