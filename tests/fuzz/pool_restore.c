// The file of sessions that pool reads at start.
#include "services/pool/core/pool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t key[16];
    struct pool *p = pool_new(&(struct pool_settings){120000, 2}, key);
    struct pool_store_info info;
    struct error err;
    pool_restore(p, (const char *)data, size, (struct pool_now){{1000}, {1000}}, &info, &err);
    pool_free(&p);
    return 0;
}
