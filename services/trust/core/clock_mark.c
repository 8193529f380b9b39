#include "services/trust/core/clock_mark.h"

void clock_mark_init(struct clock_mark *m, struct wall_time proven, struct mono_time now)
{
    *m = (struct clock_mark){.at = proven, .base = proven, .since = now};
}

// What must be over by now: base plus the time that passed since.
static int64_t limit_s(const struct clock_mark *m, struct mono_time now)
{
    return m->base.s + (now.ms - m->since.ms) / 1000;
}

void clock_mark_raise(struct clock_mark *m, struct wall_time proven, struct mono_time now)
{
    if (proven.s > m->at.s)
        m->at = proven;
    if (proven.s > limit_s(m, now)) {
        m->base = proven;
        m->since = now;
    }
}

void clock_mark_advance(struct clock_mark *m, struct wall_time wall, struct mono_time now)
{
    int64_t limit = limit_s(m, now);
    int64_t to = wall.s < limit ? wall.s : limit;
    if (to > m->at.s)
        m->at.s = to;
}
