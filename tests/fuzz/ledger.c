// What may lie in the directory of the ledger: a ledger, a signature file.
#include "services/borrow/core/ledger.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(4096);
    struct ledger ledger;
    struct ledger_signature signature;
    struct error err;
    ledger_decode(&ledger, arena, (const char *)data, size, &err);
    ledger_signature_decode(&signature, (const char *)data, size, &err);
    arena_free(&arena);
    return 0;
}
