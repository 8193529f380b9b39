// Signs grants: keeps a key of its own, in memory only, and has trust certify it again and again,
// before the delegation at hand runs out (trust.md, "Signing").
#pragma once

#include "common/grant.h"
#include "common/rpc.h"
#include "pool.pb-c.h"

struct grantor;

int grantor_new(struct grantor **out, struct loop *loop, const char *trust_url,
                const struct rpc_metrics *metrics);
void grantor_free(struct grantor **grantor);
// The verdict is another one: asks for a delegation at once, unless a fresh one of this server is
// at hand.
void grantor_wake(struct grantor *grantor, const char *server_id);
// A delegation was at hand once: the parts have found each other.
bool grantor_ready(const struct grantor *grantor);

// What an answer carries. Zero-initialise it; grantor_clear empties it.
struct grantor_grant {
    Berth__Grant message;
    struct buf payload;
    uint8_t signature[ED25519_SIGNATURE_BYTES];
};
bool grantor_can_sign(struct grantor *grantor); // a delegation is at hand now
// Composes and signs; server ID and time of the facts are filled in. 0, or -EAGAIN: no delegation
// is at hand.
int grantor_sign(struct grantor *grantor, struct grant_facts *facts, struct grantor_grant *out);
void grantor_clear(struct grantor_grant *grant);
