#include "tools/berth-cloud/ledger_head.h"

#include <string.h>

// One side may not say its epoch; what is said must agree.
static bool same_epoch(const struct ledger_head *a, const struct ledger_head *b)
{
    return a->epoch[0] == '\0' || b->epoch[0] == '\0' || strcmp(a->epoch, b->epoch) == 0;
}

static bool follows(const struct ledger_head *head, const struct ledger_claim *claim)
{
    if (!same_epoch(head, &claim->head))
        return false;
    if (claim->has_previous)
        return claim->head.sequence == head->sequence + 1 &&
               strcmp(claim->previous, head->hash) == 0;
    return claim->head.sequence > head->sequence;
}

bool ledger_head_move(struct ledger_head *head, const struct ledger_claim *claim)
{
    if (!claim->head.present)
        return true;
    bool same = head->present && claim->head.sequence == head->sequence &&
                strcmp(claim->head.hash, head->hash) == 0 && same_epoch(head, &claim->head);
    if (head->present && !same && !follows(head, claim))
        return false;
    char epoch[sizeof head->epoch];
    memcpy(epoch, head->epoch, sizeof epoch);
    *head = claim->head;
    // Once said, the epoch stays.
    if (head->epoch[0] == '\0')
        memcpy(head->epoch, epoch, sizeof epoch);
    return true;
}
