// Periods of the borrows of one license. Half open, [from, until), so that a seat whose period
// ends at an instant is free at that instant.
#pragma once

#include "common/core/times.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct interval {
    struct wall_time from, until;
};

static inline bool interval_overlaps(struct interval a, struct interval b)
{
    return a.from.s < b.until.s && b.from.s < a.until.s;
}

static inline bool interval_covers(struct interval a, struct wall_time t)
{
    return a.from.s <= t.s && t.s < a.until.s;
}

// In no order. Zero-initialise it; interval_set_fini frees.
struct interval_set {
    struct interval *items;
    size_t len, cap;
};

void interval_set_fini(struct interval_set *set);
void interval_set_add(struct interval_set *set, struct interval period); // from < until
// True if one more may be borrowed: at every instant of the period those that overlap, plus one,
// are ≤ count. Else *conflict is the first stretch of the period in which that does not hold.
// O(n log n) in the intervals that are in the set.
bool interval_set_fits(const struct interval_set *set, struct interval period, uint32_t count,
                       struct interval *conflict);
