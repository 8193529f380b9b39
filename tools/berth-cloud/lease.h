// Who holds a server license (trust.md, "Cloud backend")? Pure.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LEASE_HASH_BYTES 32

struct lease {
    bool held; // somebody has it, who did not say goodbye
    bool has_previous;
    uint8_t current[LEASE_HASH_BYTES];  // SHA-256 of the token that was given last
    uint8_t previous[LEASE_HASH_BYTES]; // of the one with which it was asked for
    int64_t last_seen_s;
};

// May the one who presents a token of this hash (NULL: no token) have the license now?
bool lease_may_take(const struct lease *lease, const uint8_t *presented, int64_t now_s,
                    int64_t silence_s);
// It has it now, and gets a token of hash `next`. What was presented stays good in case that the
// answer is lost; any other token is worth nothing from here on.
void lease_take(struct lease *lease, const uint8_t *presented,
                const uint8_t next[LEASE_HASH_BYTES], int64_t now_s);
// False: the token is not the holder's, nothing happens.
bool lease_goodbye(struct lease *lease, const uint8_t *presented);
