// The only caller of OpenSSL. Certificates and keys as the design uses them (licenses.md,
// "Certificates"; trust.md): X.509, Ed25519 license keys, ECDSA P-256 server keys.
#pragma once

#include "common/core/buf.h"
#include "common/core/error.h"
#include "common/core/times.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void crypto_random(void *out, size_t len); // aborts if the system has none
void crypto_sha256(const void *data, size_t len, uint8_t out[static 32]);
// Of a label and, without a gap, the data: what a signature of a domain of its own is made over.
void crypto_sha256_labelled(const char *label, const void *data, size_t len,
                            uint8_t out[static 32]);
bool crypto_equal(const void *a, const void *b, size_t len); // constant time
void crypto_wipe(void *data, size_t len);

#define ED25519_PUBLIC_BYTES 32
#define ED25519_SIGNATURE_BYTES 64
bool crypto_ed25519_verify(const uint8_t public_key[static 32], const uint8_t signature[static 64],
                           const void *data, size_t len);
void crypto_key_id(const uint8_t public_key[static 32], char out[static 17]); // 16 hex + NUL

// Before any key: private keys are kept in memory that is not swapped out and not dumped, and wiped
// when they go. False: it can be had, but not locked (RLIMIT_MEMLOCK).
bool crypto_secrets_lock(void);

struct crypto_key; // a private key
int crypto_key_new_ed25519(struct crypto_key **out);
int crypto_key_new_p256(struct crypto_key **out);
int crypto_key_load(struct crypto_key **out, const char *path, struct error *err); // PEM, PKCS#8
// Mode 0600, O_EXCL: an existing file is never overwritten (-EEXIST).
int crypto_key_save(const struct crypto_key *key, const char *path, struct error *err);
void crypto_key_free(struct crypto_key **key); // wipes
struct crypto_key *crypto_key_hold(const struct crypto_key *key); // one more handle, freed as well
int crypto_key_public_raw(const struct crypto_key *key, uint8_t out[static 32]); // Ed25519
// Ed25519, or ECDSA P-256 with SHA-256 (DER). *sig_len: room in, length out.
int crypto_sign(const struct crypto_key *key, const void *data, size_t len, uint8_t *sig,
                size_t *sig_len);
// The same with the SHA-256 of the data, as a token wants it: ECDSA P-256 (DER) or RSA (PKCS #1
// v1.5). Not for Ed25519, which has no such form.
int crypto_sign_digest(const struct crypto_key *key, const uint8_t digest[static 32], uint8_t *sig,
                       size_t *sig_len);

struct crypto_cert;
int crypto_cert_load_pem(struct crypto_cert **out, const char *pem, size_t len, struct error *err);
int crypto_cert_load_file(struct crypto_cert **out, const char *path, struct error *err);
int crypto_cert_load_der(struct crypto_cert **out, const uint8_t *der, size_t len,
                         struct error *err);
void crypto_cert_free(struct crypto_cert **cert);
struct crypto_cert *crypto_cert_hold(const struct crypto_cert *cert); // one more handle
int crypto_cert_common_name(const struct crypto_cert *cert, char *out, size_t cap);
struct wall_time crypto_cert_not_before(const struct crypto_cert *cert);
struct wall_time crypto_cert_not_after(const struct crypto_cert *cert);
// The certificate's public key, to issue another certificate for it; it cannot sign.
int crypto_cert_key(const struct crypto_cert *cert, struct crypto_key **out);
// For people: subject, issuer, serial number, validity, key and names; one a line, indented by two.
void crypto_cert_describe(const struct crypto_cert *cert, struct buf *out);
// The first DNS name without a wildcard among the subject alternative names; -ENOENT without one.
int crypto_cert_dns_name(const struct crypto_cert *cert, char *out, size_t cap);
enum crypto_key_kind { KEY_P256, KEY_RSA_2048, KEY_OTHER };
enum crypto_key_kind crypto_cert_key_kind(const struct crypto_cert *cert);
// A signature by the certificate's key: ECDSA P-256 (DER) or RSA-2048 (PKCS #1 v1.5) with SHA-256.
bool crypto_cert_signed(const struct crypto_cert *cert, const void *data, size_t len,
                        const uint8_t *sig, size_t sig_len);
// The same, given the SHA-256 of the data.
bool crypto_cert_signed_digest(const struct crypto_cert *cert, const uint8_t digest[static 32],
                               const uint8_t *sig, size_t sig_len);
bool crypto_cert_matches_key(const struct crypto_cert *cert, const struct crypto_key *key);
int crypto_cert_public_ed25519(const struct crypto_cert *cert, uint8_t out[static 32]);
size_t crypto_cert_der(const struct crypto_cert *cert, uint8_t *out, size_t cap); // 0: no room
char *crypto_cert_pem(const struct crypto_cert *cert); // malloc'd

// USAGE_RPC: both sides of TLS between Berth's own processes, of the installation's CA.
enum crypto_usage { USAGE_SERVER_LICENSE, USAGE_BACKEND_TLS, USAGE_LICENSE_KEY, USAGE_RPC };
#define OID_SERVER_LICENSE_EXTENSION "2.25.244255721912295177021812022050223189361.1"
#define OID_LICENSE_KEY_USAGE "2.25.244255721912295177021812022050223189361.2"

// No CA, made for signing, and with this extended key usage. Says nothing about trust.
bool crypto_cert_has_usage(const struct crypto_cert *cert, enum crypto_usage usage);
bool crypto_cert_is_ca(const struct crypto_cert *cert);

struct crypto_ca; // a bundle of trusted CA certificates
int crypto_ca_load_file(struct crypto_ca **out, const char *path, struct error *err);
int crypto_ca_load_pem(struct crypto_ca **out, const char *pem, size_t len, struct error *err);
void crypto_ca_free(struct crypto_ca **ca);
// Chain, key usage and extended key usage; validity at `now`. Distinguishes: 0 good, 1 expired,
// 2 not yet valid, negative: not trusted.
int crypto_cert_verify(const struct crypto_cert *cert, const struct crypto_ca *ca,
                       enum crypto_usage usage, struct wall_time now, struct error *err);

// The server license's extension: UTF-8 JSON of an OCTET STRING; malloc'd. -ENOENT without it.
int crypto_cert_extension(const struct crypto_cert *cert, const char *oid, char **json,
                          size_t *len);

// Issuing (berth-vendor).
struct crypto_issue {
    const char *common_name;
    struct wall_time not_before, not_after;
    bool ca;
    enum crypto_usage usage;     // when not ca
    const char *const *names;    // SANs (DNS names or IP addresses), NULL-terminated, or NULL
    const char *extension_json;  // for USAGE_SERVER_LICENSE, or NULL
};
// Self-signed if issuer is NULL. `subject` supplies the public key.
int crypto_cert_issue(struct crypto_cert **out, const struct crypto_issue *what,
                      const struct crypto_key *subject, const struct crypto_cert *issuer,
                      const struct crypto_key *issuer_key, struct error *err);

// The public key of a certificate request that its private key signed, or a bare public key; PEM;
// ECDSA P-256 or RSA-2048. It cannot sign.
int crypto_public_load(struct crypto_key **out, const char *pem, size_t len, struct error *err);
// Does this chain (the attestation, what signed it, ..., the token maker's root) say that the key
// was made in a token and works without PIN and touch? That the root is the maker's is for people
// to see. 0 or negative.
int crypto_attestation_check(const struct crypto_key *key, struct crypto_cert *const *chain,
                             size_t n, struct wall_time now, struct error *err);
void crypto_cert_fingerprint(const struct crypto_cert *cert, char out[static 65]); // SHA-256, hex
// The public key that an uncompressed point of P-256 is.
int crypto_public_point(struct crypto_key **out, const uint8_t point[static 65]);

enum crypto_block_cipher { BLOCK_3DES, BLOCK_AES_128, BLOCK_AES_192, BLOCK_AES_256 };
// Each block for itself: only for random ones. False: the key is of another length.
bool crypto_block(enum crypto_block_cipher which, bool encrypt, const uint8_t *key, size_t key_len,
                  const uint8_t *in, size_t len, uint8_t *out);
