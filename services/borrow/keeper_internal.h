// Shared by keeper.c (writing) and keeper_open.c (what is found at the start).
#pragma once

#include "services/borrow/core/head.h"
#include "services/borrow/keeper.h"

struct keeper {
    struct keeper_setup setup;
    struct store *store; // NULL: nothing to keep yet
    char server_id[65];
    bool addon;
    bool stopped, opening, open, busy;
    bool check_signer;       // after the start, once it is confirmed
    bool resigning;          // the ledger is as it was, its signature is made anew
    struct loop_timer retry; // of opening, or of confirming
    int64_t backoff_ms;

    // What is on disk.
    struct buf ledger, signature;
    char epoch[LEDGER_EPOCH_LEN + 1];
    uint64_t sequence; // 0: there is none
    uint8_t hash[32], previous[32];
    bool reread;        // by this process only: a sync of it may have failed in another's life
    uint64_t confirmed; // sequence number

    // What is being written.
    struct buf next;
    uint8_t next_hash[32];
    uint8_t next_previous[32];
    struct buf certificate; // PEM of the one who signs, as far as known
    unsigned attempts;      // of signing
};

static inline ProtobufCService *keeper_trust(struct keeper *k)
{
    return rpc_client_service(k->setup.trust);
}

// keeper.c
void keeper_settle(struct keeper *k, enum keeper_outcome outcome, const Berth__Error *error);
// After the ledger was read: confirms it, and signs it anew if its signer is no longer the one.
void keeper_take_up(struct keeper *k);
// Ends the process: the disk cannot be believed.
void keeper_unsure(struct keeper *k, const char *why);

// keeper_open.c
int keeper_lock(struct keeper *k, struct error *err);
// Ends the process with 78, saying what to do about it.
void keeper_refuse(struct keeper *k, const char *what);
