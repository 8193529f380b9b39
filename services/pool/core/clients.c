#include "services/pool/core/clients.h"

#include "services/pool/core/alloc.h"

#define CLIENTS_MIN 256

void clients_init(struct clients *c)
{
    *c = (struct clients){alloc_zeroed(CLIENTS_MIN, sizeof *c->slots), 0, CLIENTS_MIN};
}

void clients_fini(struct clients *c)
{
    free(c->slots);
    *c = (struct clients){0};
}

// Its slot, or the unused one where it belongs.
static uint32_t slot_of(const struct clients *c, uint64_t hash)
{
    uint32_t i = (uint32_t)hash & (c->cap - 1);
    while (c->slots[i].hash && c->slots[i].hash != hash)
        i = (i + 1) & (c->cap - 1);
    return i;
}

uint32_t clients_get(const struct clients *c, uint64_t hash)
{
    return c->slots[slot_of(c, hash)].sessions;
}

static void grow(struct clients *c)
{
    struct clients bigger = {alloc_zeroed((size_t)c->cap * 2, sizeof *c->slots), c->len,
                             c->cap * 2};
    for (uint32_t i = 0; i < c->cap; i++) {
        if (c->slots[i].hash)
            bigger.slots[slot_of(&bigger, c->slots[i].hash)] = c->slots[i];
    }
    free(c->slots);
    *c = bigger;
}

void clients_add(struct clients *c, uint64_t hash)
{
    if (c->len >= c->cap / 2)
        grow(c);
    struct client_count *slot = &c->slots[slot_of(c, hash)];
    c->len += !slot->hash;
    slot->hash = hash;
    slot->sessions++;
}

void clients_drop(struct clients *c, uint64_t hash)
{
    uint32_t hole = slot_of(c, hash);
    if (!c->slots[hole].hash || --c->slots[hole].sessions)
        return;
    c->len--;
    // Those behind move up, so that no search ends at the hole before it finds them.
    for (uint32_t i = (hole + 1) & (c->cap - 1); c->slots[i].hash; i = (i + 1) & (c->cap - 1)) {
        uint32_t home = (uint32_t)c->slots[i].hash & (c->cap - 1);
        if (((i - home) & (c->cap - 1)) >= ((i - hole) & (c->cap - 1))) {
            c->slots[hole] = c->slots[i];
            hole = i;
        }
    }
    c->slots[hole] = (struct client_count){0};
}
