// A session with one token: a CCID reader with a PIV card whose certificate is a server license and
// whose key proves to be there (trust.md, "Dongle"). How bytes get to the token is behind a small
// table of functions. Blocks; one thread.
#pragma once

#include "common/server_license.h"
#include "services/trust/core/ccid.h"
#include "services/trust/core/piv.h"

#define DONGLE_TRANSFER_MS 900 // below 1 s; a token silent for so long is given up
#define DONGLE_COMMAND_MS 3000 // with all its parts and time extensions
#define DONGLE_SKIPPED_MAX 10  // stale frames, and empty reads
#define DONGLE_SIGNATURE_BYTES_MAX 256
#define DONGLE_CHALLENGE_LABEL "berth-dongle-v1\n"

struct dongle_io {
    // 0, or -ETIMEDOUT, -ENODEV (removed), -EIO. All of the frame or nothing.
    int (*send)(void *ctx, const uint8_t *data, size_t len, int64_t timeout_ms);
    // Bytes received (0: a zero-length packet), or negative as above.
    int (*receive)(void *ctx, uint8_t *data, size_t cap, int64_t timeout_ms);
    int64_t (*now_ms)(void *ctx);
    void *ctx;
};

// In the order in which they tell most: of several tokens the greatest is reported.
enum dongle_outcome {
    DONGLE_PROVEN,
    DONGLE_ABSENT,
    DONGLE_BUSY,
    DONGLE_NO_PERMISSION,
    DONGLE_UNSUPPORTED,
    DONGLE_CERTIFICATE,
    DONGLE_PROOF_FAILED,
    DONGLE_CLOCK,
    DONGLE_EXPIRED,
};

const char *dongle_reason(enum dongle_outcome outcome); // of api.md's reasons of 1004; "" if proven
const char *dongle_advice(enum dongle_outcome outcome); // a sentence: what to do

struct dongle {
    struct dongle_io io;
    struct ccid_reader reader;
    uint8_t seq;
    bool t0; // the reader is at the TPDU level, and its card speaks T=0
    struct crypto_cert *cert;
    struct server_license license;
};

// Powers the card and selects its PIV application, whatever else is on it. Of the reader what must
// be said of it. To be closed in every case.
enum dongle_outcome dongle_start(struct dongle *d, const struct dongle_io *io,
                                 const struct ccid_reader *reader, struct error *err);
// One command with its whole answer in it. DONGLE_PROVEN, or why not; err says the card's status.
enum dongle_outcome dongle_command(struct dongle *d, struct piv_command *c, struct error *err);
// Powers the card, reads its certificate and verifies it as a server license of the variant
// on-premises. On DONGLE_PROVEN here only the certificate is good: dongle_prove() is next. err says
// what was found otherwise. To be closed in every case.
enum dongle_outcome dongle_open(struct dongle *d, const struct dongle_io *io,
                                const struct ccid_reader *reader, const struct crypto_ca *vendor_ca,
                                struct wall_time now, struct error *err);
// Lets the token sign fresh random bytes and verifies that, and that the license is still valid.
enum dongle_outcome dongle_prove(struct dongle *d, struct wall_time now, struct error *err);
// Lets the token sign a SHA-256, and verifies what it gives: ECDSA P-256 (DER) or RSA (PKCS #1
// v1.5). The digest is never one of foreign bytes alone: a label of ours is in front of them.
enum dongle_outcome dongle_sign(struct dongle *d, const uint8_t digest[static 32],
                                uint8_t out[static DONGLE_SIGNATURE_BYTES_MAX], size_t *out_len,
                                struct error *err);
// Is the card still there and not reset? DONGLE_PROVEN or DONGLE_ABSENT.
enum dongle_outcome dongle_present(struct dongle *d, struct error *err);
void dongle_close(struct dongle *d);
