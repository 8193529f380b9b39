// Shared by lend.c (from the call to the signed file) and lend_wait.c (from there to the answer).
#pragma once

#include "services/borrow/internal.h"

// A call that waits for its answer.
struct lending {
    TAILQ_ENTRY(lending) link;
    struct borrow *b;
    Berth__BorrowedLicense_Closure closure;
    void *closure_data; // NULL: it was answered, while the license was looked up
    struct mono_time deadline;
    bool finding;             // the license is being looked up
    struct book_entry *entry; // what it waits for
    char uuid[37], feature[65], host_id[HOSTID_MAX + 1];
    struct rules_ask ask;
};

void lending_add(struct borrow *b, struct lending *lending);           // with closure and data
void lending_fail(struct lending *lending, const Berth__Error *error); // and ends it
void lending_refuse(struct lending *lending, int code, const char *service, const char *reason,
                    const char *message); // likewise
void lending_wait(struct lending *lending, struct book_entry *entry);
// Fails those that wait for the entry, or for any that is not complete (entry NULL).
void lending_fail_waiting(struct borrow *b, const struct book_entry *entry,
                          const Berth__Error *error);
// Answers what is complete, and has written what there is to write.
void lend_go_on(struct borrow *b);
