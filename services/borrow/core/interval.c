#include "services/borrow/core/interval.h"

#include <stdlib.h>
#include <string.h>

void interval_set_fini(struct interval_set *set)
{
    free(set->items);
    *set = (struct interval_set){0};
}

void interval_set_add(struct interval_set *set, struct interval period)
{
    if (set->len == set->cap) {
        set->cap = set->cap ? 2 * set->cap : 16;
        set->items = realloc(set->items, set->cap * sizeof *set->items);
        if (!set->items)
            abort();
    }
    set->items[set->len++] = period;
}

static int compare_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

// Goes through the beginnings and ends in order of time. At one instant ends and beginnings are
// both counted before the depth is judged: periods are half open.
static bool sweep(const int64_t *begins, const int64_t *ends, size_t n, uint32_t count,
                  struct interval period, struct interval *conflict)
{
    bool full = false;
    size_t i = 0, j = 0;
    int64_t t = period.from.s;
    while (t < period.until.s) {
        while (i < n && begins[i] <= t)
            i++;
        while (j < n && ends[j] <= t)
            j++;
        if (i - j >= count && !full) {
            full = true;
            conflict->from.s = t;
        } else if (i - j < count && full) {
            conflict->until.s = t;
            return false;
        }
        int64_t next = period.until.s;
        if (i < n && begins[i] < next)
            next = begins[i];
        if (j < n && ends[j] < next)
            next = ends[j];
        t = next;
    }
    conflict->until = period.until; // means something only if full
    return !full;
}

bool interval_set_fits(const struct interval_set *set, struct interval period, uint32_t count,
                       struct interval *conflict)
{
    size_t n = 0;
    int64_t *times = malloc((2 * set->len + 1) * sizeof *times);
    if (!times)
        abort();
    int64_t *begins = times, *ends = times + set->len;
    for (size_t i = 0; i < set->len; i++) {
        if (interval_overlaps(set->items[i], period)) {
            begins[n] = set->items[i].from.s;
            ends[n++] = set->items[i].until.s;
        }
    }
    qsort(begins, n, sizeof *begins, compare_time);
    qsort(ends, n, sizeof *ends, compare_time);
    bool fits = sweep(begins, ends, n, count, period, conflict);
    free(times);
    return fits;
}
