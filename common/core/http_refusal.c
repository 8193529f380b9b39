// Why requests are refused, for clients and counters.
#include "common/core/http_framing.h"

static const struct {
    int status;
    const char *name;
} refusals[] = {
    [HTTP_REFUSAL_NONE] = {200, "none"},
    [HTTP_REFUSAL_REQUEST_LINE] = {400, "request-line"},
    [HTTP_REFUSAL_VERSION] = {505, "http-version"},
    [HTTP_REFUSAL_FIELD] = {400, "header-field"},
    [HTTP_REFUSAL_LINE_END] = {400, "line-end"},
    [HTTP_REFUSAL_NUL] = {400, "nul"},
    [HTTP_REFUSAL_HOST] = {400, "host"},
    [HTTP_REFUSAL_LENGTH] = {400, "content-length"},
    [HTTP_REFUSAL_LENGTH_AND_CHUNKED] = {400, "length-and-chunked"},
    [HTTP_REFUSAL_TRANSFER_ENCODING] = {400, "transfer-encoding"},
    [HTTP_REFUSAL_CHUNK] = {400, "chunk"},
    [HTTP_REFUSAL_HEADER_TOO_LARGE] = {431, "header-too-large"},
    [HTTP_REFUSAL_BODY_TOO_LARGE] = {413, "body-too-large"},
};

int http_refusal_status(enum http_refusal r)
{
    return refusals[r].status;
}

const char *http_refusal_name(enum http_refusal r)
{
    return refusals[r].name;
}
