#include "services/pool/core/bitset.h"

#include "services/pool/core/alloc.h"

#include <stdlib.h>

static uint32_t words_for(uint32_t bits)
{
    return (uint32_t)(((uint64_t)bits + 63) / 64);
}

void bitset_init(struct bitset *b, uint32_t size)
{
    uint32_t words = words_for(size);
    b->words = alloc_zeroed(words + words_for(words) + 1, sizeof *b->words);
    b->summary = b->words + words;
    b->size = size;
}

void bitset_fini(struct bitset *b)
{
    free(b->words);
    *b = (struct bitset){0};
}

void bitset_put(struct bitset *b, uint32_t i, bool member)
{
    uint64_t *word = &b->words[i / 64];
    uint64_t bit = 1ULL << i % 64;
    *word = member ? *word | bit : *word & ~bit;
    uint64_t *sum = &b->summary[i / 4096];
    uint64_t sum_bit = 1ULL << i / 64 % 64;
    *sum = *word ? *sum | sum_bit : *sum & ~sum_bit;
}

bool bitset_has(const struct bitset *b, uint32_t i)
{
    return b->words[i / 64] >> i % 64 & 1;
}

uint32_t bitset_next(const struct bitset *b, uint32_t from)
{
    if (from >= b->size)
        return BITSET_NONE;
    uint32_t w = from / 64;
    uint64_t rest = b->words[w] & ~0ULL << from % 64;
    if (rest)
        return w * 64 + (uint32_t)__builtin_ctzll(rest);
    if (++w >= words_for(b->size))
        return BITSET_NONE;
    uint32_t sums = words_for(words_for(b->size));
    uint64_t sum = b->summary[w / 64] & ~0ULL << w % 64;
    for (uint32_t s = w / 64;;) {
        if (sum) {
            w = s * 64 + (uint32_t)__builtin_ctzll(sum);
            return w * 64 + (uint32_t)__builtin_ctzll(b->words[w]);
        }
        if (++s >= sums)
            return BITSET_NONE;
        sum = b->summary[s];
    }
}
