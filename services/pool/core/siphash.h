// SipHash-2-4: a keyed hash, so that clients who choose what is hashed cannot make collisions.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
    uint64_t k[2];
};

uint64_t siphash(const struct siphash_key *key, const void *data, size_t len);
