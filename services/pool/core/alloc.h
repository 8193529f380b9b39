// Allocation that cannot fail: memory is bounded by limits on input (style of common/core/arena.h).
#pragma once

#include <stdlib.h>

static inline void *alloc_checked(void *p)
{
    if (!p)
        abort();
    return p;
}

static inline void *alloc_zeroed(size_t n, size_t bytes)
{
    return alloc_checked(calloc(n ? n : 1, bytes));
}

static inline void *alloc_resized(void *old, size_t n, size_t bytes)
{
    return alloc_checked(reallocarray(old, n ? n : 1, bytes));
}
