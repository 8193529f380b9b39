// An emulated token: a CCID reader with a PIV card that makes real signatures and misbehaves on
// command. It takes and gives frames; time and the way in are its user's.
#pragma once

#include "common/crypto.h"
#include "services/trust/core/ccid.h"

// X(constant, its name on a command line)
#define TOKEN_FAULTS(X)                                                                            \
    X(TOKEN_GOOD, "good")                                                                          \
    X(TOKEN_TIME_EXTENSIONS, "time-extensions") /* three before each answer: harmless */           \
    X(TOKEN_ENDLESS_TIME_EXTENSIONS, "endless-time-extensions") /* to the signature */             \
    X(TOKEN_STALE_FRAMES, "stale-frames") /* ten before each answer: harmless */                   \
    X(TOKEN_MANY_STALE_FRAMES, "many-stale-frames")                                                \
    X(TOKEN_EMPTY_READS, "empty-reads") /* three before each answer: harmless */                   \
    X(TOKEN_ENDLESS_EMPTY_READS, "endless-empty-reads")                                            \
    X(TOKEN_SMALL_PARTS, "small-parts") /* answers in parts of 40 bytes: harmless */               \
    X(TOKEN_WANTS_LE, "wants-le")       /* 6Cxx: harmless */                                       \
    X(TOKEN_ONLY_5V, "only-5v")         /* the first voltage that it takes */                      \
    X(TOKEN_NO_VOLTAGE, "no-voltage")                                                              \
    X(TOKEN_NO_CARD, "no-card")                                                                    \
    X(TOKEN_NO_PIV, "no-piv")                                                                      \
    X(TOKEN_NO_CERTIFICATE, "no-certificate")                                                      \
    X(TOKEN_BROKEN_OBJECT, "broken-object")                                                        \
    X(TOKEN_COMPRESSED, "compressed")                                                              \
    X(TOKEN_WRONG_SIGNATURE, "wrong-signature")                                                    \
    X(TOKEN_OLD_SIGNATURE, "old-signature")                                                        \
    X(TOKEN_WRONG_RESPONSE, "wrong-response") /* to who shows its management key */                \
    X(TOKEN_REFUSES_TO_SIGN, "refuses-to-sign")                                                    \
    X(TOKEN_SILENT, "silent")                                                                      \
    X(TOKEN_SILENT_AT_SIGNATURE, "silent-at-signature")                                            \
    X(TOKEN_REMOVED, "removed")                                                                    \
    X(TOKEN_REMOVED_AT_SIGNATURE, "removed-at-signature")                                          \
    X(TOKEN_GARBAGE, "garbage")                                                                    \
    X(TOKEN_SHORT_FRAMES, "short-frames")                                                          \
    X(TOKEN_RESET, "reset") /* the card has lost its power */

#define TOKEN_CONSTANT(constant, name) constant,
enum token_fault { TOKEN_FAULTS(TOKEN_CONSTANT) };
#undef TOKEN_CONSTANT

bool token_fault_named(const char *name, enum token_fault *out);

struct token;

// A copied certificate has another key.
struct token *token_new(const struct crypto_cert *cert, const struct crypto_key *key);
// A new one: without a key, with the public default management key for "3des" or "aes192" (which
// says so in its metadata). NULL: another cipher.
struct token *token_new_blank(const char *cipher);
void token_free(struct token **token);
void token_speak_t0(struct token *token); // with a reader at the TPDU level
void token_misbehave(struct token *token, enum token_fault fault);
int token_send(struct token *token, const uint8_t *frame, size_t len);
// As dongle_io.receive: -ETIMEDOUT at once if there is nothing.
int token_receive(struct token *token, uint8_t *out, size_t cap);
