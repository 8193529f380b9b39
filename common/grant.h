// Grants: the proof that a licensed server answered this very request (trust.md, "Signing";
// docs/reference/grants.md). pool writes and signs them; clients verify them with the vendor's CA
// alone. Pure: the time stands in what is verified, the client's clock is not asked.
#pragma once

#include "common/core/arena.h"
#include "common/core/buf.h"
#include "common/crypto.h"
#include "common/server_license.h"

#define GRANT_LABEL "berth-grant-v1\n"
#define GRANT_DELEGATION_LABEL "berth-delegation-v1\n"
#define GRANT_TEXT_MAX_BYTES 1024
#define GRANT_NONCE_MAX_BYTES 64
#define GRANT_PART_MAX_BYTES (16 * 1024) // of payload, delegation, and certificate

// What a payload says. Strings are the caller's when it is written; when it was read they lie in
// the arena.
struct grant_facts {
    const uint8_t *nonce;
    size_t nonce_len;
    char session_hash[65]; // grant_session_hash
    const char *instance_id, *host_id;
    const char *feature, *uuid, *version, *edition, *modules; // of the license
    const char *server_id;
    struct wall_time time;
    uint32_t revalidate_within_s;
};

// SHA-256 of the session ID's text, in hex: a grant that is shown to others gives no session away.
void grant_session_hash(const char *session_id, char out[static 65]);
void grant_write_payload(struct buf *out, const struct grant_facts *facts); // appends JSON
// With an Ed25519 key. 0 or -errno.
int grant_sign(const struct crypto_key *key, const struct buf *payload,
               uint8_t signature[static ED25519_SIGNATURE_BYTES]);

// A delegation certifies the key that signs grants, for ten minutes.
struct grant_delegation {
    uint8_t key[ED25519_PUBLIC_BYTES];
    char server_id[65];
    struct wall_time from, until; // until: exclusive
};

// The two readers believe what they read: signatures are grant_verify's business. 0 or -EINVAL.
int grant_read_payload(struct grant_facts *out, struct arena *arena, const char *text, size_t len,
                       struct error *err);
int grant_read_delegation(struct grant_delegation *out, struct arena *arena, const char *text,
                          size_t len, struct error *err);

// As they stand in the answer's `grant`: base64, base64, base64, PEM.
struct grant_texts {
    const char *payload, *signature, *delegation, *certificate;
};
// What the client knows itself. The nonce shows that the grant is fresh.
struct grant_expected {
    const uint8_t *nonce;
    size_t nonce_len;
    const char *session_id, *instance_id, *host_id, *feature;
};

// Certificate of the vendor → delegation → payload → what was expected. 0, or -EACCES with err:
// what is wrong. *out (may be NULL) is filled if it returns 0; strings lie in the arena.
int grant_verify(struct grant_facts *out, struct arena *arena, const struct grant_texts *texts,
                 const struct grant_expected *expected, const struct crypto_ca *vendor_ca,
                 struct error *err);
