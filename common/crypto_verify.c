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

bool crypto_cert_signed(const struct crypto_cert *cert, const void *data, size_t len,
                        const uint8_t *sig, size_t sig_len)
{
    if (crypto_cert_key_kind(cert) == KEY_OTHER)
        return false;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx != NULL &&
                EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL,
                                     X509_get0_pubkey(crypto_cert_x509(cert))) == 1 &&
                EVP_DigestVerify(ctx, sig, sig_len, data, len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return good;
}
