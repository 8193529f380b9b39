#include "services/pool/core/tombs.h"

#include "services/pool/core/alloc.h"

#include <string.h>

void tombs_init(struct tombs *t)
{
    t->slots = alloc_zeroed((size_t)TOMB_SETS * TOMB_WAYS, sizeof *t->slots);
    t->stamp = 0;
}

void tombs_fini(struct tombs *t)
{
    free(t->slots);
}

static struct tomb *set_of(const struct tombs *t, const struct session_id *id, uint64_t *rest)
{
    uint64_t half[2];
    memcpy(half, id->bytes, sizeof half);
    *rest = half[1];
    return &t->slots[half[0] % TOMB_SETS * TOMB_WAYS];
}

void tombs_add(struct tombs *t, const struct session_id *id, enum pool_session_state reason)
{
    uint64_t rest;
    struct tomb *set = set_of(t, id, &rest);
    uint32_t now = t->stamp++;
    struct tomb *oldest = set;
    for (int i = 0; i < TOMB_WAYS && oldest->reason; i++) {
        if (!set[i].reason || now - set[i].stamp > now - oldest->stamp)
            oldest = &set[i];
    }
    *oldest = (struct tomb){rest, now, (uint8_t)reason};
}

enum pool_session_state tombs_find(const struct tombs *t, const struct session_id *id)
{
    uint64_t rest;
    const struct tomb *set = set_of(t, id, &rest);
    for (int i = 0; i < TOMB_WAYS; i++) {
        if (set[i].reason && set[i].id == rest)
            return (enum pool_session_state)set[i].reason;
    }
    return POOL_SESSION_UNKNOWN;
}
