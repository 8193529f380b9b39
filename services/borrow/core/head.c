#include "services/borrow/core/head.h"

#include <string.h>

enum head_fit head_compare(const struct ledger *ledger, const uint8_t hash[static 32],
                           const struct head *backend)
{
    if (!backend->present)
        return ledger ? HEAD_UNREGISTERED : HEAD_FITS;
    if (!ledger)
        return HEAD_MISSING;
    // A backend need not remember epochs; the hash is of one epoch too.
    if (*backend->epoch && strcmp(ledger->epoch, backend->epoch))
        return HEAD_EPOCH;
    if (ledger->sequence < backend->sequence)
        return HEAD_BEHIND;
    if (ledger->sequence == backend->sequence)
        return memcmp(hash, backend->hash, sizeof backend->hash) ? HEAD_FORKED : HEAD_FITS;
    bool continues = ledger->sequence - backend->sequence == 1 &&
                     !memcmp(ledger->previous, backend->hash, sizeof backend->hash);
    return continues ? HEAD_AHEAD : HEAD_FORKED;
}

const char *head_fault(enum head_fit fit)
{
    static const char *const faults[HEAD_FITS_COUNT] = {
        [HEAD_FITS] = "",
        [HEAD_UNREGISTERED] = "",
        [HEAD_AHEAD] = "",
        [HEAD_MISSING] = "is missing, though the vendor's backend remembers one of this server",
        [HEAD_BEHIND] = "is older than the one that the vendor's backend remembers: an old copy "
                        "was put back",
        [HEAD_FORKED] = "does not continue the one that the vendor's backend remembers: it is from "
                        "a copy of this server",
        [HEAD_EPOCH] = "was begun apart from the one that the vendor's backend remembers: one of "
                       "the two was restored; if it is this one, the vendor must make the backend "
                       "forget the other (berth-cloud forget-ledger)",
    };
    return fit < HEAD_FITS_COUNT ? faults[fit] : "";
}
