// What a backend, or whoever plays one, sends to trust.
#include "services/trust/cloud_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cloud_answer answer;
    struct error err;
    cloud_answer_parse(&answer, (const char *)data, size, &err);
    return 0;
}
