// May this server issue now? A pure state machine: it gets what checks of the server license found
// and what time it is, and says what the verdict is and when to check again (trust.md, "Cloud
// backend"). Grace is measured on mono_time, which nobody can set; dates need wall_time, which is
// compared with the backend's.
#pragma once

#include "common/core/times.h"

#include <stdbool.h>
#include <stdint.h>

#define VERDICT_GRACE_MAX_MS (4 * 3600 * 1000)
#define VERDICT_SKEW_WARN_S 300
#define VERDICT_SKEW_MAX_S (24 * 3600)

enum verdict_state { VERDICT_VALID, VERDICT_GRACE, VERDICT_INVALID };

struct verdict_config {
    int64_t grace_ms;          // taken as at most VERDICT_GRACE_MAX_MS
    int64_t check_interval_ms; // the longest time between two checks
    const char *lapse_reason;  // when the last check counts no longer; NULL: grace-over
    struct wall_time license_not_before, license_not_after;
};

enum verdict_check {
    CHECK_NONE, // none has ended yet
    CHECK_OK,
    CHECK_REFUSED, // a well-formed "no": it ends everything, without grace
    CHECK_FAILED,  // no answer that counts
};

// What one check found.
struct verdict_input {
    enum verdict_check check;
    const char *reason;         // CHECK_REFUSED: one of api.md's reasons of 1004, a constant
    uint32_t next_check_s;      // what the backend asks for; 0: it does not say
    bool date_known;            // the backend told the time
    struct wall_time date;      // then: what it was
    uint32_t random;            // uniform: spreads the retries of many servers
};

struct verdict_core {
    struct verdict_config config;
    enum verdict_check last;   // CHECK_FAILED is never stored: see failures
    const char *refused_reason;
    struct mono_time last_ok;  // of the last CHECK_OK
    unsigned failures;         // checks failed since the last answer that counted
    bool date_known;
    struct wall_time date;     // the backend's clock ...
    struct mono_time date_at;  // ... at this moment
    struct mono_time next_check;
    struct wall_time mark; // a time that is over for sure (clock_mark.h)
};

struct verdict_view {
    enum verdict_state state;
    const char *reason;          // "" unless invalid; a constant
    int64_t grace_left_ms;       // in VERDICT_GRACE
    bool skew_known;
    int64_t skew_s;              // our clock minus the backend's
    struct mono_time changes_at; // when this may change by time alone, on mono_time; or MONO_NEVER
};

void verdict_init(struct verdict_core *v, const struct verdict_config *config,
                  struct mono_time now);
// A check has ended at `now`. Sets next_check.
void verdict_apply(struct verdict_core *v, const struct verdict_input *in, struct mono_time now);
// A renewed server license.
void verdict_license(struct verdict_core *v, struct wall_time not_before,
                     struct wall_time not_after);
// What is known to be over: counts while no backend tells the time.
void verdict_mark(struct verdict_core *v, struct wall_time mark);
// Another configuration; the next check comes no later than it allows.
void verdict_configure(struct verdict_core *v, int64_t grace_ms, int64_t check_interval_ms,
                       struct mono_time now);
struct verdict_view verdict_view(const struct verdict_core *v, struct mono_time now,
                                 struct wall_time wall);
const char *verdict_state_name(enum verdict_state state); // "valid", "grace", "invalid"
