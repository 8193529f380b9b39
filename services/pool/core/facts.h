// What a session's client said, packed into one allocation: strings that are not there cost
// nothing.
#pragma once

#include "services/pool/core/pool.h"

struct facts {
    struct match_terms requested;
    const char *instance_id; // NULL: none
    struct pool_client client;
};

// The result is on the heap. Strings are cut off at POOL_TEXT_MAX_BYTES.
char *facts_pack(const struct pool_request *request);
void facts_unpack(const char *packed, struct facts *out); // strings point into packed
size_t facts_size(const char *packed);
// data of this length is one that facts_pack could have made.
bool facts_well_formed(const char *data, size_t len);
