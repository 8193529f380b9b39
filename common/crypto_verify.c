// Signatures by the key of a certificate.
#include "common/crypto_internal.h"

#include <openssl/err.h>
#include <string.h>

enum crypto_key_kind crypto_pkey_kind(const EVP_PKEY *pkey)
{
    enum crypto_key_kind kind = KEY_OTHER;
    char group[32] = "";
    if (pkey != NULL && EVP_PKEY_get_base_id(pkey) == EVP_PKEY_RSA &&
        EVP_PKEY_get_bits(pkey) == 2048)
        kind = KEY_RSA_2048;
    else if (pkey != NULL && EVP_PKEY_get_base_id(pkey) == EVP_PKEY_EC &&
             EVP_PKEY_get_group_name(pkey, group, sizeof group, NULL) == 1 &&
             strcmp(group, "prime256v1") == 0)
        kind = KEY_P256;
    ERR_clear_error();
    return kind;
}

enum crypto_key_kind crypto_cert_key_kind(const struct crypto_cert *cert)
{
    return crypto_pkey_kind(X509_get0_pubkey(crypto_cert_x509(cert)));
}

bool crypto_cert_signed_digest(const struct crypto_cert *cert, const uint8_t digest[static 32],
                               const uint8_t *sig, size_t sig_len)
{
    if (crypto_cert_key_kind(cert) == KEY_OTHER)
        return false;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(X509_get0_pubkey(crypto_cert_x509(cert)), NULL);
    bool good = ctx != NULL && EVP_PKEY_verify_init(ctx) == 1 &&
                EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) == 1 &&
                EVP_PKEY_verify(ctx, sig, sig_len, digest, 32) == 1;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    return good;
}

bool crypto_cert_signed(const struct crypto_cert *cert, const void *data, size_t len,
                        const uint8_t *sig, size_t sig_len)
{
    uint8_t digest[32];
    crypto_sha256(data, len, digest);
    return crypto_cert_signed_digest(cert, digest, sig, sig_len);
}
