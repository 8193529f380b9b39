#include "common/crypto.h"

#include "common/core/text.h"
#include "common/crypto_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRETS_BYTES (64 * 1024)
#define SECRETS_BYTES_MIN 32

int crypto_fail(struct error *err, const char *what)
{
    unsigned long last = 0, system = 0;
    for (unsigned long code; (code = ERR_get_error()); last = code) {
        if (ERR_SYSTEM_ERROR(code))
            system = code;
    }
    const char *reason = last ? ERR_reason_error_string(last) : NULL;
    if (system && ERR_GET_REASON(last) == ERR_R_SYS_LIB) // of a file that cannot be opened
        reason = strerror(ERR_GET_REASON(system));
    error_set(err, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
    return -EINVAL;
}

void crypto_random(void *out, size_t len)
{
    if (len > INT32_MAX || RAND_bytes(out, (int)len) != 1)
        abort();
}

void crypto_sha256(const void *data, size_t len, uint8_t out[static 32])
{
    if (EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL) != 1)
        abort();
}

void crypto_sha256_labelled(const char *label, const void *data, size_t len,
                            uint8_t out[static 32])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1 ||
        EVP_DigestUpdate(ctx, label, strlen(label)) != 1 ||
        EVP_DigestUpdate(ctx, data, len) != 1 || EVP_DigestFinal_ex(ctx, out, NULL) != 1)
        abort();
    EVP_MD_CTX_free(ctx);
}

bool crypto_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

void crypto_wipe(void *data, size_t len)
{
    OPENSSL_cleanse(data, len);
}

bool crypto_ed25519_verify(const uint8_t public_key[static 32], const uint8_t signature[static 64],
                           const void *data, size_t len)
{
    EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, 32);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = pkey && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
                EVP_DigestVerify(ctx, signature, 64, data, len) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    ERR_clear_error();
    return good;
}

void crypto_key_id(const uint8_t public_key[static 32], char out[static 17])
{
    uint8_t digest[32];
    crypto_sha256(public_key, 32, digest);
    hex_encode(digest, 8, out);
}

// ---- private keys ----

static int key_wrap(struct crypto_key **out, EVP_PKEY *pkey)
{
    if (!pkey)
        return -EINVAL;
    *out = calloc(1, sizeof **out);
    if (!*out)
        abort();
    (*out)->pkey = pkey;
    return 0;
}

int crypto_key_new_ed25519(struct crypto_key **out)
{
    return key_wrap(out, EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"));
}

int crypto_key_new_p256(struct crypto_key **out)
{
    return key_wrap(out, EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"));
}

bool crypto_secrets_lock(void)
{
    return CRYPTO_secure_malloc_initialized() ||
           CRYPTO_secure_malloc_init(SECRETS_BYTES, SECRETS_BYTES_MIN) == 1;
}

// No passphrase is ever asked for on a terminal.
static int no_passphrase(char *buf, int size, int rwflag, void *u)
{
    (void)buf, (void)size, (void)rwflag, (void)u;
    return -1;
}

int crypto_key_load(struct crypto_key **out, const char *path, struct error *err)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        int r = -errno;
        error_set(err, "%s: %s", path, strerror(-r));
        return r;
    }
    char text[BUFSIZ]; // stdio's own would not be wiped
    setvbuf(f, text, _IOFBF, sizeof text);
    EVP_PKEY *pkey = PEM_read_PrivateKey(f, NULL, no_passphrase, NULL);
    fclose(f);
    crypto_wipe(text, sizeof text);
    if (!pkey) {
        crypto_fail(err, "not a private key in PEM without passphrase");
        error_prefix(err, "%s", path);
        return -EINVAL;
    }
    return key_wrap(out, pkey);
}

int crypto_key_save(const struct crypto_key *key, const char *path, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        int r = -errno;
        error_set(err, "%s: %s%s", path, strerror(-r),
                  r == -EEXIST ? " (keys are never overwritten)" : "");
        return r;
    }
    FILE *f = fdopen(fd, "w");
    if (!f)
        abort();
    bool good = PEM_write_PKCS8PrivateKey(f, key->pkey, NULL, NULL, 0, NULL, NULL) == 1;
    good = !fflush(f) && good && !fsync(fd);
    good = !fclose(f) && good;
    if (good)
        return 0;
    unlink(path); // half a key helps nobody, and would be in the way of the next try
    crypto_fail(err, "cannot be written");
    error_prefix(err, "%s", path);
    return -EIO;
}

void crypto_key_free(struct crypto_key **key)
{
    if (!*key)
        return;
    EVP_PKEY_free((*key)->pkey); // OpenSSL wipes the private part
    free(*key);
    *key = NULL;
}

struct crypto_key *crypto_key_hold(const struct crypto_key *key)
{
    struct crypto_key *held;
    if (EVP_PKEY_up_ref(key->pkey) != 1 || key_wrap(&held, key->pkey))
        abort();
    return held;
}

int crypto_key_public_raw(const struct crypto_key *key, uint8_t out[static 32])
{
    size_t len = 32;
    if (EVP_PKEY_get_raw_public_key(key->pkey, out, &len) == 1 && len == 32)
        return 0;
    ERR_clear_error();
    return -EINVAL;
}

int crypto_sign(const struct crypto_key *key, const void *data, size_t len, uint8_t *sig,
                size_t *sig_len)
{
    bool ed25519 = EVP_PKEY_get_base_id(key->pkey) == EVP_PKEY_ED25519;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const EVP_MD *digest = ed25519 ? NULL : EVP_sha256();
    bool good = ctx && EVP_DigestSignInit(ctx, NULL, digest, NULL, key->pkey) == 1 &&
                EVP_DigestSign(ctx, sig, sig_len, data, len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return good ? 0 : -EINVAL;
}

int crypto_sign_digest(const struct crypto_key *key, const uint8_t digest[static 32], uint8_t *sig,
                       size_t *sig_len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key->pkey, NULL);
    bool good = ctx && EVP_PKEY_sign_init(ctx) == 1 &&
                EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) == 1 &&
                EVP_PKEY_sign(ctx, sig, sig_len, digest, 32) == 1;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    return good ? 0 : -EINVAL;
}
