#include "services/pool/internal.h"

#include "common/log.h"

#include <stdio.h>
#include <string.h>

#define METRIC(id, type, name, labels, help) {type, name, labels, help},
const struct metric_def pool_metric_defs[] = {
#include "services/pool/metrics.def"
};
#undef METRIC

static const char *verdict_state(const struct pool_service *s)
{
    const Berth__Verdict *v = verdict_watch_fresh(s->verdict);
    if (!v)
        return "stale";
    return v->state == BERTH__STATE__VALID   ? "valid"
           : v->state == BERTH__STATE__GRACE ? "grace"
                                             : "invalid";
}

static void collect_sessions(struct pool_service *s)
{
    struct metrics *m = s->metrics;
    struct pool_stats stats;
    pool_stats_get(s->pool, &stats);
    double requested = 0;
    for (size_t i = 0; i < sizeof stats.outcomes / sizeof *stats.outcomes; i++)
        requested += (double)stats.outcomes[i];
    metric_set(m, M_SESSIONS_LIVE, (double)pool_session_count(s->pool));
    metric_set(m, M_SESSIONS_REQUESTED, requested);
    metric_set(m, M_SESSIONS_GRANTED, (double)stats.outcomes[POOL_GRANTED]);
    metric_set(m, M_SESSIONS_REPEATED, (double)stats.outcomes[POOL_EXISTING]);
    metric_set(m, M_SESSIONS_REVALIDATED, (double)stats.revalidated);
    metric_set(m, M_SESSIONS_RETURNED, (double)stats.ended[POOL_SESSION_RETURNED]);
    metric_set(m, M_SESSIONS_EXPIRED, (double)stats.ended[POOL_SESSION_EXPIRED]);
    for (int i = POOL_SESSION_ENDED; i < POOL_SESSION_STATES; i++)
        metric_set(m, M_SESSIONS_DISPLACED, (double)stats.ended[i],
                   pool_session_state_name((enum pool_session_state)i));
    for (int i = POOL_SESSION_UNKNOWN; i < POOL_SESSION_STATES; i++)
        metric_set(m, M_SESSIONS_REFUSED, (double)stats.refused[i],
                   pool_session_state_name((enum pool_session_state)i));
    for (int i = MATCH_SERVER_ID; i < MATCH_REASONS; i++) {
        char reason[MATCH_REASON_BYTES];
        match_reason_format((enum match_reason)i, 0, reason);
        reason[strcspn(reason, ":")] = '\0'; // the letters that are missing would be endless labels
        metric_set(m, M_DENIALS, (double)stats.denials[i], reason);
    }
    metric_set(m, M_DENIALS, (double)stats.outcomes[POOL_CLIENT_LIMIT], "client-limit");
    metric_set(m, M_DENIALS, (double)stats.outcomes[POOL_INSTANCE_CONFLICT], "instance-conflict");
}

static void collect_licenses(struct pool_service *s)
{
    struct metrics *m = s->metrics;
    struct pool_now now = service_now(s);
    metric_clear(m, M_SEATS);
    metric_clear(m, M_SEATS_USED);
    metric_clear(m, M_SEATS_BORROWED);
    metric_clear(m, M_LICENSE_EXPIRY);
    size_t n = pool_license_count(s->pool, now);
    metric_set(m, M_LICENSES_LOADED, (double)n);
    for (size_t i = 0; i < n; i++) {
        struct pool_license l;
        pool_license_at(s->pool, i, &l);
        metric_set(m, M_SEATS, l.count, l.ref.uuid, l.ref.feature);
        metric_set(m, M_SEATS_USED, l.live, l.ref.uuid, l.ref.feature);
        metric_set(m, M_SEATS_BORROWED, l.borrowed, l.ref.uuid, l.ref.feature);
        if (l.valid_until.s != WALL_MAX.s)
            metric_set(m, M_LICENSE_EXPIRY, (double)l.valid_until.s - (double)now.wall.s,
                       l.ref.uuid, l.ref.feature);
    }
    for (int i = LICENSE_OK + 1; i < LICENSE_REFUSALS; i++)
        metric_set(m, M_LICENSES_REFUSED, s->refused[i],
                   license_refusal_name((enum license_refusal)i));
}

void report_collect(void *ctx)
{
    static const char *const states[] = {"valid", "grace", "invalid", "stale"};
    struct pool_service *s = ctx;
    collect_sessions(s);
    collect_licenses(s);
    bool held = s->unwritable || s->held_until.ms > loop_now(s->loop).ms;
    metric_set(s->metrics, M_SEATS_HELD, held);
    metric_set(s->metrics, M_JOURNAL_BYTES, (double)journal_bytes(s->journal));
    metric_set(s->metrics, M_JOURNAL_ERRORS, (double)journal_errors(s->journal));
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        metric_set(s->metrics, M_VERDICT_STATE, !strcmp(states[i], verdict_state(s)), states[i]);
}

size_t report_conditions(void *ctx, struct ops_condition *out, size_t max)
{
    struct pool_service *s = ctx;
    Berth__Error ignored = BERTH__ERROR__INIT;
    bool licensed = verdict_watch_may_issue(s->verdict, &ignored);
    const struct ops_condition all[] = {
        {"trust", verdict_watch_fresh(s->verdict) != NULL,
         "no fresh verdict from berth-trust: is it running, and is rpc.trust right?"},
        {"licenses", s->loaded, "the license files have not been read yet"},
        {"borrow", s->borrows_known,
         "berth-borrow has not said yet which seats are borrowed: is it running, and is rpc.pool "
         "right for it?"},
        {"grants", !licensed || grantor_ready(s->grantor),
         "berth-trust has not certified the key that signs grants yet"},
    };
    size_t n = sizeof all / sizeof *all;
    for (size_t i = 0; i < n && i < max; i++) {
        out[i] = all[i];
        if (out[i].ok)
            out[i].reason[0] = '\0';
    }
    return n < max ? n : max;
}

void report_catalog(struct pool_service *s)
{
    int64_t refused = 0, expired = 0;
    for (int i = LICENSE_OK + 1; i < LICENSE_REFUSALS; i++)
        refused += s->refused[i];
    size_t n = pool_license_count(s->pool, service_now(s));
    for (size_t i = 0; i < n; i++) {
        struct pool_license l;
        pool_license_at(s->pool, i, &l);
        expired += l.validity == POOL_EXPIRED;
        if (l.issue_tie)
            log_warn("license.tie", LOG_S("uuid", l.ref.uuid), LOG_S("feature", l.ref.feature),
                     LOG_S("msg", "two different files with this license were issued at the same "
                                  "time; the one with the greater signature is used: remove one"));
    }
    log_info("licenses.loaded", LOG_I("licenses", (int64_t)n), LOG_I("expired", expired),
             LOG_I("refused", refused));
}
