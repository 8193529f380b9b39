#include "common/clock.h"

#include <stdlib.h>
#include <time.h>

static struct timespec read_clock(clockid_t id)
{
    struct timespec t;
    if (clock_gettime(id, &t))
        abort();
    return t;
}

struct wall_time clock_wall(void)
{
    return (struct wall_time){read_clock(CLOCK_REALTIME).tv_sec};
}

struct mono_time clock_mono(void)
{
    struct timespec t = read_clock(CLOCK_BOOTTIME);
    return (struct mono_time){(int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000};
}

int64_t clock_mono_us(void)
{
    struct timespec t = read_clock(CLOCK_BOOTTIME);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
