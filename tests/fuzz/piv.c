// What a card answers: APDUs, each with a byte before it that is its length.
#include "services/trust/core/piv_admin.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct piv_command c;
    static const uint8_t hash[32];
    uint8_t apdu[PIV_APDU_BYTES_MAX];
    if (size == 0)
        return 0;
    if ((data[0] & 1) != 0)
        piv_sign(&c, (data[0] & 2) != 0 ? PIV_P256 : PIV_RSA_2048, hash);
    else
        piv_get_certificate(&c);
    c.t0 = (data[0] & 4) != 0;
    enum piv_step step = PIV_MORE;
    for (size_t i = 1; i < size && step == PIV_MORE; i += 1u + data[i]) {
        if (piv_next(&c, apdu) > sizeof apdu || data[i] > size - i - 1)
            return 0;
        step = piv_feed(&c, data + i + 1, data[i]);
    }
    const uint8_t *part;
    size_t len;
    if (piv_certificate(c.answer, c.answer_len, &part, &len) != PIV_OBJECT_MALFORMED &&
        len > c.answer_len)
        abort();
    if (piv_signature(c.answer, c.answer_len, &part, &len) && len > c.answer_len)
        abort();
    uint8_t point[PIV_POINT_BYTES];
    enum piv_cipher cipher;
    piv_witness(c.answer, c.answer_len, 8, point);
    piv_authenticated(c.answer, c.answer_len, 16, point);
    piv_generated(c.answer, c.answer_len, point);
    piv_metadata_cipher(c.answer, c.answer_len, &cipher);
    return 0;
}
