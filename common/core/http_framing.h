// A strict reading of HTTP/1.x request framing, beside the parser that serves the requests: it sees
// every byte first and says how many may pass on. Two readers that disagree on where a request ends
// are what request smuggling lives from, so that every form that could be read in two ways is
// refused: Content-Length with Transfer-Encoding, repeated Content-Length or Host, bare LF or CR,
// NUL, folded lines, blanks before the colon, odd chunk sizes. Pure; nothing is allocated.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum http_phase {
    HTTP_PHASE_IDLE,   // between requests
    HTTP_PHASE_HEADER, // from the first byte of a request
    HTTP_PHASE_BODY,   // header complete, body not
    HTTP_PHASE_REFUSED // nothing passes any more
};

enum http_refusal {
    HTTP_REFUSAL_NONE,
    HTTP_REFUSAL_REQUEST_LINE,
    HTTP_REFUSAL_VERSION,
    HTTP_REFUSAL_FIELD,
    HTTP_REFUSAL_LINE_END, // bare LF or CR
    HTTP_REFUSAL_NUL,
    HTTP_REFUSAL_HOST, // none with HTTP/1.1, or more than one
    HTTP_REFUSAL_LENGTH,
    HTTP_REFUSAL_LENGTH_AND_CHUNKED,
    HTTP_REFUSAL_TRANSFER_ENCODING,
    HTTP_REFUSAL_CHUNK,
    HTTP_REFUSAL_HEADER_TOO_LARGE,
    HTTP_REFUSAL_BODY_TOO_LARGE,
};

struct http_framing_limits {
    uint32_t header_bytes; // of the request line and all fields, trailers too
    uint32_t fields;
    // What the serving parser needs in memory: the bytes, field_cost for each field, and a second
    // copy of cookies with field_cost for each one. 0: not limited.
    uint32_t header_cost;
    uint32_t field_cost;
    uint64_t body_bytes;
};

struct http_framing {
    enum http_phase phase;
    enum http_refusal refusal;
    uint64_t requests; // complete ones, body too
    uint64_t headers;  // complete headers
    // The rest is private.
    uint64_t remaining; // of the body or of the chunk
    uint64_t body_bytes;
    uint32_t header_bytes, cost;
    uint16_t fields;
    uint8_t state, field, token_len, hosts, lengths, encodings, digits, empty_lines;
    bool http11, chunked, trailer, value_ended;
    char token[24];
};

void http_framing_init(struct http_framing *f);

// Reads len bytes and returns how many may pass on: all, or, when a request is refused (phase and
// refusal say so), those before its first byte in this piece.
size_t http_framing_feed(struct http_framing *f, const struct http_framing_limits *limits,
                         const uint8_t *data, size_t len);

int http_refusal_status(enum http_refusal r);        // 400, 413, 431, 501, 505
const char *http_refusal_name(enum http_refusal r);  // stable: label of a counter
