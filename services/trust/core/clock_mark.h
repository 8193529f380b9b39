// The greatest time that is known to be over, so that a clock that is set back is noticed
// (trust.md, "Dongle"). It follows the wall clock, but forward only as fast as mono_time goes: a
// wrong clock cannot raise it, so that nothing must be undone once the clock is right again. Pure.
#pragma once

#include "common/core/times.h"

#define CLOCK_MARK_TOLERANCE_S (24 * 3600)

struct clock_mark {
    struct wall_time at;
    struct wall_time base; // was over at the moment `since`
    struct mono_time since;
};

// `proven`: what is known to be over now; from the last run, or the beginning of a certificate.
void clock_mark_init(struct clock_mark *m, struct wall_time proven, struct mono_time now);
// Somebody trusted dates something on `proven`, so that this time is over.
void clock_mark_raise(struct clock_mark *m, struct wall_time proven, struct mono_time now);
void clock_mark_advance(struct clock_mark *m, struct wall_time wall, struct mono_time now);
