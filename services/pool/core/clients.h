// How many sessions each client has, for sessions.max_per_client. Clients are known by a keyed hash
// of 64 bits: that two of a million share one has a chance of 1 in 30 million.
#pragma once

#include <stdint.h>

struct client_count {
    uint64_t hash; // 0: unused
    uint32_t sessions;
};

struct clients {
    struct client_count *slots; // NULL: not counting
    uint32_t len, cap;          // cap: a power of two
};

void clients_init(struct clients *c);
void clients_fini(struct clients *c);
uint32_t clients_get(const struct clients *c, uint64_t hash);
void clients_add(struct clients *c, uint64_t hash);
void clients_drop(struct clients *c, uint64_t hash);
