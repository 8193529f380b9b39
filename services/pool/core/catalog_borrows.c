// Borrows of a license. Those that have ended stay for a day, since the clock may be set back, but
// apart from the others: what a borrow costs must not grow with them.
#include "services/pool/core/alloc.h"
#include "services/pool/core/catalog.h"

#include <string.h>

#define FORGET_TOGETHER_S 3600 // so that forgetting does not walk them all for each

static void borrow_free(struct license_borrow *b)
{
    free(b->host_id);
}

void license_clear_borrows(struct license *l)
{
    for (size_t i = 0; i < l->borrows_len; i++)
        borrow_free(&l->borrows[i]);
    l->borrows_len = l->ended_len = 0;
}

void catalog_clear_borrows(struct catalog *c)
{
    for (uint32_t i = 0; i < c->len; i++) {
        if (c->licenses[i])
            license_clear_borrows(c->licenses[i]);
    }
    c->at = WALL_MAX;
}

static uint32_t id_mark(const char *id)
{
    uint32_t h = 2166136261; // FNV-1a
    for (; *id; id++)
        h = (h ^ (unsigned char)*id) * 16777619;
    return h;
}

static bool same_id(const struct license_borrow *a, const struct license_borrow *b)
{
    return a->borrow_id && b->borrow_id && a->id_mark == b->id_mark &&
           !strcmp(a->borrow_id, b->borrow_id);
}

void catalog_add_borrow(struct catalog *c, const struct pool_borrow_entry *entry)
{
    uint32_t n = catalog_need(c, entry->uuid, entry->feature); // may move c->licenses
    struct license *l = c->licenses[n];
    if (l->borrows_len == l->borrows_cap) {
        l->borrows_cap = l->borrows_cap ? l->borrows_cap * 2 : 4;
        l->borrows = alloc_resized(l->borrows, l->borrows_cap, sizeof *l->borrows);
    }
    const char *id = entry->borrow_id;
    size_t host_bytes = strlen(entry->borrow.host_id) + 1, id_bytes = id ? strlen(id) + 1 : 0;
    struct license_borrow *b = &l->borrows[l->borrows_len];
    *b = (struct license_borrow){.from = entry->borrow.from,
                                 .until = entry->borrow.until,
                                 .told = c->told++,
                                 .host_id = alloc_checked(malloc(host_bytes + id_bytes))};
    memcpy(b->host_id, entry->borrow.host_id, host_bytes);
    if (id) {
        b->borrow_id = memcpy(b->host_id + host_bytes, id, id_bytes);
        b->id_mark = id_mark(id);
        for (size_t i = l->ended_len; i < l->borrows_len; i++) {
            if (same_id(&l->borrows[i], b)) {
                borrow_free(&l->borrows[i]);
                l->borrows[i] = *b;
                c->at = WALL_MAX;
                return;
            }
        }
    }
    l->borrows_len++;
    c->at = WALL_MAX;
}

void catalog_forget_borrows(struct catalog *c, const char *uuid, const char *feature,
                            struct wall_time before)
{
    uint32_t n = catalog_find(c, uuid, feature);
    struct license *l = n == LICENSE_NONE ? NULL : c->licenses[n];
    if (!l || !l->ended_len || l->ended_first.s >= before.s - FORGET_TOGETHER_S)
        return;
    size_t kept = 0;
    l->ended_first = WALL_MAX;
    for (size_t i = 0; i < l->borrows_len; i++) {
        struct license_borrow *b = &l->borrows[i];
        bool ended = i < l->ended_len;
        if (ended && b->until.s < before.s) {
            borrow_free(b);
            continue;
        }
        if (ended && b->until.s < l->ended_first.s)
            l->ended_first = b->until;
        l->borrows[kept++] = *b;
    }
    l->ended_len -= l->borrows_len - kept;
    l->borrows_len = kept;
}

// ---- Order ----

static int borrow_compare(const void *x, const void *y)
{
    const struct license_borrow *a = x, *b = y;
    if (a->from.s != b->from.s)
        return a->from.s < b->from.s ? -1 : 1;
    if (a->until.s != b->until.s)
        return a->until.s < b->until.s ? -1 : 1;
    return strcmp(a->host_id, b->host_id);
}

// Equal IDs together, the one that was told last first.
static int id_compare(const void *x, const void *y)
{
    const struct license_borrow *a = x, *b = y;
    if (!a->borrow_id || !b->borrow_id)
        return !a->borrow_id - !b->borrow_id;
    int order = strcmp(a->borrow_id, b->borrow_id);
    return order ? order : (a->told < b->told) - (a->told > b->told);
}

// The clock was set back: what had ended is looked at again. Only here it is seen that an ID was
// told again after its end.
static void revive_ended(struct license *l)
{
    struct license_borrow *b = l->borrows;
    size_t kept = 0;
    qsort(b, l->borrows_len, sizeof *b, id_compare);
    for (size_t i = 0; i < l->borrows_len; i++) {
        if (kept && same_id(&b[kept - 1], &b[i]))
            borrow_free(&b[i]);
        else
            b[kept++] = b[i];
    }
    l->borrows_len = kept;
    l->ended_len = 0;
    qsort(b, kept, sizeof *b, borrow_compare);
}

// Moves those that have ended, how many is known, before all others; the order of both stays.
static void move_ended(struct license *l, size_t ended, struct wall_time now)
{
    struct license_borrow *b = l->borrows, *moved = alloc_zeroed(ended, sizeof *moved);
    size_t to = l->borrows_len;
    if (!l->ended_len)
        l->ended_first = WALL_MAX;
    for (size_t i = l->borrows_len, k = ended; i-- > l->ended_len;) {
        if (b[i].until.s > now.s) {
            b[--to] = b[i];
            continue;
        }
        moved[--k] = b[i];
        if (b[i].until.s < l->ended_first.s)
            l->ended_first = b[i].until;
    }
    memcpy(&b[l->ended_len], moved, ended * sizeof *moved);
    l->ended_len += ended;
    free(moved);
}

// Puts the item at `at` into its place among those before it, which are sorted.
static void insert_borrow(struct license_borrow *b, size_t at)
{
    struct license_borrow moved = b[at];
    size_t low = 0, high = at;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (borrow_compare(&b[middle], &moved) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    memmove(&b[low + 1], &b[low], (at - low) * sizeof *b);
    b[low] = moved;
}

#define MISPLACED_FEW 8

// One that is new must not cost a sort of them all.
static void sort_current(struct license_borrow *b, size_t len, size_t misplaced)
{
    if (misplaced > MISPLACED_FEW) {
        qsort(b, len, sizeof *b, borrow_compare);
        return;
    }
    for (size_t i = 1; misplaced && i < len; i++) {
        if (borrow_compare(&b[i - 1], &b[i]) > 0)
            insert_borrow(b, i);
    }
}

void license_refresh_borrows(struct catalog *c, struct license *l, struct wall_time now)
{
    if (l->ended_len && now.s < l->ended_at.s)
        revive_ended(l);
    l->ended_at = now;
    size_t ended = 0, misplaced = 0;
    l->borrowed = 0;
    for (size_t i = l->ended_len; i < l->borrows_len; i++) {
        const struct license_borrow *b = &l->borrows[i];
        bool over = b->until.s <= now.s;
        ended += over;
        l->borrowed += !over && b->from.s <= now.s;
        catalog_note_change(c, b->from, now);
        catalog_note_change(c, b->until, now);
        misplaced += i > l->ended_len && borrow_compare(b - 1, b) > 0;
    }
    if (ended)
        move_ended(l, ended, now);
    sort_current(&l->borrows[l->ended_len], l->borrows_len - l->ended_len, misplaced);
}
