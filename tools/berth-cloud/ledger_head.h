// The newest state of a server's borrow ledger, moved by compare-and-swap, so that it never goes
// back and never forks (borrow.md, "Persistence"). Pure.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ledger_head {
    bool present;
    int64_t sequence;
    char hash[65];  // hex, lower case
    char epoch[33]; // likewise; "": not said
};

// What a server presents.
struct ledger_claim {
    struct ledger_head head; // .present false: nothing
    bool has_previous;
    char previous[65]; // the hash of the ledger that `head` follows
};

// Moves *head if the claim may: the first one; the same; with `previous`, only the very next one
// after the head that is `previous`; without, any later one. False: the claim is a ledger that was
// put back or copied, and *head is as it was.
bool ledger_head_move(struct ledger_head *head, const struct ledger_claim *claim);
