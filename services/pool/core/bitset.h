// A set of small numbers with a summary level, so that the first member of ten thousand is found in
// a few steps.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BITSET_NONE UINT32_MAX

struct bitset {
    uint64_t *words;   // bit i: i is a member
    uint64_t *summary; // bit w: words[w] is not 0
    uint32_t size;
};

void bitset_init(struct bitset *b, uint32_t size); // empty; members are below size
void bitset_fini(struct bitset *b);
void bitset_put(struct bitset *b, uint32_t i, bool member);
bool bitset_has(const struct bitset *b, uint32_t i);
// The least member ≥ from, or BITSET_NONE.
uint32_t bitset_next(const struct bitset *b, uint32_t from);
