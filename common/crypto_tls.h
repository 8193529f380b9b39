// TLS 1.3 between Berth's own processes, over a byte stream that somebody else moves: bytes go in
// and come out, there is no I/O. Both sides show a certificate of the installation's own CA
// (trust.md, "Who may talk to trust"); the common name says which process it is.
#pragma once

#include "common/core/buf.h"
#include "common/core/error.h"

#include <stdbool.h>
#include <stddef.h>

#define CRYPTO_TLS_NAME_MAX 64

struct crypto_tls_identity; // the CA, this process's certificate and its key
// The files are PEM. -EINVAL, err naming the file, if one is not what it should be or key and
// certificate do not belong together.
int crypto_tls_identity_load(struct crypto_tls_identity **out, const char *ca_path,
                             const char *certificate_path, const char *key_path,
                             struct error *err);
// One more owner, who frees it as well.
struct crypto_tls_identity *crypto_tls_identity_hold(struct crypto_tls_identity *identity);
void crypto_tls_identity_free(struct crypto_tls_identity **identity);

// For a library that makes its TLS contexts itself (an SSL_CTX of OpenSSL): the certificate that it
// shows, and its key, without a file. -EINVAL if they are not taken.
struct crypto_cert;
struct crypto_key;
int crypto_tls_context_use(void *ssl_ctx, const struct crypto_cert *cert,
                           const struct crypto_key *key);
// Takes the peer's certificate also up to a day before it begins and after it ends, by this host's
// clock: who tells the right time must be reached when the clock is somewhat wrong.
void crypto_tls_context_tolerate_clock(void *ssl_ctx);
#define CRYPTO_TLS_CLOCK_TOLERANCE_S (24 * 3600)

struct crypto_tls; // one connection; the identity must live as long
struct crypto_tls *crypto_tls_new(const struct crypto_tls_identity *identity, bool server);
void crypto_tls_free(struct crypto_tls **tls);
// Takes what has arrived (len may be 0: begin). Appends what the peer says to plain, and what must
// be sent to wire, also when it fails (an alert). 0, or -EPROTO with the reason: the connection is
// of no use any more.
int crypto_tls_receive(struct crypto_tls *tls, const void *bytes, size_t len, struct buf *plain,
                       struct buf *wire, struct error *err);
// The handshake is through, and the peer's certificate is of our CA.
bool crypto_tls_ready(const struct crypto_tls *tls);
// Appends the records that carry these bytes to wire. Only when ready. 0 or -EPROTO.
int crypto_tls_send(struct crypto_tls *tls, const void *plain, size_t len, struct buf *wire,
                    struct error *err);
// Common name of the peer's certificate; "" before it is ready.
const char *crypto_tls_peer(const struct crypto_tls *tls);
