#include "common/core/http_framing_internal.h"

#include "common/core/text.h"

#define CHUNK_LINE_MAX 256

void http_framing_init(struct http_framing *f)
{
    *f = (struct http_framing){.state = START};
}

void http_framing_refuse(struct http_framing *f, enum http_refusal r)
{
    f->phase = HTTP_PHASE_REFUSED;
    f->refusal = r;
}

void http_framing_refuse_byte(struct http_framing *f, uint8_t c, enum http_refusal otherwise)
{
    if (c == 0)
        http_framing_refuse(f, HTTP_REFUSAL_NUL);
    else if (c == '\n' || c == '\r')
        http_framing_refuse(f, HTTP_REFUSAL_LINE_END);
    else
        http_framing_refuse(f, otherwise);
}

static void request_begin(struct http_framing *f)
{
    uint64_t requests = f->requests, headers = f->headers;
    *f = (struct http_framing){
        .phase = HTTP_PHASE_HEADER, .state = METHOD, .requests = requests, .headers = headers};
}

void http_framing_request_end(struct http_framing *f)
{
    f->requests++;
    f->phase = HTTP_PHASE_IDLE;
    f->state = START;
    f->empty_lines = 0;
}

// ---- chunks ----

static void chunk_size_end(struct http_framing *f, const struct http_framing_limits *limits)
{
    f->digits = 0;
    if (!f->remaining) {
        f->trailer = true;
        f->state = FIELD_START;
    } else if (f->remaining > limits->body_bytes - f->body_bytes) {
        http_framing_refuse(f, HTTP_REFUSAL_BODY_TOO_LARGE);
    } else {
        f->body_bytes += f->remaining;
        f->state = CHUNK_DATA;
    }
}

static void chunk_byte(struct http_framing *f, const struct http_framing_limits *limits, uint8_t c)
{
    int digit;
    switch (f->state) {
    case CHUNK_SIZE:
        digit = hex_value((char)c);
        if (digit >= 0 && f->digits < 15) {
            f->remaining = f->remaining * 16 + (unsigned)digit;
            f->digits++;
        } else if (f->digits && c == '\r') {
            f->state = CHUNK_SIZE_LF;
        } else if (f->digits && c == ';') {
            f->token_len = 0;
            f->state = CHUNK_EXTENSION;
        } else {
            http_framing_refuse_byte(f, c, HTTP_REFUSAL_CHUNK);
        }
        break;
    case CHUNK_EXTENSION:
        if (c == '\r')
            f->state = CHUNK_SIZE_LF;
        else if ((c < 0x20 && c != '\t') || c >= 0x7f || ++f->token_len == CHUNK_LINE_MAX - 1)
            http_framing_refuse_byte(f, c, HTTP_REFUSAL_CHUNK);
        break;
    case CHUNK_SIZE_LF:
        if (c == '\n')
            chunk_size_end(f, limits);
        else
            http_framing_refuse(f, HTTP_REFUSAL_LINE_END);
        break;
    case CHUNK_DATA_CR:
        if (c == '\r')
            f->state = CHUNK_DATA_LF;
        else
            http_framing_refuse_byte(f, c, HTTP_REFUSAL_CHUNK);
        break;
    default: // CHUNK_DATA_LF
        if (c == '\n')
            f->state = CHUNK_SIZE;
        else
            http_framing_refuse(f, HTTP_REFUSAL_LINE_END);
    }
}

// ---- feeding ----

static void start_byte(struct http_framing *f, uint8_t c)
{
    // One empty line before a request is allowed (RFC 9112, 2.2), not a stream of them.
    if (f->state == START_LF) {
        f->state = START;
        if (c != '\n')
            http_framing_refuse(f, HTTP_REFUSAL_LINE_END);
    } else if (c == '\r' && !f->empty_lines) {
        f->empty_lines = 1;
        f->state = START_LF;
    } else {
        request_begin(f);
        http_framing_request_line_byte(f, c);
    }
}

static size_t body_skip(struct http_framing *f, size_t len)
{
    size_t n = f->remaining < len ? (size_t)f->remaining : len;
    f->remaining -= n;
    if (!f->remaining) {
        if (f->state == BODY_LENGTH)
            http_framing_request_end(f);
        else
            f->state = CHUNK_DATA_CR;
    }
    return n;
}

size_t http_framing_feed(struct http_framing *f, const struct http_framing_limits *limits,
                         const uint8_t *data, size_t len)
{
    size_t begin = 0; // of the request at hand, in this piece
    for (size_t i = 0; i < len && f->phase != HTTP_PHASE_REFUSED;) {
        if (f->state == BODY_LENGTH || f->state == CHUNK_DATA) {
            i += body_skip(f, len - i);
            continue;
        }
        size_t plain = http_framing_header_skip(f, limits, data + i, len - i);
        if (plain) {
            i += plain;
            continue;
        }
        uint8_t c = data[i];
        if (f->state <= START_LF) {
            begin = i;
            start_byte(f, c);
        } else if (f->state >= CHUNK_SIZE) {
            chunk_byte(f, limits, c);
        } else {
            http_framing_header_byte(f, limits, c);
        }
        i++;
    }
    return f->phase == HTTP_PHASE_REFUSED ? begin : len;
}
