#include "services/trust/core/piv.h"

#include <string.h>

#define INS_SELECT 0xA4
#define INS_GET_DATA 0xCB
#define INS_GENERAL_AUTHENTICATE 0x87
#define INS_GET_RESPONSE 0xC0
#define CLA_CHAINED 0x10
#define KEY_CARD_AUTHENTICATION 0x9E
#define PART_BYTES 255
#define RSA_BYTES 256

void piv_command_init(struct piv_command *c, uint8_t ins, uint8_t p1, uint8_t p2,
                      const uint8_t *data, size_t len)
{
    memset(c, 0, sizeof *c);
    c->ins = ins;
    c->p1 = p1;
    c->p2 = p2;
    if (len > 0)
        memcpy(c->data, data, len);
    c->len = len;
}

void piv_select(struct piv_command *c)
{
    static const uint8_t aid[] = {0xA0, 0, 0, 0x03, 0x08, 0, 0, 0x10, 0};
    piv_command_init(c, INS_SELECT, 0x04, 0, aid, sizeof aid);
}

void piv_get_certificate(struct piv_command *c)
{
    static const uint8_t object[] = {0x5C, 0x03, 0x5F, 0xC1, 0x01};
    piv_command_init(c, INS_GET_DATA, 0x3F, 0xFF, object, sizeof object);
}

void piv_sign(struct piv_command *c, enum piv_algorithm algorithm, const uint8_t hash[static 32])
{
    // 7C { 82 (empty: wanted), 81 (what to sign) }
    static const uint8_t p256[] = {0x7C, 0x24, 0x82, 0x00, 0x81, 0x20};
    static const uint8_t rsa[] = {0x7C, 0x82, 0x01, 0x06, 0x82, 0x00, 0x81, 0x82, 0x01, 0x00};
    static const uint8_t digest_info[] = {0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60,
                                          0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
                                          0x01, 0x05, 0x00, 0x04, 0x20};
    uint8_t data[sizeof rsa + RSA_BYTES];
    size_t len;
    if (algorithm == PIV_P256) {
        memcpy(data, p256, sizeof p256);
        len = sizeof p256 + 32;
    } else {
        memcpy(data, rsa, sizeof rsa);
        len = sizeof rsa + RSA_BYTES;
        memset(data + sizeof rsa, 0xFF, RSA_BYTES);
        data[sizeof rsa] = 0x00;
        data[sizeof rsa + 1] = 0x01;
        data[len - 32 - sizeof digest_info - 1] = 0x00;
        memcpy(data + len - 32 - sizeof digest_info, digest_info, sizeof digest_info);
    }
    memcpy(data + len - 32, hash, 32);
    piv_command_init(c, INS_GENERAL_AUTHENTICATE, (uint8_t)algorithm, KEY_CARD_AUTHENTICATION, data,
                     len);
}

size_t piv_next(struct piv_command *c, uint8_t out[static PIV_APDU_BYTES_MAX])
{
    if (c->get_response) {
        const uint8_t apdu[] = {0, INS_GET_RESPONSE, 0, 0, c->le};
        memcpy(out, apdu, sizeof apdu);
        return sizeof apdu;
    }
    if (c->len == 0) {
        const uint8_t apdu[] = {0, c->ins, c->p1, c->p2, c->le};
        memcpy(out, apdu, sizeof apdu);
        return sizeof apdu;
    }
    size_t left = c->len - c->sent;
    bool last = left <= PART_BYTES;
    c->pending = last ? left : PART_BYTES;
    out[0] = last ? 0 : CLA_CHAINED;
    out[1] = c->ins;
    out[2] = c->p1;
    out[3] = c->p2;
    out[4] = (uint8_t)c->pending;
    memcpy(out + 5, c->data + c->sent, c->pending);
    if (!last || c->t0)
        return 5 + c->pending;
    out[5 + c->pending] = c->le;
    return 6 + c->pending;
}

enum piv_step piv_feed(struct piv_command *c, const uint8_t *answer, size_t len)
{
    if (len < 2 || ++c->rounds > PIV_ROUNDS_MAX)
        return PIV_MALFORMED;
    len -= 2;
    c->status = (uint16_t)(answer[len] << 8 | answer[len + 1]);
    uint8_t sw1 = answer[len], sw2 = answer[len + 1];
    if (sw1 == 0x6C) {
        if (c->again_used) // a card that never likes its own number
            return PIV_REFUSED;
        c->again_used = true;
        c->le = sw2;
        return PIV_MORE;
    }
    if (sw1 != 0x61 && c->status != 0x9000)
        return PIV_REFUSED;
    if (len > PIV_ANSWER_BYTES_MAX - c->answer_len)
        return PIV_MALFORMED;
    if (len > 0)
        memcpy(c->answer + c->answer_len, answer, len);
    c->answer_len += len;
    c->again_used = false;
    if (!c->get_response && c->sent + c->pending < c->len) {
        if (sw1 == 0x61 || len > 0) // nothing is to be answered before the last part
            return PIV_MALFORMED;
        c->sent += c->pending;
        return PIV_MORE;
    }
    if (sw1 != 0x61)
        return PIV_COMPLETE;
    c->get_response = true;
    c->le = sw2;
    return PIV_MORE;
}

bool piv_tlv_next(struct piv_tlv *out, const uint8_t *data, size_t len, size_t *pos)
{
    size_t i = *pos;
    if (i >= len)
        return false;
    uint32_t tag = data[i++];
    if ((tag & 0x1F) == 0x1F) {
        if (i >= len || (data[i] & 0x80) != 0) // two bytes are the longest tag in PIV
            return false;
        tag = tag << 8 | data[i++];
    }
    if (i >= len)
        return false;
    size_t n = data[i++];
    if (n >= 0x80) {
        size_t bytes = n & 0x7F;
        if (bytes == 0 || bytes > 3 || bytes > len - i)
            return false;
        for (n = 0; bytes > 0; bytes--)
            n = n << 8 | data[i++];
    }
    if (n > len - i)
        return false;
    *out = (struct piv_tlv){tag, data + i, n};
    *pos = i + n;
    return true;
}

// The one element of this tag that is all of data.
static bool unwrap(struct piv_tlv *out, uint32_t tag, const uint8_t *data, size_t len)
{
    size_t pos = 0;
    return piv_tlv_next(out, data, len, &pos) && pos == len && out->tag == tag;
}

enum piv_object piv_certificate(const uint8_t *data, size_t len, const uint8_t **der,
                                size_t *der_len)
{
    struct piv_tlv object, item;
    if (!unwrap(&object, 0x53, data, len))
        return PIV_OBJECT_MALFORMED;
    size_t pos = 0;
    bool compressed = false;
    *der = NULL;
    *der_len = 0;
    while (piv_tlv_next(&item, object.value, object.len, &pos)) {
        if (item.tag == 0x70) {
            if (*der != NULL)
                return PIV_OBJECT_MALFORMED;
            *der = item.value;
            *der_len = item.len;
        } else if (item.tag == 0x71) {
            compressed = item.len > 0 && (item.value[0] & 1) != 0;
        }
    }
    if (pos != object.len || *der_len == 0)
        return PIV_OBJECT_MALFORMED;
    return compressed ? PIV_OBJECT_COMPRESSED : PIV_OBJECT_GOOD;
}

bool piv_signature(const uint8_t *data, size_t len, const uint8_t **signature,
                   size_t *signature_len)
{
    struct piv_tlv template, item;
    if (!unwrap(&template, 0x7C, data, len) || !unwrap(&item, 0x82, template.value, template.len) ||
        item.len == 0)
        return false;
    *signature = item.value;
    *signature_len = item.len;
    return true;
}
