// A region allocator: many small allocations, freed together. One per request or batch.
// Not thread-safe. Allocation failure aborts the process (as everywhere in Berth: memory limits
// are enforced by limits on input, not by handling NULL).
#pragma once

#include <stdarg.h>
#include <stddef.h>

struct arena;

struct arena *arena_new(size_t first_block_bytes);
void arena_free(struct arena **a);
// Everything allocated is gone; the first block (and nothing else) is kept for reuse.
void arena_reset(struct arena *a);
// 16-byte aligned; not zeroed. arena_zalloc zeroes.
void *arena_alloc(struct arena *a, size_t bytes);
void *arena_zalloc(struct arena *a, size_t bytes);
char *arena_strndup(struct arena *a, const char *s, size_t len); // adds the final NUL
char *arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
