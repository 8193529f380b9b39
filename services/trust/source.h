// Where the server license is and how it is proven: one table of functions for each variant. The
// service asks for checks and turns what they find into the verdict.
#pragma once

#include "common/config.h"
#include "common/loop.h"
#include "common/server_license.h"
#include "services/trust/cloud_request.h"
#include "services/trust/core/verdict.h"

struct trust_source;

struct trust_result {
    enum verdict_check check;
    const char *reason; // CHECK_REFUSED: a constant; else ""
    char text[512];     // CHECK_FAILED: what went wrong, printable ASCII
    uint32_t next_check_s;
    bool date_known;
    struct wall_time date;
    int64_t took_ms;
    struct cloud_ledger ledger; // CHECK_OK, CHECK_REFUSED: the head that the backend knows
    char revoked_key_ids[CLOUD_REVOKED_KEYS_MAX][17]; // CHECK_OK
    size_t revoked_key_ids_len;
};

#define TRUST_SIGNATURE_BYTES_MAX 512

// One signature with the key of the server license. It is the caller's and stays where it is until
// done() has run, which it does once, on the loop thread, perhaps inside of sign().
struct trust_signature {
    uint8_t digest[32]; // in: SHA-256 of the purpose's label and the message, never foreign bytes
    void (*done)(struct trust_signature *signature);
    uint8_t bytes[TRUST_SIGNATURE_BYTES_MAX]; // out: ECDSA P-256 in DER, or RSA PKCS #1 v1.5
    size_t len;                               // 0: the key is not there, or does not sign
    struct trust_signature *next;             // the source's, while it waits
};

struct trust_events {
    // A check() has ended, or the source has found something new by itself.
    void (*checked)(void *ctx, const struct trust_result *result);
    // license() is another one: of the same server, unless another dongle was plugged in.
    void (*renewed)(void *ctx);
    void (*stopped)(void *ctx); // stop() has ended
    void *ctx;
};

// All on the loop thread.
struct trust_source_def {
    const char *variant;
    // How long a check counts, at most: 0: for trust.cloud.grace.
    int64_t lease_ms;
    const char *lapse_reason; // of a verdict whose last check counts no longer
    // Loads the server license. 0, or the exit code of the process with err for people. `config`
    // is only read during the call.
    int (*open)(struct trust_source **out, struct loop *loop, const struct config *config,
                const struct trust_events *events, struct error *err);
    const struct server_license *(*license)(const struct trust_source *source);
    const char *(*certificate)(const struct trust_source *source); // PEM, of license()
    const char *(*where)(const struct trust_source *source);       // who confirms it, for people
    // Blocks until the first check has ended; to be called once, before check().
    void (*first)(struct trust_source *source, struct trust_result *out);
    // Not while one runs; events.checked tells. `ledger` is only read during the call.
    void (*check)(struct trust_source *source, const struct trust_ledger *ledger);
    // With the key of license(). Signatures that wait end before free() returns.
    void (*sign)(struct trust_source *source, struct trust_signature *signature);
    // 0 or negative: nothing changed.
    int (*reload)(struct trust_source *source, const struct config *config, struct error *err);
    void (*stop)(struct trust_source *source); // releases the server license; events.stopped tells
    void (*free)(struct trust_source *source);
};

extern const struct trust_source_def trust_source_cloud;
extern const struct trust_source_def trust_source_dongle; // tells by itself what changes, too
