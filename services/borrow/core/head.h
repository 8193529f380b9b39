// Whether the ledger on disk is the one that the backend knows as the newest (borrow.md,
// "Persistence"): that is how a rollback or a deletion is found. Pure.
#pragma once

#include "services/borrow/core/ledger.h"

struct head {
    bool present;
    char epoch[LEDGER_EPOCH_LEN + 1]; // "": the backend does not say
    uint64_t sequence;
    uint8_t hash[32]; // SHA-256 of the ledger
};

enum head_fit {
    HEAD_FITS = 0,
    HEAD_UNREGISTERED, // the backend knows none: this one becomes the first
    HEAD_AHEAD,        // the very next one: it was written, but the backend was not told any more
    HEAD_MISSING,      // there is no ledger on disk, and the backend knows one
    HEAD_BEHIND,       // an older one: it was put back
    HEAD_FORKED,       // as new or newer, but not the continuation of what the backend knows
    HEAD_EPOCH,        // of another epoch: from before, or after, a ledger that was begun anew
    HEAD_FITS_COUNT
};

// ledger NULL: there is none on disk; hash is its SHA-256.
enum head_fit head_compare(const struct ledger *ledger, const uint8_t hash[static 32],
                           const struct head *backend);
// For people: what is wrong. "" where nothing is.
const char *head_fault(enum head_fit fit);
