#include "services/pool/core/session_table.h"

#include "services/pool/core/alloc.h"

#include <string.h>

#define SEGMENT_SHIFT 12
#define SEGMENT_BUCKETS (1u << SEGMENT_SHIFT)
#define CHUNK_SESSIONS (1u << SESSION_CHUNK_SHIFT)

enum link { LINK_ID, LINK_KEY };

static inline uint32_t hash_of_id(const struct session_id *id)
{
    uint32_t h; // IDs are random: any four bytes are a hash
    memcpy(&h, id->bytes, sizeof h);
    return h;
}

static inline uint32_t link_hash(const struct session *s, enum link link)
{
    return link == LINK_ID ? hash_of_id(&s->id) : s->key_hash;
}

static inline uint32_t *link_next(struct session *s, enum link link)
{
    return link == LINK_ID ? &s->id_next : &s->key_next;
}

static inline uint32_t *bucket_at(const struct session_index *x, uint32_t b)
{
    return &x->segments[b >> SEGMENT_SHIFT][b & (SEGMENT_BUCKETS - 1)];
}

static inline uint32_t *bucket_of(const struct session_index *x, uint32_t hash)
{
    uint32_t b = hash & (x->low_mask * 2 + 1);
    return bucket_at(x, b < x->buckets ? b : hash & x->low_mask);
}

static void index_add_segment(struct session_index *x)
{
    uint32_t n = x->buckets >> SEGMENT_SHIFT;
    if ((n & (n - 1)) == 0) // room doubles whenever a power of two is full
        x->segments = alloc_resized(x->segments, n ? 2 * (size_t)n : 1, sizeof *x->segments);
    x->segments[n] = alloc_zeroed(SEGMENT_BUCKETS, sizeof **x->segments);
    memset(x->segments[n], 0xff, SEGMENT_BUCKETS * sizeof **x->segments);
}

static void index_init(struct session_index *x)
{
    *x = (struct session_index){0};
    index_add_segment(x);
    x->buckets = SEGMENT_BUCKETS;
    x->low_mask = SEGMENT_BUCKETS - 1;
}

static void index_fini(struct session_index *x)
{
    for (uint32_t i = 0; i < (x->buckets + SEGMENT_BUCKETS - 1) >> SEGMENT_SHIFT; i++)
        free(x->segments[i]);
    free(x->segments);
}

// Moves those sessions of one bucket that belong there into a new one.
static void index_split(struct session_table *t, struct session_index *x, enum link link)
{
    if ((x->buckets & (SEGMENT_BUCKETS - 1)) == 0)
        index_add_segment(x);
    uint32_t fresh = x->buckets++;
    uint32_t wide_mask = x->low_mask * 2 + 1;
    uint32_t *from = bucket_at(x, fresh & x->low_mask);
    uint32_t *to = bucket_at(x, fresh);
    while (*from != SESSION_NONE) {
        struct session *s = session_at(t, *from);
        uint32_t *next = link_next(s, link);
        if ((link_hash(s, link) & wide_mask) != fresh) {
            from = next;
            continue;
        }
        uint32_t moved = *from;
        *from = *next;
        *next = *to;
        *to = moved;
    }
    if (x->buckets == 2 * (x->low_mask + 1))
        x->low_mask = wide_mask;
}

static void index_add(struct session_table *t, struct session_index *x, enum link link, uint32_t n)
{
    if (++x->count > x->buckets)
        index_split(t, x, link);
    struct session *s = session_at(t, n);
    uint32_t *bucket = bucket_of(x, link_hash(s, link));
    *link_next(s, link) = *bucket;
    *bucket = n;
}

static void index_remove(struct session_table *t, struct session_index *x, enum link link,
                         uint32_t n)
{
    struct session *s = session_at(t, n);
    uint32_t *at = bucket_of(x, link_hash(s, link));
    while (*at != n)
        at = link_next(session_at(t, *at), link);
    *at = *link_next(s, link);
    x->count--;
}

void session_table_init(struct session_table *t)
{
    *t = (struct session_table){.free_head = SESSION_NONE};
    index_init(&t->by_id);
    index_init(&t->by_key);
    t->wheel.heads = alloc_zeroed(WHEEL_SLOTS, sizeof *t->wheel.heads);
    memset(t->wheel.heads, 0xff, WHEEL_SLOTS * sizeof *t->wheel.heads);
    t->wheel.scanned_slot = -1;
    t->wheel.scan_at = SESSION_NONE;
}

void session_table_fini(struct session_table *t)
{
    for (uint32_t n = 0; n < t->used; n++)
        free(session_at(t, n)->facts);
    for (uint32_t c = 0; c < t->chunks_len; c++)
        free(t->chunks[c]);
    free(t->chunks);
    index_fini(&t->by_id);
    index_fini(&t->by_key);
    free(t->wheel.heads);
}

static uint32_t number_take(struct session_table *t)
{
    uint32_t n = t->free_head;
    if (n != SESSION_NONE) {
        t->free_head = session_at(t, n)->id_next;
        return n;
    }
    n = t->used++;
    uint32_t chunk = n >> SESSION_CHUNK_SHIFT;
    if (chunk == t->chunks_len) {
        if ((chunk & (chunk - 1)) == 0)
            t->chunks = alloc_resized(t->chunks, chunk ? 2 * (size_t)chunk : 1, sizeof *t->chunks);
        t->chunks[t->chunks_len++] = alloc_zeroed(CHUNK_SESSIONS, sizeof **t->chunks);
    }
    return n;
}

uint32_t session_add(struct session_table *t, const struct session_id *id, bool has_key,
                     uint32_t key_hash)
{
    uint32_t n = number_take(t);
    struct session *s = session_at(t, n);
    *s = (struct session){.id = *id,
                          .live = true,
                          .has_key = has_key,
                          .key_hash = key_hash,
                          .license_prev = SESSION_NONE,
                          .license_next = SESSION_NONE};
    index_add(t, &t->by_id, LINK_ID, n);
    if (has_key)
        index_add(t, &t->by_key, LINK_KEY, n);
    t->live++;
    return n;
}

uint32_t session_find(const struct session_table *t, const struct session_id *id)
{
    uint32_t n = *bucket_of(&t->by_id, hash_of_id(id));
    while (n != SESSION_NONE) {
        const struct session *s = session_at(t, n);
        if (!memcmp(&s->id, id, sizeof *id))
            break;
        n = s->id_next;
    }
    return n;
}

uint32_t session_find_key(const struct session_table *t, uint32_t key_hash, uint32_t after)
{
    uint32_t n =
        after == SESSION_NONE ? *bucket_of(&t->by_key, key_hash) : session_at(t, after)->key_next;
    while (n != SESSION_NONE && session_at(t, n)->key_hash != key_hash)
        n = session_at(t, n)->key_next;
    return n;
}

// ---- Wheel ----

static void wheel_mark(struct session_wheel *w, uint32_t slot)
{
    uint64_t bit = 1ULL << slot % 64;
    if (w->heads[slot] == SESSION_NONE)
        w->filled[slot / 64] &= ~bit;
    else
        w->filled[slot / 64] |= bit;
}

static void wheel_unfile(struct session_table *t, uint32_t n)
{
    struct session *s = session_at(t, n);
    struct session_wheel *w = &t->wheel;
    if (w->scan_at == n)
        w->scan_at = s->wheel_next;
    if (s->wheel_next != SESSION_NONE)
        session_at(t, s->wheel_next)->wheel_prev = s->wheel_prev;
    if (s->wheel_prev != SESSION_NONE) {
        session_at(t, s->wheel_prev)->wheel_next = s->wheel_next;
    } else {
        w->heads[s->wheel_slot] = s->wheel_next;
        wheel_mark(w, s->wheel_slot);
    }
}

void wheel_file(struct session_table *t, uint32_t n)
{
    struct session *s = session_at(t, n);
    struct session_wheel *w = &t->wheel;
    int64_t slot = s->expires_ms >> WHEEL_SLOT_SHIFT;
    if (slot < w->slot)
        slot = w->slot;
    if (slot > w->slot + WHEEL_SLOTS - 1)
        slot = w->slot + WHEEL_SLOTS - 1;
    if (slot == w->scanned_slot && s->expires_ms < w->scanned_due_ms)
        w->scanned_due_ms = s->expires_ms;
    s->wheel_slot = (uint16_t)(slot & (WHEEL_SLOTS - 1));
    s->wheel_prev = SESSION_NONE;
    s->wheel_next = w->heads[s->wheel_slot];
    if (s->wheel_next != SESSION_NONE)
        session_at(t, s->wheel_next)->wheel_prev = n;
    w->heads[s->wheel_slot] = n;
    w->filled[s->wheel_slot / 64] |= 1ULL << s->wheel_slot % 64;
}

void wheel_refile(struct session_table *t, uint32_t n)
{
    wheel_unfile(t, n);
    wheel_file(t, n);
}

// The absolute number of the first filled slot from w->slot on, or -1.
static int64_t wheel_first_filled(const struct session_wheel *w)
{
    uint32_t start = (uint32_t)(w->slot & (WHEEL_SLOTS - 1));
    const uint32_t words = WHEEL_SLOTS / 64;
    for (uint32_t i = 0; i <= words; i++) {
        uint32_t at = (start / 64 + i) % words;
        uint64_t word = w->filled[at];
        if (i == 0)
            word &= ~0ULL << start % 64;
        else if (i == words)
            word &= ~(~0ULL << start % 64);
        if (word) {
            uint32_t slot = at * 64 + (uint32_t)__builtin_ctzll(word);
            return w->slot + ((slot - start) & (WHEEL_SLOTS - 1));
        }
    }
    return -1;
}

// Those of a slot that is over: due ones are given out, prolonged ones are filed again.
static uint32_t wheel_drain(struct session_table *t, struct mono_time now, size_t *budget)
{
    uint32_t n;
    while ((n = t->wheel.heads[t->wheel.slot & (WHEEL_SLOTS - 1)]) != SESSION_NONE) {
        if (!*budget)
            return SESSION_NONE;
        --*budget;
        struct session *s = session_at(t, n);
        if (s->wheel_next != SESSION_NONE)
            __builtin_prefetch(session_at(t, s->wheel_next));
        if (s->expires_ms <= now.ms)
            return n;
        wheel_unfile(t, n);
        wheel_file(t, n);
    }
    return SESSION_NONE;
}

// The running slot is looked through once for each due moment in it, not once for each caller.
static uint32_t wheel_scan_running(struct session_table *t, struct mono_time now, size_t *budget)
{
    struct session_wheel *w = &t->wheel;
    if (w->scanned_slot != w->slot || now.ms >= w->scanned_due_ms) {
        w->scanned_slot = w->slot;
        w->scanned_due_ms = INT64_MAX;
        w->scan_at = w->heads[w->slot & (WHEEL_SLOTS - 1)];
    }
    while (w->scan_at != SESSION_NONE && *budget) {
        --*budget;
        uint32_t n = w->scan_at;
        const struct session *s = session_at(t, n);
        w->scan_at = s->wheel_next;
        if (s->expires_ms <= now.ms)
            return n;
        if (s->expires_ms < w->scanned_due_ms)
            w->scanned_due_ms = s->expires_ms;
    }
    return SESSION_NONE;
}

uint32_t wheel_next_due(struct session_table *t, struct mono_time now, bool running, size_t *budget)
{
    struct session_wheel *w = &t->wheel;
    int64_t current = now.ms >> WHEEL_SLOT_SHIFT;
    while (w->slot < current) {
        int64_t first = wheel_first_filled(w);
        if (first < 0 || first >= current) {
            w->slot = current;
            break;
        }
        w->slot = first;
        uint32_t n = wheel_drain(t, now, budget);
        if (n != SESSION_NONE || !*budget)
            return n;
        w->slot++;
    }
    return running ? wheel_scan_running(t, now, budget) : SESSION_NONE;
}

struct mono_time wheel_next_ms(const struct session_table *t)
{
    int64_t first = wheel_first_filled(&t->wheel);
    return first < 0 ? MONO_NEVER : (struct mono_time){(first + 1) << WHEEL_SLOT_SHIFT};
}

void session_remove(struct session_table *t, uint32_t n)
{
    struct session *s = session_at(t, n);
    wheel_unfile(t, n);
    index_remove(t, &t->by_id, LINK_ID, n);
    if (s->has_key)
        index_remove(t, &t->by_key, LINK_KEY, n);
    free(s->facts);
    s->facts = NULL;
    s->live = false;
    s->id_next = t->free_head;
    t->free_head = n;
    t->live--;
}
