#include "tools/berth-cloud/lease.h"

#include <string.h>

static bool same(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, LEASE_HASH_BYTES) == 0;
}

static bool same_boot(const struct lease_place *a, const struct lease_place *b)
{
    return a->known && b->known && memcmp(a->boot, b->boot, LEASE_PLACE_BYTES) == 0;
}

static bool same_place(const struct lease_place *a, const struct lease_place *b)
{
    return same_boot(a, b) && memcmp(a->folder, b->folder, LEASE_PLACE_BYTES) == 0;
}

static bool is_one_of(const struct lease_tokens *t, const uint8_t *token, bool displaced_too)
{
    return token != NULL && (same(t->current, token) || same(t->previous, token) ||
                             (displaced_too && same(t->displaced, token)));
}

// Is this what was presented last? No token, too, if the very first answer was lost.
static bool is_previous(const struct lease *lease, const struct lease_claim *claim)
{
    static const uint8_t none[LEASE_HASH_BYTES];
    return same(lease->tokens.previous, claim->token != NULL ? claim->token : none);
}

// Without places nobody knows whether the one who has the displaced token, or none, is the holder.
static bool has_token(const struct lease *lease, const struct lease_claim *claim)
{
    bool home = same_place(&lease->place, &claim->place);
    if (claim->token == NULL)
        return home && is_previous(lease, claim);
    return is_one_of(&lease->tokens, claim->token, home);
}

// There is one that was pushed out, and it has not been silent for too long.
static bool has_rival(const struct lease *lease, int64_t now_s, const struct lease_policy *policy)
{
    return lease->held && lease->rival.place.known &&
           now_s - lease->rival.since_s < policy->alive_s;
}

static bool is_rival(const struct lease *lease, const struct lease_claim *claim)
{
    return same_place(&lease->rival.place, &claim->place) &&
           is_one_of(&lease->rival.tokens, claim->token, true);
}

static bool may_be_here(const struct lease *lease, const struct lease_place *place)
{
    if (!place->known || !lease->place.known || same_place(&lease->place, place))
        return true;
    // It may have crashed and booted again.
    return !same_boot(&lease->place, place) && place->booted_s >= lease->last_seen_s;
}

bool lease_may_take(const struct lease *lease, const struct lease_claim *claim, int64_t now_s,
                    const struct lease_policy *policy)
{
    int64_t silent_s = now_s - lease->last_seen_s;
    if (!lease->held || silent_s >= policy->silence_s)
        return true;
    if (has_rival(lease, now_s, policy) && is_rival(lease, claim))
        return true;
    return has_token(lease, claim) &&
           (may_be_here(lease, &claim->place) || silent_s >= policy->alive_s);
}

// Whoever comes from another place may be a copy: who it pushes out is remembered, and not
// forgotten for another copy.
static void rival_update(struct lease *lease, const struct lease_claim *claim, int64_t now_s,
                         const struct lease_policy *policy)
{
    struct lease_rival *rival = &lease->rival;
    bool waits = has_rival(lease, now_s, policy);
    if (!lease->held || !has_token(lease, claim) || (waits && is_rival(lease, claim))) {
        *rival = (struct lease_rival){0};
    } else if (!waits && lease->place.known && claim->place.known &&
               !same_place(&lease->place, &claim->place)) {
        *rival = (struct lease_rival){lease->place, lease->tokens, now_s};
    }
}

void lease_take(struct lease *lease, const struct lease_claim *claim,
                const uint8_t next[LEASE_HASH_BYTES], int64_t now_s,
                const struct lease_policy *policy)
{
    struct lease_tokens tokens = {{0}};
    memcpy(tokens.current, next, LEASE_HASH_BYTES);
    if (claim->token != NULL)
        memcpy(tokens.previous, claim->token, LEASE_HASH_BYTES);
    if (lease->held && is_previous(lease, claim))
        memcpy(tokens.displaced, lease->tokens.current, LEASE_HASH_BYTES);
    rival_update(lease, claim, now_s, policy);
    lease->held = true;
    lease->tokens = tokens;
    lease->last_seen_s = now_s;
    lease->place = claim->place;
}

bool lease_goodbye(struct lease *lease, const struct lease_claim *claim, int64_t now_s,
                   const struct lease_policy *policy)
{
    // A copy that is refused knows the token too, but it is not at home.
    bool here =
        !claim->place.known || !lease->place.known || same_place(&lease->place, &claim->place);
    if (!lease->held || !here || !has_token(lease, claim))
        return false;
    const struct lease_rival rival = lease->rival;
    bool waits = has_rival(lease, now_s, policy);
    *lease = (struct lease){.last_seen_s = lease->last_seen_s};
    if (!waits)
        return true;
    // If it was a copy that goes, the one that it pushed out has it again, and nobody else.
    lease->held = true;
    lease->place = rival.place;
    lease->tokens = rival.tokens;
    lease->last_seen_s = rival.since_s;
    return true;
}
