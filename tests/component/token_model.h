// An emulated token: a CCID reader with a PIV card that makes real signatures and misbehaves on
// command. It takes and gives frames; time and the way in are its user's.
#pragma once

#include "common/crypto.h"
#include "services/trust/core/ccid.h"

enum token_fault {
    TOKEN_GOOD,
    TOKEN_TIME_EXTENSIONS,         // three before each answer: harmless
    TOKEN_ENDLESS_TIME_EXTENSIONS, // to the signature
    TOKEN_STALE_FRAMES,            // ten before each answer: harmless
    TOKEN_MANY_STALE_FRAMES,
    TOKEN_EMPTY_READS, // three before each answer: harmless
    TOKEN_ENDLESS_EMPTY_READS,
    TOKEN_SMALL_PARTS, // answers in parts of 40 bytes: harmless
    TOKEN_WANTS_LE,    // 6Cxx: harmless
    TOKEN_ONLY_5V,     // the first voltage that it takes
    TOKEN_NO_VOLTAGE,
    TOKEN_NO_CARD,
    TOKEN_NO_PIV,
    TOKEN_NO_CERTIFICATE,
    TOKEN_BROKEN_OBJECT,
    TOKEN_COMPRESSED,
    TOKEN_WRONG_SIGNATURE,
    TOKEN_OTHER_KEY, // a copied certificate
    TOKEN_OLD_SIGNATURE,
    TOKEN_REFUSES_TO_SIGN,
    TOKEN_SILENT,
    TOKEN_SILENT_AT_SIGNATURE,
    TOKEN_REMOVED,
    TOKEN_REMOVED_AT_SIGNATURE,
    TOKEN_GARBAGE,
    TOKEN_SHORT_FRAMES,
    TOKEN_RESET, // the card has lost its power
};

struct token;

// The certificate is for the key, or for another with TOKEN_OTHER_KEY.
struct token *token_new(const struct crypto_cert *cert, const struct crypto_key *key);
void token_free(struct token **token);
void token_misbehave(struct token *token, enum token_fault fault);
int token_send(struct token *token, const uint8_t *frame, size_t len);
// As dongle_io.receive: -ETIMEDOUT at once if there is nothing.
int token_receive(struct token *token, uint8_t *out, size_t cap);
