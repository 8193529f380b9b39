#include "common/crypto_tls.h"

#include "common/crypto_internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RECORD_BYTES (16 * 1024)

struct crypto_tls_identity {
    SSL_CTX *ctx;
    unsigned owners;
};

struct crypto_tls {
    SSL *ssl;
    char peer[CRYPTO_TLS_NAME_MAX + 1];
};

static int context_fill(SSL_CTX *ctx, const char *ca, const char *certificate, const char *key,
                        struct error *err)
{
    const char *file = NULL;
    if (SSL_CTX_load_verify_file(ctx, ca) != 1)
        file = ca;
    else if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1)
        file = certificate;
    else if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(ctx) != 1)
        file = key;
    return file ? crypto_fail(err, file) : 0;
}

int crypto_tls_identity_load(struct crypto_tls_identity **out, const char *ca_path,
                             const char *certificate_path, const char *key_path, struct error *err)
{
    *out = NULL;
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1)
        abort();
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    // A connection lasts as long as its processes do: resumption would only be one more way in.
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 0);
    int r = context_fill(ctx, ca_path, certificate_path, key_path, err);
    if (r) {
        SSL_CTX_free(ctx);
        return r;
    }
    *out = malloc(sizeof **out);
    if (!*out)
        abort();
    (*out)->ctx = ctx;
    (*out)->owners = 1;
    return 0;
}

int crypto_tls_context_use(void *ssl_ctx, const struct crypto_cert *cert,
                           const struct crypto_key *key)
{
    if (SSL_CTX_use_certificate(ssl_ctx, crypto_cert_x509(cert)) == 1 &&
        SSL_CTX_use_PrivateKey(ssl_ctx, key->pkey) == 1)
        return 0;
    ERR_clear_error();
    return -EINVAL;
}

static int on_verify(int good, X509_STORE_CTX *store)
{
    int error = X509_STORE_CTX_get_error(store);
    bool early = error == X509_V_ERR_CERT_NOT_YET_VALID;
    if (good || (!early && error != X509_V_ERR_CERT_HAS_EXPIRED))
        return good;
    const X509 *cert = X509_STORE_CTX_get_current_cert(store);
    time_t moved = time(NULL) + (early ? 1 : -1) * CRYPTO_TLS_CLOCK_TOLERANCE_S;
    // X509_cmp_time is 0 for what is no time.
    bool near = early ? X509_cmp_time(X509_get0_notBefore(cert), &moved) < 0
                      : X509_cmp_time(X509_get0_notAfter(cert), &moved) > 0;
    if (near)
        X509_STORE_CTX_set_error(store, X509_V_OK);
    return near;
}

void crypto_tls_context_tolerate_clock(void *ssl_ctx)
{
    SSL_CTX_set_verify(ssl_ctx, SSL_CTX_get_verify_mode(ssl_ctx), on_verify);
}

struct crypto_tls_identity *crypto_tls_identity_hold(struct crypto_tls_identity *identity)
{
    identity->owners++;
    return identity;
}

void crypto_tls_identity_free(struct crypto_tls_identity **identity)
{
    if (!*identity)
        return;
    if (--(*identity)->owners == 0) {
        SSL_CTX_free((*identity)->ctx);
        free(*identity);
    }
    *identity = NULL;
}

struct crypto_tls *crypto_tls_new(const struct crypto_tls_identity *identity, bool server)
{
    struct crypto_tls *t = calloc(1, sizeof *t);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    if (!t || !in || !out || !(t->ssl = SSL_new(identity->ctx)))
        abort();
    SSL_set_bio(t->ssl, in, out);
    if (server)
        SSL_set_accept_state(t->ssl);
    else
        SSL_set_connect_state(t->ssl);
    return t;
}

void crypto_tls_free(struct crypto_tls **tls)
{
    if (!*tls)
        return;
    SSL_free((*tls)->ssl);
    free(*tls);
    *tls = NULL;
}

static void take_wire(struct crypto_tls *t, struct buf *wire)
{
    char *bytes;
    BIO *out = SSL_get_wbio(t->ssl);
    long n = BIO_get_mem_data(out, &bytes);
    if (n > 0)
        buf_add(wire, bytes, (size_t)n);
    (void)BIO_reset(out);
}

static int fail(struct crypto_tls *t, struct error *err)
{
    long verdict = SSL_get_verify_result(t->ssl);
    if (verdict != X509_V_OK) {
        error_set(err, "the peer's certificate: %s", X509_verify_cert_error_string(verdict));
        ERR_clear_error();
    } else {
        crypto_fail(err, "TLS");
    }
    return -EPROTO;
}

// 0: go on. 1: more bytes must arrive first.
static int step(struct crypto_tls *t, int result, struct error *err)
{
    if (result > 0)
        return 0;
    return SSL_get_error(t->ssl, result) == SSL_ERROR_WANT_READ ? 1 : fail(t, err);
}

static int handshake(struct crypto_tls *t, struct error *err)
{
    int r = step(t, SSL_do_handshake(t->ssl), err);
    if (r)
        return r;
    X509 *peer = SSL_get0_peer_certificate(t->ssl);
    int len = peer ? X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName, t->peer,
                                               sizeof t->peer)
                   : -1;
    if (len > 0 && strlen(t->peer) == (size_t)len)
        return 0;
    error_set(err, "the peer's certificate has no usable common name");
    return -EPROTO;
}

int crypto_tls_receive(struct crypto_tls *t, const void *bytes, size_t len, struct buf *plain,
                       struct buf *wire, struct error *err)
{
    if (len > INT32_MAX)
        return -EPROTO;
    ERR_clear_error();
    if (len && BIO_write(SSL_get_rbio(t->ssl), bytes, (int)len) != (int)len)
        abort();
    int r = t->peer[0] ? 0 : handshake(t, err);
    while (r == 0) {
        buf_reserve(plain, RECORD_BYTES);
        int n = SSL_read(t->ssl, plain->data + plain->len, RECORD_BYTES);
        r = step(t, n, err);
        if (n > 0)
            plain->len += (size_t)n;
    }
    take_wire(t, wire);
    return r < 0 ? r : 0;
}

bool crypto_tls_ready(const struct crypto_tls *t)
{
    return t->peer[0] != '\0';
}

int crypto_tls_send(struct crypto_tls *t, const void *plain, size_t len, struct buf *wire,
                    struct error *err)
{
    ERR_clear_error();
    size_t written = 0;
    bool sent = !len || (SSL_write_ex(t->ssl, plain, len, &written) == 1 && written == len);
    take_wire(t, wire);
    return sent ? 0 : fail(t, err);
}

const char *crypto_tls_peer(const struct crypto_tls *t)
{
    return t->peer;
}
