// Calls per second of each client address: a token bucket per address, in a table of fixed size.
// When it is full, the address that has been silent longest is forgotten.
#pragma once

#include "common/core/times.h"

#include <stddef.h>
#include <stdint.h>

struct ratelimit;

// seed: random, so that nobody can choose addresses that fall into one chain.
struct ratelimit *ratelimit_new(size_t max_addresses, uint64_t seed);
void ratelimit_free(struct ratelimit **rl);
// per_second 0: no limit. burst 0: as per_second. Buckets keep what they hold, up to the new burst.
void ratelimit_set(struct ratelimit *rl, uint32_t per_second, uint32_t burst);
// Takes one call from the bucket of the address. 0: taken; positive: refused, and in that many
// milliseconds there will be one.
int64_t ratelimit_take(struct ratelimit *rl, const char *address, struct mono_time now);
size_t ratelimit_addresses(const struct ratelimit *rl);
