#include "tests/component/token_internal.h"

#include <stdlib.h>
#include <string.h>

#define CIPHER_3DES 0x03
#define CIPHER_AES_192 0x0A

struct token *token_new_blank(const char *cipher)
{
    struct token *t = calloc(1, sizeof *t);
    if (t == NULL)
        abort();
    t->cipher = strcmp(cipher, "aes192") == 0 ? CIPHER_AES_192 : CIPHER_3DES;
    for (uint8_t i = 0; i < 24; i++)
        t->management[i] = (uint8_t)(i % 8 + 1);
    if (t->cipher == CIPHER_AES_192 || strcmp(cipher, "3des") == 0)
        return t;
    free(t);
    return NULL;
}

static size_t block_bytes(const struct token *t)
{
    return t->cipher == CIPHER_3DES ? 8 : 16;
}

static void encrypt(const struct token *t, const uint8_t *in, uint8_t *out)
{
    if (!crypto_block(t->cipher == CIPHER_3DES ? BLOCK_3DES : BLOCK_AES_192, true, t->management,
                      24, in, block_bytes(t), out))
        abort();
}

static void add_block(struct buf *out, uint8_t tag, const uint8_t *block, size_t len)
{
    const uint8_t head[] = {0x7C, (uint8_t)(len + 2), tag, (uint8_t)len};
    buf_add(out, head, sizeof head);
    buf_add(out, block, len);
}

static uint16_t authenticate(struct token *t, struct buf *out)
{
    const uint8_t *in = (const uint8_t *)t->chained.data;
    size_t n = block_bytes(t);
    uint8_t block[16];
    if (t->chained.len == 4 && memcmp(in, "\x7C\2\x80\0", 4) == 0) {
        crypto_random(t->witness, n);
        encrypt(t, t->witness, block);
        add_block(out, 0x80, block, n);
        t->asked = true;
        return 0x9000;
    }
    bool good = t->asked && t->chained.len == 2 + 2 * (2 + n) && in[2] == 0x80 && in[3] == n &&
                memcmp(in + 4, t->witness, n) == 0 && in[4 + n] == 0x81;
    t->asked = false;
    if (!good)
        return 0x6982;
    encrypt(t, in + 6 + n, block);
    block[0] ^= t->fault == TOKEN_WRONG_RESPONSE;
    add_block(out, 0x82, block, n);
    t->authenticated = true;
    return 0x9000;
}

static uint16_t generate(struct token *t, struct buf *out)
{
    uint8_t point[65];
    size_t len;
    if (t->chained.len != 5 || memcmp(t->chained.data, "\xAC\3\x80\1\x11", 5) != 0)
        return 0x6A80;
    EVP_PKEY_free(t->key);
    t->key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    if (t->key == NULL ||
        EVP_PKEY_get_octet_string_param(t->key, "pub", point, sizeof point, &len) != 1)
        abort();
    const uint8_t head[] = {0x7F, 0x49, 67, 0x86, 65};
    buf_add(out, head, sizeof head);
    buf_add(out, point, len);
    return 0x9000;
}

static uint16_t put_data(struct token *t)
{
    const uint8_t *in = (const uint8_t *)t->chained.data;
    size_t len = t->chained.len;
    if (len < 9 || memcmp(in, "\x5C\3\x5F\xC1\1\x53\x82", 7) != 0 ||
        (size_t)(in[7] << 8 | in[8]) != len - 9)
        return 0x6A80;
    token_set_certificate(t, in + 9, len - 9);
    return 0x9000;
}

uint16_t token_admin(struct token *t, const uint8_t apdu[static 5], struct buf *out)
{
    uint8_t ins = apdu[1], key = apdu[3];
    if (ins == 0xF7 && t->cipher == CIPHER_AES_192) {
        buf_add(out, "\1\1\x0A\2\2\0\1\5\1\1", 10);
        return 0x9000;
    }
    if (ins == 0x87 && key == 0x9B)
        return apdu[2] == t->cipher ? authenticate(t, out) : 0x6A86;
    if (ins != 0x47 && ins != 0xDB)
        return 0;
    if (!t->authenticated)
        return 0x6982;
    return ins == 0x47 ? generate(t, out) : put_data(t);
}
