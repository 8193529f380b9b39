// What may be borrowed, and when (borrow.md, "Rules"). Pure: now is an argument.
#pragma once

#include "services/borrow/core/interval.h"

#define RULES_PAST_S 300 // a beginning this far back is taken as now

struct rules_limits {
    int64_t max_period_s, max_ahead_s;
    struct interval license, server; // WALL_MIN, WALL_MAX: unlimited
};

enum rules_outcome {
    RULES_OK = 0,
    RULES_FROM_PAST,     // "from-past": validFrom is earlier than RULES_PAST_S ago
    RULES_EMPTY,         // "period-empty": does not end after it begins
    RULES_TOO_LONG,      // "period-too-long"
    RULES_TOO_FAR,       // "too-far-ahead"
    RULES_LICENSE_FROM,  // "license-not-yet-valid"
    RULES_LICENSE_UNTIL, // "license-expires"
    RULES_SERVER_FROM,   // "server-license-not-yet-valid"
    RULES_SERVER_UNTIL,  // "server-license-expires"
    RULES_OUTCOMES
};
const char *rules_reason(enum rules_outcome outcome); // for error 1006; "" for RULES_OK

struct rules_ask {
    const char *uuid, *feature, *host_id; // host_id as hostid_parse writes it
    bool from_given;
    struct wall_time from; // if given
    struct wall_time until;
};

// Writes the period that would be borrowed; when refused, *limit is the earliest beginning or
// the latest end that this rule allows.
enum rules_outcome rules_check(const struct rules_ask *ask, const struct rules_limits *limits,
                               struct wall_time now, struct interval *period,
                               struct wall_time *limit);

// One that is held already.
struct rules_held {
    const char *uuid, *feature, *host_id;
    struct interval period;
};
// True if the ask is for that same borrow again (api.md, BorrowLicenseV1). To be asked before
// rules_check: a period that has begun since is still the same one.
bool rules_same(const struct rules_ask *ask, const struct rules_held *held, struct wall_time now);
