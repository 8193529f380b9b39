// Who holds a server license (trust.md, "Cloud backend")? Pure.
//
// The token says that somebody has the holder's disk, now or as a copy. A server may also say where
// it is: the boot of its kernel and the folder of its state. A restart is at the same place, a
// machine that crashed is at a place that began later; a copy is neither, and is refused while the
// holder lives. Servers that do not say where they are are told apart by their tokens alone.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LEASE_HASH_BYTES 32
#define LEASE_PLACE_BYTES 16

struct lease_place {
    bool known;
    uint8_t boot[LEASE_PLACE_BYTES], folder[LEASE_PLACE_BYTES];
    int64_t booted_s; // when, by the backend's clock; of a presenter only
};

// SHA-256 hashes of tokens; all 0: there is none, which no token hashes to.
struct lease_tokens {
    uint8_t current[LEASE_HASH_BYTES];  // the one that was given last
    uint8_t previous[LEASE_HASH_BYTES]; // the one with which it was asked for
    // The current one of before, if `previous` was presented once more. Mostly it was lost; but if
    // a request was late on its way and was overtaken by the next, this is the one that the server
    // has.
    uint8_t displaced[LEASE_HASH_BYTES];
};

struct lease {
    bool held; // somebody has it, who did not say goodbye
    struct lease_tokens tokens;
    int64_t last_seen_s;
    struct lease_place place;
    // Who had it until somebody at another place came with a good token. If it speaks again soon,
    // the other one is a copy.
    struct lease_rival {
        struct lease_place place; // not known: there is none
        struct lease_tokens tokens;
        int64_t since_s;
    } rival;
};

struct lease_claim {
    const uint8_t *token; // SHA-256 of the token presented; NULL: none
    struct lease_place place;
};

struct lease_policy {
    int64_t silence_s; // after which anybody may take it
    int64_t alive_s;   // after which one with a good token may, wherever it is
};

// May the one who claims it have it now?
bool lease_may_take(const struct lease *lease, const struct lease_claim *claim, int64_t now_s,
                    const struct lease_policy *policy);
// It has it now, and gets a token of hash `next`. What was presented stays good in case that the
// answer is lost; any other token is worth nothing from here on.
void lease_take(struct lease *lease, const struct lease_claim *claim,
                const uint8_t next[LEASE_HASH_BYTES], int64_t now_s,
                const struct lease_policy *policy);
// False: the token is not the holder's, nothing happens.
bool lease_goodbye(struct lease *lease, const struct lease_claim *claim, int64_t now_s,
                   const struct lease_policy *policy);
