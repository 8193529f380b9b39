// The only place that reads clocks.
#pragma once

#include "common/core/times.h"

struct wall_time clock_wall(void);
struct mono_time clock_mono(void); // CLOCK_BOOTTIME
int64_t clock_mono_us(void); // the same clock, to measure short durations (metrics)
