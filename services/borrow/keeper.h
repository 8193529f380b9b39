// Keeps the book on disk, signed, and its head at the backend (borrow.md, "Persistence"). There is
// never more than one ledger that the backend does not know yet. What is found at the start and
// must not be believed ends the process with code 78, and a failed sync with 1. Loop thread.
#pragma once

#include "common/crypto.h"
#include "common/rpc.h"
#include "services/borrow/core/book.h"
#include "services/borrow/store.h"
#include "trust.pb-c.h"

enum keeper_outcome {
    KEEPER_DONE,          // all that was to be written is on disk, and the backend knows
    KEEPER_NOT_WRITTEN,   // nothing has changed on disk
    KEEPER_NOT_CONFIRMED, // it is on disk, and whether the backend knows is not known
};

struct keeper_setup {
    struct loop *loop;
    struct rpc_client *trust;
    struct book *book; // filled when opened
    const char *directory;
    const struct crypto_ca *vendor_ca; // NULL: none is known
    const struct store_io *io;
    struct metric_histogram *write_duration;
    void (*opened)(void *ctx);
    // A keeper_write or keeper_confirm has ended; it is idle. error (valid during the call) says
    // why when it is not done. Entries are on disk if they have `since`.
    void (*settled)(void *ctx, enum keeper_outcome outcome, const Berth__Error *error);
    void *ctx;
};

struct keeper;
void keeper_new(struct keeper **out, const struct keeper_setup *setup);
// The client to trust must have been freed: no call is on its way any more.
void keeper_free(struct keeper **keeper);
// From then on answers to calls mean nothing.
void keeper_stop(struct keeper *keeper);

// Each new verdict. With the first one the ledger is opened.
void keeper_verdict(struct keeper *keeper, const Berth__Verdict *verdict);
bool keeper_is_open(const struct keeper *keeper);
bool keeper_is_idle(const struct keeper *keeper);      // opened, and nothing is on its way
bool keeper_is_confirmed(const struct keeper *keeper); // the backend knows what is on disk
// Sequence numbers of the newest ledger on disk, and of the newest that the backend knows; 0: none.
uint64_t keeper_sequence(const struct keeper *keeper);
uint64_t keeper_confirmed(const struct keeper *keeper);

// Writes all entries that have their texts; ended ones are dropped. Idle and confirmed only.
void keeper_write(struct keeper *keeper);
// Tells the backend again of what is on disk. Idle only.
void keeper_confirm(struct keeper *keeper);
// trust was connected: if it was started anew it does not know what is on disk, and it tells the
// backend with every check.
void keeper_present(struct keeper *keeper);
