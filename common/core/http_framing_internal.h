// Between http_framing.c (requests, bodies, chunks) and http_framing_header.c (request line,
// fields).
#pragma once

#include "common/core/http_framing.h"

enum http_framing_state {
    START,
    START_LF,
    METHOD,
    TARGET,
    TARGET_PERCENT,
    TARGET_PERCENT_0,
    VERSION,
    LINE_LF,
    FIELD_START,
    FIELD_NAME,
    VALUE_START,
    VALUE,
    VALUE_LF,
    END_LF,
    BODY_LENGTH,
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
};

void http_framing_refuse(struct http_framing *f, enum http_refusal r);
// Control characters have a name of their own where they are known attacks.
void http_framing_refuse_byte(struct http_framing *f, uint8_t c, enum http_refusal otherwise);
void http_framing_request_end(struct http_framing *f);

// The first byte of a request, which no limit counts; then one more byte of the header or trailer.
void http_framing_request_line_byte(struct http_framing *f, uint8_t c);
void http_framing_header_byte(struct http_framing *f, const struct http_framing_limits *limits,
                              uint8_t c);
// Plain bytes, which is most of a header, are counted at once: how many, perhaps 0. Stops before a
// limit is reached, so that the byte that breaks it is looked at by itself.
size_t http_framing_header_skip(struct http_framing *f, const struct http_framing_limits *limits,
                                const uint8_t *data, size_t len);
