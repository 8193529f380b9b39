// What a client reads of a grant once its signature fits, and what pool reads of trust's
// delegation.
#include "common/grant.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(4096);
    struct grant_facts facts;
    struct grant_delegation delegation;
    struct error err;
    grant_read_payload(&facts, arena, (const char *)data, size, &err);
    grant_read_delegation(&delegation, arena, (const char *)data, size, &err);
    arena_free(&arena);
    return 0;
}
