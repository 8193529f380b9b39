#include "tools/berth-cloud/lease.h"

#include <string.h>

static bool is_holder(const struct lease *lease, const uint8_t *presented)
{
    return presented != NULL &&
           (memcmp(lease->current, presented, LEASE_HASH_BYTES) == 0 ||
            (lease->has_previous && memcmp(lease->previous, presented, LEASE_HASH_BYTES) == 0));
}

bool lease_may_take(const struct lease *lease, const uint8_t *presented, int64_t now_s,
                    int64_t silence_s)
{
    return !lease->held || is_holder(lease, presented) || now_s - lease->last_seen_s >= silence_s;
}

void lease_take(struct lease *lease, const uint8_t *presented,
                const uint8_t next[LEASE_HASH_BYTES], int64_t now_s)
{
    lease->held = true;
    lease->has_previous = presented != NULL;
    if (presented != NULL)
        memmove(lease->previous, presented, LEASE_HASH_BYTES);
    memcpy(lease->current, next, LEASE_HASH_BYTES);
    lease->last_seen_s = now_s;
}

bool lease_goodbye(struct lease *lease, const uint8_t *presented)
{
    if (!lease->held || !is_holder(lease, presented))
        return false;
    lease->held = false;
    lease->has_previous = false;
    memset(lease->current, 0, sizeof lease->current);
    return true;
}
