// The mark of the clock, kept over restarts (core/clock_mark.h).
#pragma once

#include "services/trust/core/clock_mark.h"

#include <stdbool.h>

struct timekeeper {
    struct clock_mark mark;
    char *state_dir;
    struct wall_time saved;
    bool fault_told;
};

// `not_before` of the server license: that time is over in any case.
void timekeeper_init(struct timekeeper *k, const char *state_dir, struct wall_time not_before);
void timekeeper_fini(struct timekeeper *k); // saves
void timekeeper_tick(struct timekeeper *k); // every second or so
// Something that the vendor signed, and that is accepted, was issued at this time.
void timekeeper_issued(struct timekeeper *k, struct wall_time issued);
