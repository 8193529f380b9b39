// What a USB device sends: one frame, and a class descriptor.
#include "services/trust/core/ccid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ccid_answer answer;
    struct ccid_reader reader = {0};
    uint8_t selects[3];
    volatile uint8_t sink = 0;
    if (ccid_parse(&answer, data, size, CCID_DATA_BLOCK, 0) == CCID_DONE && answer.len > 0)
        sink = answer.data[answer.len - 1];
    if (ccid_reader_parse(&reader, data, size))
        sink = selects[ccid_power_selects(&reader, selects) - 1];
    if (ccid_atr_is_t0(data, size))
        sink = 1;
    (void)sink;
    return 0;
}
