// The two kinds of time are different types, so that the compiler keeps them apart.
//   wall_time  UTC seconds since the epoch: license dates, what people see. Can be set by anyone.
//   mono_time  milliseconds of CLOCK_BOOTTIME: deadlines, leases, grace. Nobody can set it, and it
//              counts while the machine is suspended.
// core/ gets times as arguments and never reads a clock (common/clock.h does).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wall_time {
    int64_t s;
};
struct mono_time {
    int64_t ms;
};

#define WALL_MIN ((struct wall_time){INT64_MIN}) // "unlimited" as a beginning
#define WALL_MAX ((struct wall_time){INT64_MAX}) // "unlimited" as an end
#define MONO_NEVER ((struct mono_time){INT64_MAX})

static inline struct mono_time mono_after(struct mono_time t, int64_t ms)
{
    return (struct mono_time){t.ms + ms};
}

// ISO 8601 in UTC with Z, as "2026-11-24T08:00:00Z". buf holds 32 bytes at least. Returns buf.
char *wall_format(struct wall_time t, char buf[static 32]);

enum wall_date_rule {
    WALL_NO_DATE,    // a date alone is refused
    WALL_DATE_START, // a date means 00:00 UTC of that day (validFrom)
    WALL_DATE_END,   // a date means 00:00 UTC of the next day (validUntil)
};

// Parses a date-time with Z or a numeric offset (seconds required, fraction dropped), or a date
// as the rule says (api.md, "JSON-RPC 2.0"). Years 1970 to 9999. Returns 0 or -EINVAL.
int wall_parse(const char *text, size_t len, enum wall_date_rule rule, struct wall_time *out);
