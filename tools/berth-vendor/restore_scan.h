// Finds what a server has provably lent in whatever is left: damaged ledgers, leftover .next files,
// borrowed license files. Nothing is believed but signatures.
#pragma once

#include "common/borrow_file.h"
#include "services/borrow/core/ledger.h"

struct restore_scan;
struct restore_scan *restore_scan_new(void);
void restore_scan_free(struct restore_scan **scan);
// Collects the blocks and certificates in a text, which must live as long as the scan.
void restore_scan_add(struct restore_scan *scan, const char *text, size_t len);

struct restored {
    struct ledger_record *records; // one for each borrow ID; of the scan, as all in it
    size_t records_len;
    size_t unproven; // borrow blocks for which no license block and certificate make a good file
    size_t foreign;  // good ones of other servers
    size_t ended;    // good ones whose period has ended at now
};
void restore_scan_prove(struct restore_scan *scan, const struct crypto_ca *vendor_ca,
                        const char *server_id, struct wall_time now, struct restored *out);
