// Why sessions ended that a client may still ask about: a bounded memory of the last ones. The
// oldest of a set makes room; IDs are random, so the sets fill evenly.
#pragma once

#include "services/pool/core/pool.h"

#define TOMB_WAYS 8
#define TOMB_SETS 8192

struct tomb {
    uint64_t id; // half of it; the other half chose the set
    uint32_t stamp;
    uint8_t reason; // 0: unused
};

struct tombs {
    struct tomb *slots;
    uint32_t stamp;
};

void tombs_init(struct tombs *t);
void tombs_fini(struct tombs *t);
void tombs_add(struct tombs *t, const struct session_id *id, enum pool_session_state reason);
enum pool_session_state tombs_find(const struct tombs *t, const struct session_id *id);
