// What a server, or whoever plays one, sends to the backend: the head and the JSON.
#include "tools/berth-cloud/http_head.h"
#include "tools/berth-cloud/protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_head head;
    struct cloud_request request;
    struct error err;
    http_head_parse(&head, (const char *)data, size, 16384);
    cloud_request_parse(&request, (const char *)data, size, &err);
    return 0;
}
