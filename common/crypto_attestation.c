// Whose key is to be certified: requests, and proofs that a key was made in a token (berth-vendor).
#include "common/core/text.h"
#include "common/crypto_internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_BYTES_MAX 65536
// What a YubiKey says of an attested key: one byte PIN policy, one byte touch policy; 1: never.
#define OID_YUBICO_POLICY "1.3.6.1.4.1.41482.3.8"
#define YUBICO_SUBJECT "YubiKey PIV Attestation "

// The public key in a request that its private key has signed, or a bare one. NULL: neither.
static EVP_PKEY *public_of(BIO *bio)
{
    X509_REQ *request = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    if (request == NULL) {
        BIO_reset(bio);
        return PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    }
    EVP_PKEY *key = X509_REQ_get_pubkey(request);
    if (key != NULL && X509_REQ_verify(request, key) != 1) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    X509_REQ_free(request);
    return key;
}

int crypto_public_load(struct crypto_key **out, const char *pem, size_t len, struct error *err)
{
    BIO *bio = len <= REQUEST_BYTES_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;
    EVP_PKEY *pkey = bio != NULL ? public_of(bio) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    if (pkey == NULL)
        return error_set(err, "neither a certificate request with a good signature nor a public "
                              "key, in PEM"),
               -EINVAL;
    if (crypto_pkey_kind(pkey) == KEY_OTHER) {
        EVP_PKEY_free(pkey);
        return error_set(err, "the key is neither ECDSA P-256 nor RSA-2048"), -EINVAL;
    }
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        abort();
    (*out)->pkey = pkey;
    return 0;
}

int crypto_public_point(struct crypto_key **out, const uint8_t point[static 65])
{
    char group[] = "prime256v1";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string("group", group, 0),
        OSSL_PARAM_construct_octet_string("pub", (void *)(uintptr_t)point, 65),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    bool good = ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
                EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) == 1;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    if (!good)
        return -EINVAL;
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        abort();
    (*out)->pkey = pkey;
    return 0;
}

static int chain_check(struct crypto_cert *const *chain, size_t n, struct wall_time now,
                       struct error *err)
{
    X509 *root = crypto_cert_x509(chain[n - 1]);
    STACK_OF(X509) *between = sk_X509_new_null();
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    if (between == NULL || store == NULL || ctx == NULL || X509_STORE_add_cert(store, root) != 1)
        abort();
    for (size_t i = 1; i + 1 < n; i++)
        sk_X509_push(between, crypto_cert_x509(chain[i]));
    bool good = X509_STORE_CTX_init(ctx, store, crypto_cert_x509(chain[0]), between) == 1;
    if (good) {
        X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(ctx), (time_t)now.s);
        good = X509_verify_cert(ctx) == 1;
    }
    if (!good)
        error_set(err, "the attestation does not lead to its last certificate: %s",
                  X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    sk_X509_free(between);
    ERR_clear_error();
    return good ? 0 : -EINVAL;
}

// A key that wants a PIN or a touch cannot serve unattended; one of another slot is not asked for.
static int policy_check(const struct crypto_cert *cert, struct error *err)
{
    char name[65];
    size_t prefix = sizeof YUBICO_SUBJECT - 1;
    if (crypto_cert_common_name(cert, name, sizeof name) == 0 &&
        strncmp(name, YUBICO_SUBJECT, prefix) == 0 && strcmp(name + prefix, "9e") != 0)
        return error_set(err, "the attestation is for slot %s, not for 9e", name + prefix), -EINVAL;
    ASN1_OBJECT *oid = OBJ_txt2obj(OID_YUBICO_POLICY, 1);
    int at = X509_get_ext_by_OBJ(crypto_cert_x509(cert), oid, -1);
    ASN1_OBJECT_free(oid);
    if (at < 0)
        return 0;
    const ASN1_OCTET_STRING *value =
        X509_EXTENSION_get_data(X509_get_ext(crypto_cert_x509(cert), at));
    const unsigned char *policy = ASN1_STRING_get0_data(value);
    if (ASN1_STRING_length(value) == 2 && policy[0] == 1 && policy[1] == 1)
        return 0;
    return error_set(err, "the key wants a PIN or a touch: make it with --pin-policy NEVER "
                          "--touch-policy NEVER"),
           -EINVAL;
}

int crypto_attestation_check(const struct crypto_key *key, struct crypto_cert *const *chain,
                             size_t n, struct wall_time now, struct error *err)
{
    if (n < 2 || X509_self_signed(crypto_cert_x509(chain[n - 1]), 1) != 1) {
        ERR_clear_error();
        return error_set(err, "the attestation must end with the token maker's root certificate: "
                              "give the attestation first, then what signed it, the root last"),
               -EINVAL;
    }
    int r = chain_check(chain, n, now, err);
    if (r == 0 && !crypto_cert_matches_key(chain[0], key))
        r = (error_set(err, "the attestation is for another key"), -EINVAL);
    return r < 0 ? r : policy_check(chain[0], err);
}

size_t crypto_cert_der(const struct crypto_cert *cert, uint8_t *out, size_t cap)
{
    int len = i2d_X509(crypto_cert_x509(cert), NULL);
    if (len <= 0 || (size_t)len > cap)
        return 0;
    return (size_t)i2d_X509(crypto_cert_x509(cert), &out);
}

void crypto_cert_fingerprint(const struct crypto_cert *cert, char out[static 65])
{
    unsigned char *der = NULL;
    uint8_t hash[32];
    int len = i2d_X509(crypto_cert_x509(cert), &der);
    if (len <= 0)
        abort();
    crypto_sha256(der, (size_t)len, hash);
    OPENSSL_free(der);
    hex_encode(hash, sizeof hash, out);
}
