#include "tests/component/token_internal.h"

#include <errno.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

void token_add_tlv(struct buf *out, uint8_t tag, const void *value, size_t len)
{
    buf_add_char(out, (char)tag);
    buf_add_char(out, (char)0x82);
    buf_add_char(out, (char)(len >> 8));
    buf_add_char(out, (char)(len & 0xFF));
    buf_add(out, value, len);
}

void token_set_certificate(struct token *t, const void *object, size_t len)
{
    buf_clear(&t->object);
    token_add_tlv(&t->object, 0x53, object, len);
    t->low_len = (uint8_t)t->object.data[3];
}

struct token *token_new(const struct crypto_cert *cert, const struct crypto_key *key)
{
    struct token *t = calloc(1, sizeof *t);
    struct buf inner BUF_CLEANUP = {0};
    unsigned char *der = NULL;
    int len = i2d_X509(crypto_cert_x509(cert), &der);
    if (t == NULL || len <= 0)
        abort();
    token_add_tlv(&inner, 0x70, der, (size_t)len);
    OPENSSL_free(der);
    buf_add(&inner, "\x71\1\0\xFE\0", 5);
    token_set_certificate(t, inner.data, inner.len);
    EVP_PKEY_up_ref(key->pkey);
    t->key = key->pkey;
    return t;
}

void token_speak_t0(struct token *t)
{
    t->t0 = true;
}

void token_free(struct token **token)
{
    struct token *t = *token;
    for (size_t i = 0; i < QUEUE_MAX; i++)
        buf_fini(&t->queue[i]);
    buf_fini(&t->object);
    buf_fini(&t->chained);
    buf_fini(&t->left);
    buf_fini(&t->old_signature);
    EVP_PKEY_free(t->key);
    free(t);
    *token = NULL;
}

bool token_fault_named(const char *name, enum token_fault *out)
{
#define TOKEN_NAMED(constant, its_name) {constant, its_name},
    static const struct {
        enum token_fault fault;
        const char *name;
    } faults[] = {TOKEN_FAULTS(TOKEN_NAMED)};
#undef TOKEN_NAMED
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        *out = faults[i].fault;
        if (strcmp(faults[i].name, name) == 0)
            return true;
    }
    return false;
}

void token_misbehave(struct token *t, enum token_fault fault)
{
    t->fault = fault;
    t->removed = fault == TOKEN_REMOVED;
    if (fault == TOKEN_RESET)
        t->powered = false;
    if (t->object.len == 0)
        return;
    t->object.data[t->object.len - 3] = fault == TOKEN_COMPRESSED;
    t->object.data[3] = (char)(t->low_len + (fault == TOKEN_BROKEN_OBJECT));
}

// ---- frames out ----

static void queue_frame(struct token *t, uint8_t type, uint8_t seq, uint8_t status, uint8_t error,
                        const void *data, size_t len)
{
    if (t->count == QUEUE_MAX)
        abort();
    struct buf *b = &t->queue[(t->first + t->count++) % QUEUE_MAX];
    const uint8_t header[10] = {
        type, (uint8_t)len, (uint8_t)(len >> 8), 0, 0, 0, seq, status, error, 0};
    buf_clear(b);
    buf_add(b, header, sizeof header);
    buf_add(b, data, len);
}

static void answer(struct token *t, uint8_t type, uint8_t seq, uint8_t status, uint8_t error,
                   const void *data, size_t len)
{
    if (t->fault == TOKEN_STALE_FRAMES || t->fault == TOKEN_MANY_STALE_FRAMES) {
        for (int i = 0; i < (t->fault == TOKEN_STALE_FRAMES ? 10 : 11); i++)
            queue_frame(t, type, (uint8_t)(seq - 1 - i), 0, 0, "\x90", 2);
    }
    for (int i = 0; t->fault == TOKEN_TIME_EXTENSIONS && i < 3; i++)
        queue_frame(t, type, seq, 0x80, 1, "", 0);
    for (int i = 0; t->fault == TOKEN_EMPTY_READS && i < 3; i++) {
        queue_frame(t, type, seq, 0, 0, "", 0);
        buf_clear(&t->queue[(t->first + t->count - 1) % QUEUE_MAX]);
    }
    queue_frame(t, type, seq, status, error, data, len);
    struct buf *last = &t->queue[(t->first + t->count - 1) % QUEUE_MAX];
    if (t->fault == TOKEN_GARBAGE)
        memset(last->data, 0xA5, last->len);
    if (t->fault == TOKEN_SHORT_FRAMES)
        last->len--;
}

int token_receive(struct token *t, uint8_t *out, size_t cap)
{
    if (t->removed)
        return -ENODEV;
    if (t->endless && t->fault == TOKEN_ENDLESS_EMPTY_READS)
        return 0;
    if (t->endless) {
        const uint8_t frame[10] = {CCID_DATA_BLOCK, 0, 0, 0, 0, 0, t->last_seq, 0x80, 1, 0};
        memcpy(out, frame, sizeof frame);
        return sizeof frame;
    }
    if (t->count == 0)
        return -ETIMEDOUT;
    const struct buf *b = &t->queue[t->first];
    if (b->len > cap)
        abort();
    memcpy(out, b->data, b->len);
    t->first = (t->first + 1) % QUEUE_MAX;
    t->count--;
    return (int)b->len;
}

// ---- the card ----

static void give(struct token *t, uint8_t seq, const struct buf *data, uint16_t status)
{
    struct buf apdu BUF_CLEANUP = {0};
    size_t part = t->fault == TOKEN_SMALL_PARTS ? 40 : 256;
    if (t->t0 && data != &t->left) // T=0 takes data or gives some, and not both at once
        part = 0;
    if (data != &t->left) {
        buf_clear(&t->left);
        if (data != NULL)
            buf_add(&t->left, data->data, data->len);
    }
    if (part > t->left.len)
        part = t->left.len;
    buf_add(&apdu, t->left.data, part);
    buf_consume(&t->left, part);
    if (status == 0x9000 && t->left.len > 0)
        status = (uint16_t)(0x6100 | (t->left.len > 255 ? 0 : t->left.len));
    buf_add_char(&apdu, (char)(status >> 8));
    buf_add_char(&apdu, (char)(status & 0xFF));
    answer(t, CCID_DATA_BLOCK, seq, 0, 0, apdu.data, apdu.len);
}

static void sign(struct token *t, struct buf *out)
{
    bool rsa = EVP_PKEY_get_base_id(t->key) == EVP_PKEY_RSA;
    size_t n = rsa ? 256 : 32, len = 512;
    unsigned char signature[512];
    if (t->chained.len < n)
        abort();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(t->key, NULL);
    if (ctx == NULL || EVP_PKEY_sign_init(ctx) != 1 ||
        (rsa && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING) != 1) ||
        EVP_PKEY_sign(ctx, signature, &len, (unsigned char *)t->chained.data + t->chained.len - n,
                      n) != 1)
        abort();
    EVP_PKEY_CTX_free(ctx);
    if (t->fault == TOKEN_WRONG_SIGNATURE)
        signature[len - 1] ^= 1;
    if (t->fault == TOKEN_OLD_SIGNATURE && t->old_signature.len > 0) {
        len = t->old_signature.len;
        memcpy(signature, t->old_signature.data, len);
    }
    buf_clear(&t->old_signature);
    buf_add(&t->old_signature, signature, len);
    struct buf inner BUF_CLEANUP = {0};
    token_add_tlv(&inner, 0x82, signature, len);
    token_add_tlv(out, 0x7C, inner.data, inner.len);
}

static void on_sign(struct token *t, uint8_t seq)
{
    struct buf out BUF_CLEANUP = {0};
    if (t->fault == TOKEN_SILENT_AT_SIGNATURE)
        return;
    t->removed |= t->fault == TOKEN_REMOVED_AT_SIGNATURE;
    t->endless = t->fault == TOKEN_ENDLESS_TIME_EXTENSIONS;
    if (t->fault == TOKEN_REFUSES_TO_SIGN || t->key == NULL)
        return give(t, seq, NULL, 0x6982);
    sign(t, &out);
    give(t, seq, &out, 0x9000);
}

static void on_apdu(struct token *t, uint8_t seq, const uint8_t *apdu, size_t len)
{
    uint8_t ins = apdu[1], le = apdu[len - 1];
    struct buf admin BUF_CLEANUP = {0};
    uint16_t status;
    if (ins == 0xC0)
        return give(t, seq, &t->left, 0x9000);
    if (t->t0 && len != 5u + apdu[4])
        return answer(t, CCID_DATA_BLOCK, seq, 0, 0, "\x67", 2); // wrong length
    buf_add(&t->chained, apdu + 5, apdu[4]);
    if (apdu[0] == 0x10)
        return give(t, seq, NULL, 0x9000);
    if (t->fault == TOKEN_WANTS_LE && !t->t0 && le == 0) {
        t->chained.len -= apdu[4];
        return give(t, seq, NULL, 0x6C7F);
    }
    if (ins == 0xA4) {
        t->selected = t->fault != TOKEN_NO_PIV;
        give(t, seq, NULL, t->selected ? 0x9000 : 0x6A82);
    } else if (!t->selected) {
        give(t, seq, NULL, 0x6D00);
    } else if ((status = token_admin(t, apdu, &admin)) != 0) {
        give(t, seq, &admin, status);
    } else if (ins == 0xCB) {
        bool none = t->fault == TOKEN_NO_CERTIFICATE || t->object.len == 0;
        give(t, seq, none ? NULL : &t->object, none ? 0x6A82 : 0x9000);
    } else if (ins == 0x87) {
        on_sign(t, seq);
    } else {
        give(t, seq, NULL, 0x6D00);
    }
    buf_clear(&t->chained);
}

static void on_power_on(struct token *t, uint8_t seq, uint8_t select)
{
    bool bad = t->fault == TOKEN_NO_VOLTAGE || (t->fault == TOKEN_ONLY_5V && select != 1);
    t->powered = !bad;
    t->selected = t->authenticated = false;
    if (bad)
        answer(t, CCID_DATA_BLOCK, seq, 0x41, 7, "", 0);
    else
        answer(t, CCID_DATA_BLOCK, seq, 0, 0, t->t0 ? "\x3B\0" : "\x3B\x80\x01\x81", t->t0 ? 2 : 4);
}

int token_send(struct token *t, const uint8_t *frame, size_t len)
{
    if (t->removed)
        return -ENODEV;
    if (len < 10 || len - 10 != (size_t)(frame[1] | frame[2] << 8))
        abort();
    uint8_t seq = frame[6];
    t->last_seq = seq;
    t->endless = t->fault == TOKEN_ENDLESS_EMPTY_READS;
    if (t->fault == TOKEN_SILENT)
        return 0;
    uint8_t kind = frame[0] == CCID_ICC_POWER_ON || frame[0] == CCID_XFR_BLOCK ? CCID_DATA_BLOCK
                                                                               : CCID_SLOT_STATUS;
    if (t->fault == TOKEN_NO_CARD) {
        answer(t, kind, seq, 0x42, 0xFE, "", 0);
    } else if (frame[0] == CCID_ICC_POWER_ON) {
        on_power_on(t, seq, frame[7]);
    } else if (frame[0] == CCID_XFR_BLOCK && t->powered) {
        on_apdu(t, seq, frame + 10, len - 10);
    } else if (frame[0] == CCID_XFR_BLOCK) {
        answer(t, kind, seq, 0x41, 0xFE, "", 0);
    } else {
        t->powered &= frame[0] != CCID_ICC_POWER_OFF;
        answer(t, kind, seq, t->powered ? 0 : 1, 0, "", 0);
    }
    return 0;
}
