#include "services/trust/core/ccid.h"

#include <string.h>

#define DESCRIPTOR_TYPE 0x21
#define FEATURE_PARAMETERS_AUTO 0x02
#define FEATURE_VOLTAGE_AUTO 0x04
#define FEATURE_VOLTAGE_FIXED 0x08
#define FEATURE_TPDU 0x00010000
#define FEATURES_APDU 0x00060000

static uint32_t little_endian(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

bool ccid_reader_parse(struct ccid_reader *out, const uint8_t *data, size_t len)
{
    while (len >= 2 && data[0] >= 2 && data[0] <= len) {
        if (data[0] == CCID_DESCRIPTOR_BYTES && data[1] == DESCRIPTOR_TYPE) {
            out->voltages = data[5];
            out->features = little_endian(data + 40);
            out->max_message = little_endian(data + 44);
            return true;
        }
        len -= data[0];
        data += data[0];
    }
    return false;
}

enum ccid_level ccid_reader_level(const struct ccid_reader *reader)
{
    if ((reader->features & FEATURES_APDU) != 0)
        return CCID_LEVEL_APDU;
    bool tpdu = (reader->features & FEATURE_TPDU) != 0;
    return tpdu && (reader->features & FEATURE_PARAMETERS_AUTO) != 0 ? CCID_LEVEL_TPDU
                                                                     : CCID_LEVEL_OTHER;
}

bool ccid_atr_is_t0(const uint8_t *atr, size_t len)
{
    if (len < 2 || (atr[0] != 0x3B && atr[0] != 0x3F))
        return false;
    if ((atr[1] & 0x80) == 0) // without TD1
        return true;
    size_t at = 2; // TA1, TB1 and TC1 come before it, as far as they are there
    for (unsigned bit = 0x10; bit < 0x80; bit <<= 1)
        at += (atr[1] & bit) != 0;
    return at < len && (atr[at] & 0x0F) == 0;
}

size_t ccid_power_selects(const struct ccid_reader *reader, uint8_t out[static 3])
{
    size_t n = 0;
    if ((reader->features & (FEATURE_VOLTAGE_AUTO | FEATURE_VOLTAGE_FIXED)) == 0) {
        for (uint8_t i = 0; i < 3; i++) {
            if ((reader->voltages & 1 << i) != 0)
                out[n++] = (uint8_t)(i + 1);
        }
    }
    if (n == 0)
        out[n++] = 0;
    return n;
}

size_t ccid_build(uint8_t *out, size_t cap, enum ccid_message type, uint8_t seq, uint8_t param,
                  const uint8_t *data, size_t len)
{
    if (len > CCID_APDU_BYTES_MAX || cap < CCID_HEADER_BYTES + len)
        return 0;
    memset(out, 0, CCID_HEADER_BYTES);
    out[0] = (uint8_t)type;
    out[1] = (uint8_t)(len & 0xFF);
    out[2] = (uint8_t)(len >> 8);
    out[6] = seq;
    out[7] = param;
    if (len > 0)
        memcpy(out + CCID_HEADER_BYTES, data, len);
    return CCID_HEADER_BYTES + len;
}

enum ccid_outcome ccid_parse(struct ccid_answer *out, const uint8_t *frame, size_t len,
                             enum ccid_message type, uint8_t seq)
{
    *out = (struct ccid_answer){0};
    if (len < CCID_HEADER_BYTES || little_endian(frame + 1) != len - CCID_HEADER_BYTES)
        return CCID_MALFORMED;
    if (frame[6] != seq)
        return CCID_STALE;
    if (frame[0] != type || frame[5] != 0)
        return CCID_MALFORMED;
    switch (frame[7] >> 6) {
    case 0:
        break;
    case 1:
        out->error = frame[8];
        return (frame[7] & 3) == 2 ? CCID_NO_CARD : CCID_FAILED;
    case 2:
        return CCID_TIME_EXTENSION;
    default:
        return CCID_MALFORMED;
    }
    if ((frame[7] & 3) == 2)
        return CCID_NO_CARD;
    out->inactive = (frame[7] & 3) == 1;
    out->data = frame + CCID_HEADER_BYTES;
    out->len = len - CCID_HEADER_BYTES;
    return CCID_DONE;
}
