#include "services/borrow/core/rules.h"

#include <string.h>

const char *rules_reason(enum rules_outcome outcome)
{
    static const char *const reasons[RULES_OUTCOMES] = {
        [RULES_OK] = "",
        [RULES_FROM_PAST] = "from-past",
        [RULES_EMPTY] = "period-empty",
        [RULES_TOO_LONG] = "period-too-long",
        [RULES_TOO_FAR] = "too-far-ahead",
        [RULES_LICENSE_FROM] = "license-not-yet-valid",
        [RULES_LICENSE_UNTIL] = "license-expires",
        [RULES_SERVER_FROM] = "server-license-not-yet-valid",
        [RULES_SERVER_UNTIL] = "server-license-expires",
    };
    return outcome < RULES_OUTCOMES ? reasons[outcome] : "";
}

enum rules_outcome rules_check(const struct rules_ask *ask, const struct rules_limits *limits,
                               struct wall_time now, struct interval *period,
                               struct wall_time *limit)
{
    *limit = now;
    *period = (struct interval){ask->from_given ? ask->from : now, ask->until};
    if (period->from.s < now.s - RULES_PAST_S)
        return RULES_FROM_PAST;
    if (period->from.s < now.s)
        period->from = now;
    *limit = period->from;
    if (period->until.s <= period->from.s)
        return RULES_EMPTY;
    // The end of a period that begins at most so far ahead cannot overflow: from < until, and
    // until is compared first.
    limit->s = now.s + limits->max_ahead_s;
    if (period->until.s > limit->s)
        return RULES_TOO_FAR;
    limit->s = period->from.s + limits->max_period_s;
    if (period->until.s > limit->s)
        return RULES_TOO_LONG;
    *limit = limits->license.from;
    if (period->from.s < limit->s)
        return RULES_LICENSE_FROM;
    *limit = limits->license.until;
    if (period->until.s > limit->s)
        return RULES_LICENSE_UNTIL;
    *limit = limits->server.from;
    if (period->from.s < limit->s)
        return RULES_SERVER_FROM;
    *limit = limits->server.until;
    if (period->until.s > limit->s)
        return RULES_SERVER_UNTIL;
    return RULES_OK;
}

bool rules_same(const struct rules_ask *ask, const struct rules_held *held, struct wall_time now)
{
    if (strcmp(ask->uuid, held->uuid) || strcmp(ask->feature, held->feature) ||
        strcmp(ask->host_id, held->host_id) || ask->until.s != held->period.until.s)
        return false;
    if (!ask->from_given)
        return interval_covers(held->period, now);
    if (ask->from.s == held->period.from.s)
        return true;
    // A beginning in the past was moved to the instant of the first asking; repeated, it names
    // the same borrow.
    return held->period.from.s > ask->from.s && held->period.from.s <= now.s &&
           held->period.from.s - ask->from.s <= RULES_PAST_S;
}
