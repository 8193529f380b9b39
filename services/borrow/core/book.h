// The borrows that there are, in memory: those in the ledger, and those that are being made, which
// hold their seats from the moment at which they were found to fit. Pure: now is an argument.
#pragma once

#include "services/borrow/core/interval.h"
#include "services/borrow/core/ledger.h"
#include "services/borrow/core/rules.h"

// A text that many entries share.
struct book_part {
    size_t refs, len;
    uint64_t hash;
    char text[];
};

struct book_entry {
    struct borrow_fields fields;
    struct book_part *vendor, *certificate; // NULL until it is signed
    char *own;                              // malloc'd; NULL until it is signed
    size_t own_len;
    uint64_t since;      // sequence number of a ledger that it is in; 0: it is on no disk
    bool in_write;       // of the ledger that is being written, and in none before
    uint64_t told_round; // of the link to pool
    bool pool_knows;     // pool was told at some time; what it forgets it is told before it issues
    unsigned waiters;    // calls that wait for it
    bool granted;        // and one was answered
};

struct book {
    struct book_entry **entries; // by borrow ID
    size_t len, cap;
    size_t unwritten; // of them, without `since`
    struct book_part **parts;
    size_t parts_len, parts_cap;
};

void book_fini(struct book *book); // entries too; they must have no waiters any more

static inline struct interval book_period(const struct book_entry *entry)
{
    return (struct interval){entry->fields.valid_from, entry->fields.valid_until};
}

// One that holds its seat from now on.
struct book_entry *book_add(struct book *book, const struct borrow_fields *fields);
// It is on disk.
void book_written(struct book *book, struct book_entry *entry, uint64_t sequence);
void book_remove(struct book *book, struct book_entry *entry);
// The texts that make up its file; copied.
void book_set_texts(struct book *book, struct book_entry *entry, struct ledger_text vendor,
                    struct ledger_text own, struct ledger_text certificate);
// All records of a ledger that was read, as on disk.
void book_load(struct book *book, const struct ledger *ledger);
// Removes those that have ended at now, and that nobody waits for.
void book_expire(struct book *book, struct wall_time now);

struct book_entry *book_find(const struct book *book, const char *borrow_id); // or NULL
// The borrow that the ask is a repetition of, or NULL.
struct book_entry *book_same(const struct book *book, const struct rules_ask *ask,
                             struct wall_time now);
// True if a seat of the license is free of borrows during the whole period, else the first stretch
// where none is. Costs O(entries), none of which has long ended.
bool book_fits(const struct book *book, const char *uuid, const char *feature,
               struct interval period, uint32_t count, struct interval *conflict);
// Those whose period has not ended.
size_t book_active(const struct book *book, struct wall_time now);

// Its record in a ledger; fields and texts are the entry's.
void book_record(const struct book_entry *entry, struct ledger_record *out);
