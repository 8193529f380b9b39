#include "services/trust/core/piv_admin.h"

#include <string.h>

#define INS_GET_METADATA 0xF7
#define INS_GENERAL_AUTHENTICATE 0x87
#define INS_GENERATE 0x47
#define INS_PUT_DATA 0xDB
#define KEY_MANAGEMENT 0x9B
#define KEY_CARD_AUTHENTICATION 0x9E
#define OBJECT_HEAD 9 // 5C 03 5FC101 53 82 LL LL
#define CERT_HEAD 4   // 70 82 LL LL
#define OBJECT_TAIL 5 // 71 01 00, FE 00

void piv_get_metadata(struct piv_command *c)
{
    piv_command_init(c, INS_GET_METADATA, 0, KEY_MANAGEMENT, NULL, 0);
}

bool piv_metadata_cipher(const uint8_t *data, size_t len, enum piv_cipher *out)
{
    struct piv_tlv item;
    for (size_t pos = 0; piv_tlv_next(&item, data, len, &pos);) {
        if (item.tag != 0x01 || item.len != 1)
            continue;
        *out = (enum piv_cipher)item.value[0];
        return *out == PIV_3DES || *out == PIV_AES_128 || *out == PIV_AES_192 ||
               *out == PIV_AES_256;
    }
    return false;
}

void piv_ask_witness(struct piv_command *c, enum piv_cipher cipher)
{
    static const uint8_t wanted[] = {0x7C, 0x02, 0x80, 0x00};
    piv_command_init(c, INS_GENERAL_AUTHENTICATE, (uint8_t)cipher, KEY_MANAGEMENT, wanted,
                     sizeof wanted);
}

// 7C { tag: one block }
static bool take_block(const uint8_t *data, size_t len, uint8_t tag, size_t block, uint8_t *out)
{
    struct piv_tlv template, item;
    size_t pos = 0, inner = 0;
    if (block > PIV_BLOCK_BYTES_MAX || !piv_tlv_next(&template, data, len, &pos) ||
        template.tag != 0x7C || !piv_tlv_next(&item, template.value, template.len, &inner) ||
        item.tag != tag || item.len != block)
        return false;
    memcpy(out, item.value, block);
    return true;
}

bool piv_witness(const uint8_t *data, size_t len, size_t block,
                 uint8_t out[static PIV_BLOCK_BYTES_MAX])
{
    return take_block(data, len, 0x80, block, out);
}

void piv_authenticate(struct piv_command *c, enum piv_cipher cipher, const uint8_t *witness,
                      const uint8_t *challenge, size_t block)
{
    uint8_t data[2 + 2 * (2 + PIV_BLOCK_BYTES_MAX)] = {0x7C, (uint8_t)(2 * (2 + block))};
    uint8_t *first = data + 2, *second = first + 2 + block;
    first[0] = 0x80;
    first[1] = second[1] = (uint8_t)block;
    memcpy(first + 2, witness, block);
    second[0] = 0x81;
    memcpy(second + 2, challenge, block);
    piv_command_init(c, INS_GENERAL_AUTHENTICATE, (uint8_t)cipher, KEY_MANAGEMENT, data,
                     2 + 2 * (2 + block));
}

bool piv_authenticated(const uint8_t *data, size_t len, size_t block,
                       uint8_t out[static PIV_BLOCK_BYTES_MAX])
{
    return take_block(data, len, 0x82, block, out);
}

void piv_generate(struct piv_command *c)
{
    static const uint8_t p256[] = {0xAC, 0x03, 0x80, 0x01, PIV_P256};
    piv_command_init(c, INS_GENERATE, 0, KEY_CARD_AUTHENTICATION, p256, sizeof p256);
}

bool piv_generated(const uint8_t *data, size_t len, uint8_t out[static PIV_POINT_BYTES])
{
    struct piv_tlv template, item;
    size_t pos = 0, inner = 0;
    if (!piv_tlv_next(&template, data, len, &pos) || template.tag != 0x7F49 ||
        !piv_tlv_next(&item, template.value, template.len, &inner) || item.tag != 0x86 ||
        item.len != PIV_POINT_BYTES)
        return false;
    memcpy(out, item.value, PIV_POINT_BYTES);
    return true;
}

bool piv_put_certificate(struct piv_command *c, const uint8_t *der, size_t len)
{
    uint8_t data[PIV_COMMAND_BYTES_MAX] = {0x5C, 0x03, 0x5F, 0xC1, 0x01, 0x53, 0x82};
    static const uint8_t tail[OBJECT_TAIL] = {0x71, 0x01, 0x00, 0xFE, 0x00};
    size_t object = CERT_HEAD + len + OBJECT_TAIL;
    if (len > sizeof data - OBJECT_HEAD - CERT_HEAD - OBJECT_TAIL)
        return false;
    const uint8_t lengths[] = {(uint8_t)(object >> 8), (uint8_t)object, 0x70, 0x82,
                               (uint8_t)(len >> 8),    (uint8_t)len};
    memcpy(data + 7, lengths, sizeof lengths);
    memcpy(data + OBJECT_HEAD + CERT_HEAD, der, len);
    memcpy(data + OBJECT_HEAD + CERT_HEAD + len, tail, sizeof tail);
    piv_command_init(c, INS_PUT_DATA, 0x3F, 0xFF, data, OBJECT_HEAD + object);
    return true;
}
