// The ledger of borrows and its signature file (borrow.md, "Persistence"). Both are text. There is
// exactly one encoding of a ledger and of a signature file: decoding refuses every other one, so
// that together with the signature no byte can be altered.
#pragma once

#include "common/core/arena.h"
#include "common/core/borrow_block.h"
#include "common/core/buf.h"
#include "common/core/error.h"

#define LEDGER_RECORDS_MAX 100000
#define LEDGER_PART_BYTES_MAX (64 * 1024)
#define LEDGER_BYTES_MAX (256 * 1024 * 1024)
#define LEDGER_SIGNATURE_FILE_BYTES 8192
#define LEDGER_SIGNATURE_BYTES_MAX 256
#define LEDGER_EPOCH_LEN 32 // lower-case hex
#define LEDGER_SIGN_LABEL "berth-ledger-v1\n"

struct ledger_text {
    const char *p;
    size_t len;
};

// The borrowed license file is vendor + own + certificate, byte for byte.
struct ledger_record {
    const struct borrow_fields *fields; // as they stand in own
    struct ledger_text vendor;          // shared by many records, stored once
    struct ledger_text own;             // the borrow block and its signature
    struct ledger_text certificate;     // shared as well
};

struct ledger {
    char server_id[65];
    char epoch[LEDGER_EPOCH_LEN + 1];
    uint64_t sequence;
    uint8_t previous[32]; // SHA-256 of the ledger before this one; zeros for the first
    struct ledger_record *records;
    size_t records_len;
};

// Sorts the records by borrow ID (no two alike) and appends the file to out.
void ledger_encode(struct ledger *ledger, struct buf *out);
// 0, or -EINVAL with what is wrong. Records lie in the arena; their texts point into text.
int ledger_decode(struct ledger *out, struct arena *arena, const char *text, size_t len,
                  struct error *err);

// The signature file: of the signature and the certificate (PEM) whose key made it.
struct ledger_signature {
    uint8_t bytes[LEDGER_SIGNATURE_BYTES_MAX];
    size_t len;
    struct ledger_text certificate; // one PEM certificate, with its last line feed
};
// Appends LEDGER_SIGNATURE_FILE_BYTES to out; -EINVAL if it does not fit or is no PEM text.
int ledger_signature_encode(const struct ledger_signature *signature, struct buf *out);
// The certificate points into text.
int ledger_signature_decode(struct ledger_signature *out, const char *text, size_t len,
                            struct error *err);

// What is signed, after LEDGER_SIGN_LABEL: the certificate's text (of which more than one spelling
// would be accepted as the same certificate) and the SHA-256 of the ledger.
void ledger_signed_text(struct ledger_text certificate, const uint8_t ledger_sha256[static 32],
                        struct buf *out);

// Says whether the signature over the ledger is by the certificate, and the certificate is trusted.
typedef int ledger_verify_fn(void *ctx, const struct ledger_signature *signature,
                             struct ledger_text ledger, struct error *err);
// The signature first, then the ledger is decoded. 0 or negative, err saying which file.
int ledger_open(struct ledger *out, struct arena *arena, struct ledger_text ledger,
                struct ledger_text signature, ledger_verify_fn *verify, void *ctx,
                struct error *err);
