// The first byte says where the input is cut in two: what is read must not depend on it.
#include "common/core/http_framing.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct http_framing_limits limits = {
        .header_bytes = 512, .fields = 16, .header_cost = 900, .field_cost = 64, .body_bytes = 256};
    if (!size)
        return 0;
    size_t cut = data[0] % size, len = size - 1;
    data++;
    struct http_framing whole, parts;
    http_framing_init(&whole);
    http_framing_init(&parts);
    size_t pass = http_framing_feed(&whole, &limits, data, len);
    http_framing_feed(&parts, &limits, data, cut);
    http_framing_feed(&parts, &limits, data + cut, len - cut);
    if (pass > len || whole.phase != parts.phase || whole.refusal != parts.refusal ||
        whole.requests != parts.requests || whole.headers != parts.headers)
        abort();
    return 0;
}
