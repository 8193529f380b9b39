#include "services/trust/core/verdict.h"

#include "services/trust/core/clock_mark.h"

#define BACKOFF_FIRST_MS 7500
#define BACKOFF_MIN_MS 5000
#define BACKOFF_MAX_MS 60000
#define BACKOFF_DOUBLINGS 3

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

void verdict_init(struct verdict_core *v, const struct verdict_config *config, struct mono_time now)
{
    *v = (struct verdict_core){.config = *config, .last = CHECK_NONE, .next_check = now};
    v->config.grace_ms = min64(config->grace_ms, VERDICT_GRACE_MAX_MS);
}

// 5 to 60 s: a window that doubles with each failure, and in it a random moment.
static int64_t backoff_ms(unsigned failures, uint32_t random)
{
    unsigned doublings = failures - 1 < BACKOFF_DOUBLINGS ? failures - 1 : BACKOFF_DOUBLINGS;
    int64_t high = min64((int64_t)BACKOFF_FIRST_MS << doublings, BACKOFF_MAX_MS);
    int64_t low = high / 2 > BACKOFF_MIN_MS ? high / 2 : BACKOFF_MIN_MS;
    return low + (int64_t)(((uint64_t)random * (uint64_t)(high - low)) >> 32);
}

static int64_t wait_ms(const struct verdict_core *v, const struct verdict_input *in)
{
    int64_t wait = v->config.check_interval_ms;
    if (in->check == CHECK_FAILED)
        wait = backoff_ms(v->failures, in->random);
    else if (in->next_check_s > 0)
        wait = min64(wait, (int64_t)in->next_check_s * 1000);
    return min64(wait, v->config.grace_ms / 4);
}

void verdict_apply(struct verdict_core *v, const struct verdict_input *in, struct mono_time now)
{
    if (in->check == CHECK_FAILED) {
        if (v->failures < UINT32_MAX)
            v->failures++;
    } else {
        v->last = in->check;
        v->failures = 0;
        v->refused_reason = in->check == CHECK_REFUSED ? in->reason : NULL;
        if (in->check == CHECK_OK)
            v->last_ok = now;
        v->date_known = in->date_known;
        v->date = in->date;
        v->date_at = now;
    }
    v->next_check = mono_after(now, wait_ms(v, in));
}

void verdict_license(struct verdict_core *v, struct wall_time not_before,
                     struct wall_time not_after)
{
    v->config.license_not_before = not_before;
    v->config.license_not_after = not_after;
}

void verdict_mark(struct verdict_core *v, struct wall_time mark)
{
    v->mark = mark;
}

void verdict_configure(struct verdict_core *v, int64_t grace_ms, int64_t check_interval_ms,
                       struct mono_time now)
{
    v->config.grace_ms = min64(grace_ms, VERDICT_GRACE_MAX_MS);
    v->config.check_interval_ms = check_interval_ms;
    int64_t wait = min64(check_interval_ms, v->config.grace_ms / 4);
    v->next_check.ms = min64(v->next_check.ms, now.ms + wait);
}

static const char *lapse_reason(const struct verdict_core *v)
{
    return v->config.lapse_reason != NULL ? v->config.lapse_reason : "grace-over";
}

static struct verdict_view invalid(struct verdict_view view, const char *reason)
{
    view.state = VERDICT_INVALID;
    view.reason = reason;
    return view;
}

// The backend's word is worth more than what this host remembers.
static bool is_clock_wrong(const struct verdict_core *v, const struct verdict_view *view,
                           struct wall_time wall)
{
    if (view->skew_known)
        return view->skew_s >= VERDICT_SKEW_MAX_S || view->skew_s <= -VERDICT_SKEW_MAX_S;
    return wall.s < v->mark.s - CLOCK_MARK_TOLERANCE_S;
}

struct verdict_view verdict_view(const struct verdict_core *v, struct mono_time now,
                                 struct wall_time wall)
{
    struct verdict_view view = {.state = VERDICT_VALID, .reason = "", .changes_at = MONO_NEVER};
    // The backend's clock goes on by mono_time, so that a clock that is set, wrong or right again,
    // counts at once and not at the next check.
    if (v->date_known) {
        view.skew_known = true;
        view.skew_s = wall.s - (v->date.s + (now.ms - v->date_at.ms) / 1000);
    }
    if (v->last == CHECK_REFUSED)
        return invalid(view, v->refused_reason);
    if (v->last != CHECK_OK)
        return invalid(view, lapse_reason(v));
    if (is_clock_wrong(v, &view, wall))
        return invalid(view, "clock");
    if (wall.s >= v->config.license_not_after.s)
        return invalid(view, "expired");
    if (wall.s < v->config.license_not_before.s - CLOCK_MARK_TOLERANCE_S)
        return invalid(view, "clock");
    int64_t left = v->last_ok.ms + v->config.grace_ms - now.ms;
    if (left <= 0)
        return invalid(view, lapse_reason(v));
    view.changes_at = mono_after(now, left);
    if (v->failures > 0) {
        view.state = VERDICT_GRACE;
        view.grace_left_ms = left;
    }
    return view;
}

const char *verdict_state_name(enum verdict_state state)
{
    static const char *const names[] = {"valid", "grace", "invalid"};
    return names[state];
}
