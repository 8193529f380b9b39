// Block ciphers as tokens authenticate with them (PIV management keys); for nothing else.
#include "common/crypto_internal.h"

#include <openssl/err.h>

static const char *const names[] = {
    [BLOCK_3DES] = "DES-EDE3-ECB",
    [BLOCK_AES_128] = "AES-128-ECB",
    [BLOCK_AES_192] = "AES-192-ECB",
    [BLOCK_AES_256] = "AES-256-ECB",
};

bool crypto_block(enum crypto_block_cipher which, bool encrypt, const uint8_t *key, size_t key_len,
                  const uint8_t *in, size_t len, uint8_t *out)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, names[which], NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0;
    bool good = cipher != NULL && ctx != NULL &&
                (size_t)EVP_CIPHER_get_key_length(cipher) == key_len &&
                EVP_CipherInit_ex2(ctx, cipher, key, NULL, encrypt, NULL) == 1 &&
                EVP_CIPHER_CTX_set_padding(ctx, 0) == 1 &&
                EVP_CipherUpdate(ctx, out, &n, in, (int)len) == 1 && (size_t)n == len;
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    ERR_clear_error();
    return good;
}
