#include "services/gateway/core/ratelimit.h"

#include <stdlib.h>
#include <string.h>

#define ADDRESS_BYTES 48 // an IPv6 address as text; longer ones are cut
#define NONE UINT32_MAX
#define UNIT 1000 // a call costs 1,000: a rate of n per second refills n units a millisecond

struct bucket {
    char address[ADDRESS_BYTES];
    int64_t units;
    struct mono_time filled;
    uint32_t chain;        // next of the same hash
    uint32_t newer, older; // by last use
};

struct ratelimit {
    uint64_t seed;
    uint32_t per_second, burst;
    uint32_t cap, len, slots;
    uint32_t newest, oldest;
    uint32_t *heads;
    struct bucket *buckets;
};

static void *zalloc(size_t n, size_t size)
{
    void *p = calloc(n, size);
    if (!p)
        abort();
    return p;
}

struct ratelimit *ratelimit_new(size_t max_addresses, uint64_t seed)
{
    struct ratelimit *rl = zalloc(1, sizeof *rl);
    rl->seed = seed;
    rl->cap = max_addresses ? (uint32_t)max_addresses : 1;
    rl->slots = 1;
    while (rl->slots < rl->cap)
        rl->slots *= 2;
    rl->heads = zalloc(rl->slots, sizeof *rl->heads);
    memset(rl->heads, 0xff, rl->slots * sizeof *rl->heads);
    rl->buckets = zalloc(rl->cap, sizeof *rl->buckets);
    rl->newest = rl->oldest = NONE;
    return rl;
}

void ratelimit_free(struct ratelimit **rl)
{
    if (!*rl)
        return;
    free((*rl)->heads);
    free((*rl)->buckets);
    free(*rl);
    *rl = NULL;
}

void ratelimit_set(struct ratelimit *rl, uint32_t per_second, uint32_t burst)
{
    rl->per_second = per_second;
    rl->burst = burst ? burst : per_second;
}

static uint32_t slot_of(const struct ratelimit *rl, const char *address)
{
    uint64_t h = 0xcbf29ce484222325U ^ rl->seed;
    for (const char *p = address; *p; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001b3U;
    h ^= h >> 29;
    return (uint32_t)(h & (rl->slots - 1));
}

static void unlink_use(struct ratelimit *rl, uint32_t i)
{
    struct bucket *b = &rl->buckets[i];
    if (b->newer != NONE)
        rl->buckets[b->newer].older = b->older;
    else
        rl->newest = b->older;
    if (b->older != NONE)
        rl->buckets[b->older].newer = b->newer;
    else
        rl->oldest = b->newer;
}

static void link_newest(struct ratelimit *rl, uint32_t i)
{
    struct bucket *b = &rl->buckets[i];
    b->newer = NONE;
    b->older = rl->newest;
    if (rl->newest != NONE)
        rl->buckets[rl->newest].newer = i;
    else
        rl->oldest = i;
    rl->newest = i;
}

// Frees the oldest bucket and returns its place.
static uint32_t evict(struct ratelimit *rl)
{
    uint32_t i = rl->oldest;
    unlink_use(rl, i);
    uint32_t *at = &rl->heads[slot_of(rl, rl->buckets[i].address)];
    while (*at != i)
        at = &rl->buckets[*at].chain;
    *at = rl->buckets[i].chain;
    return i;
}

// The address' bucket, made full if there was none; it is the newest from now on.
static struct bucket *bucket_get(struct ratelimit *rl, const char *address, struct mono_time now)
{
    char key[ADDRESS_BYTES] = {0};
    strncpy(key, address, sizeof key - 1);
    uint32_t slot = slot_of(rl, key);
    for (uint32_t i = rl->heads[slot]; i != NONE; i = rl->buckets[i].chain) {
        if (strcmp(rl->buckets[i].address, key) != 0)
            continue;
        unlink_use(rl, i);
        link_newest(rl, i);
        return &rl->buckets[i];
    }
    uint32_t i = rl->len < rl->cap ? rl->len++ : evict(rl);
    struct bucket *b = &rl->buckets[i];
    memcpy(b->address, key, sizeof key);
    b->units = (int64_t)rl->burst * UNIT;
    b->filled = now;
    b->chain = rl->heads[slot];
    rl->heads[slot] = i;
    link_newest(rl, i);
    return b;
}

int64_t ratelimit_take(struct ratelimit *rl, const char *address, struct mono_time now)
{
    if (!rl->per_second)
        return 0;
    struct bucket *b = bucket_get(rl, address, now);
    int64_t full = (int64_t)rl->burst * UNIT;
    int64_t passed = now.ms - b->filled.ms;
    if (passed > 0) {
        int64_t enough = full / rl->per_second + 1;
        b->units += (passed < enough ? passed : enough) * rl->per_second;
        b->filled = now;
    }
    if (b->units > full)
        b->units = full;
    if (b->units >= UNIT) {
        b->units -= UNIT;
        return 0;
    }
    return (UNIT - b->units + rl->per_second - 1) / rl->per_second;
}

size_t ratelimit_addresses(const struct ratelimit *rl)
{
    return rl->len;
}
