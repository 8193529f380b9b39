#include "common/core/http_framing_internal.h"

#include <string.h>

enum field { OTHER, HOST, CONTENT_LENGTH, TRANSFER_ENCODING, COOKIE };

// Bytes that change nothing but a count, in a name, in a value, in a target ('%' is looked at).
enum { IN_NAME = 1, IN_VALUE = 2, IN_TARGET = 4 };

#define V IN_VALUE
#define T (IN_VALUE | IN_TARGET)
#define N (IN_VALUE | IN_TARGET | IN_NAME)
static const uint8_t classes[256] = {
    [' '] = V, ['!'] = N, T, N, N, V | IN_NAME, N, N, T, T, N, N, T, N, N, T,
    ['0'] = N, N,         N, N, N, N,           N, N, N, N, T, T, T, T, T, T,
    ['@'] = T, N,         N, N, N, N,           N, N, N, N, N, N, N, N, N, N,
    ['P'] = N, N,         N, N, N, N,           N, N, N, N, N, T, T, T, N, N,
    ['`'] = N, N,         N, N, N, N,           N, N, N, N, N, N, N, N, N, N,
    ['p'] = N, N,         N, N, N, N,           N, N, N, N, N, T, N, T, N, [0x80 ... 0xff] = V,
};
#undef V
#undef T
#undef N

static bool is_token(uint8_t c)
{
    return classes[c] & IN_NAME;
}

static void token_add(struct http_framing *f, uint8_t c)
{
    // Longer than all that matter: it stays full and matches nothing.
    if (f->token_len < sizeof f->token)
        f->token[f->token_len++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static bool token_is(const struct http_framing *f, const char *s)
{
    return strlen(s) == f->token_len && !memcmp(f->token, s, f->token_len);
}

// ---- request line ----

static void version_end(struct http_framing *f)
{
    if (token_is(f, "http/1.1"))
        f->http11 = true;
    else if (!token_is(f, "http/1.0"))
        http_framing_refuse(f, HTTP_REFUSAL_VERSION);
    f->state = LINE_LF;
}

static void target_byte(struct http_framing *f, uint8_t c)
{
    if (c == ' ') {
        if (f->token_len == 0) {
            http_framing_refuse(f, HTTP_REFUSAL_REQUEST_LINE);
            return;
        }
        f->token_len = 0;
        f->state = VERSION;
    } else if (c <= 0x20 || c >= 0x7f) {
        http_framing_refuse_byte(f, c, HTTP_REFUSAL_REQUEST_LINE);
    } else {
        f->token_len = 1; // not empty
        // %00 becomes a NUL when the target is decoded.
        if (f->state == TARGET_PERCENT_0 && c == '0')
            http_framing_refuse(f, HTTP_REFUSAL_NUL);
        else if (f->state == TARGET_PERCENT && c == '0')
            f->state = TARGET_PERCENT_0;
        else
            f->state = c == '%' ? TARGET_PERCENT : TARGET;
    }
}

void http_framing_request_line_byte(struct http_framing *f, uint8_t c)
{
    switch (f->state) {
    case METHOD:
        if (c == ' ' && f->token_len) {
            f->token_len = 0;
            f->state = TARGET;
        } else if (is_token(c) && f->token_len < sizeof f->token) {
            token_add(f, c);
        } else {
            http_framing_refuse_byte(f, c, HTTP_REFUSAL_REQUEST_LINE);
        }
        break;
    case VERSION:
        if (c == '\r')
            version_end(f);
        else if (c <= 0x20 || c >= 0x7f)
            http_framing_refuse_byte(f, c, HTTP_REFUSAL_REQUEST_LINE);
        else
            token_add(f, c);
        break;
    case LINE_LF:
        if (c == '\n')
            f->state = FIELD_START;
        else
            http_framing_refuse(f, HTTP_REFUSAL_LINE_END);
        break;
    default:
        target_byte(f, c);
    }
}

// ---- fields ----

static void name_end(struct http_framing *f, const struct http_framing_limits *limits)
{
    f->field = token_is(f, "host")                ? HOST
               : token_is(f, "content-length")    ? CONTENT_LENGTH
               : token_is(f, "transfer-encoding") ? TRANSFER_ENCODING
               : token_is(f, "cookie")            ? COOKIE
                                                  : OTHER;
    f->fields++;
    f->cost += limits->field_cost;
    if (f->field == COOKIE)
        f->cost += limits->field_cost;
    f->token_len = 0;
    f->value_ended = false;
    f->state = VALUE_START;
    if (f->trailer && f->field != OTHER) {
        http_framing_refuse(f, HTTP_REFUSAL_FIELD);
    } else if (f->field == HOST && f->hosts++) {
        http_framing_refuse(f, HTTP_REFUSAL_HOST);
    } else if (f->field == CONTENT_LENGTH) {
        f->remaining = 0;
        f->digits = 0;
        if (f->lengths++)
            http_framing_refuse(f, HTTP_REFUSAL_LENGTH);
    } else if (f->field == TRANSFER_ENCODING && f->encodings++) {
        http_framing_refuse(f, HTTP_REFUSAL_TRANSFER_ENCODING);
    }
}

static void value_byte(struct http_framing *f, const struct http_framing_limits *limits, uint8_t c)
{
    bool blank = c == ' ' || c == '\t';
    if (f->field == CONTENT_LENGTH) {
        if (blank) {
            f->value_ended = f->digits > 0;
        } else if (c < '0' || c > '9' || f->value_ended || f->digits >= 18) {
            http_framing_refuse(f, HTTP_REFUSAL_LENGTH);
        } else {
            f->remaining = f->remaining * 10 + (c - '0');
            f->digits++;
        }
    } else if (f->field == TRANSFER_ENCODING) {
        if (blank)
            f->value_ended = f->token_len > 0;
        else if (f->value_ended)
            http_framing_refuse(f, HTTP_REFUSAL_TRANSFER_ENCODING);
        else
            token_add(f, c);
    } else if (f->field == COOKIE) {
        f->cost += 1 + (c == ';' ? limits->field_cost : 0);
    }
}

static void value_end(struct http_framing *f)
{
    f->state = VALUE_LF;
    if (f->field == CONTENT_LENGTH && !f->digits) {
        http_framing_refuse(f, HTTP_REFUSAL_LENGTH);
    } else if (f->field == TRANSFER_ENCODING) {
        f->chunked = token_is(f, "chunked");
        if (!f->chunked)
            http_framing_refuse(f, HTTP_REFUSAL_TRANSFER_ENCODING);
    }
}

static void header_end(struct http_framing *f, const struct http_framing_limits *limits)
{
    if (f->trailer) {
        http_framing_request_end(f);
        return;
    }
    if (f->encodings && f->lengths)
        http_framing_refuse(f, HTTP_REFUSAL_LENGTH_AND_CHUNKED);
    else if (f->encodings && !f->http11)
        http_framing_refuse(f, HTTP_REFUSAL_TRANSFER_ENCODING);
    else if (f->http11 && !f->hosts)
        http_framing_refuse(f, HTTP_REFUSAL_HOST);
    else if (f->lengths && f->remaining > limits->body_bytes)
        http_framing_refuse(f, HTTP_REFUSAL_BODY_TOO_LARGE);
    if (f->phase == HTTP_PHASE_REFUSED)
        return;
    f->headers++;
    f->phase = HTTP_PHASE_BODY;
    f->digits = 0;
    if (f->chunked) {
        f->remaining = 0;
        f->state = CHUNK_SIZE;
    } else if (f->remaining) {
        f->state = BODY_LENGTH;
    } else {
        http_framing_request_end(f);
    }
}

static void field_byte(struct http_framing *f, const struct http_framing_limits *limits, uint8_t c)
{
    switch (f->state) {
    case FIELD_START:
        f->token_len = 0;
        if (c == '\r') {
            f->state = END_LF;
            break;
        }
        f->state = FIELD_NAME; // a blank (a folded line) is no token
        // fall through
    case FIELD_NAME:
        if (c == ':' && f->token_len)
            name_end(f, limits);
        else if (is_token(c))
            token_add(f, c);
        else if (c == '\r')
            http_framing_refuse(f, HTTP_REFUSAL_FIELD); // a line without a colon
        else
            http_framing_refuse_byte(f, c, HTTP_REFUSAL_FIELD);
        break;
    case VALUE_START:
    case VALUE:
        f->state = VALUE;
        if (c == '\r')
            value_end(f);
        else if ((c < 0x20 && c != '\t') || c == 0x7f)
            http_framing_refuse_byte(f, c, HTTP_REFUSAL_FIELD);
        else
            value_byte(f, limits, c);
        break;
    case VALUE_LF:
        if (c == '\n')
            f->state = FIELD_START;
        else
            http_framing_refuse(f, HTTP_REFUSAL_LINE_END);
        break;
    default: // END_LF
        if (c == '\n')
            header_end(f, limits);
        else
            http_framing_refuse(f, HTTP_REFUSAL_LINE_END);
    }
}

// ---- the whole ----

void http_framing_header_byte(struct http_framing *f, const struct http_framing_limits *limits,
                              uint8_t c)
{
    f->header_bytes++;
    f->cost++;
    if (f->state < FIELD_START)
        http_framing_request_line_byte(f, c);
    else
        field_byte(f, limits, c);
    if (f->phase != HTTP_PHASE_REFUSED &&
        (f->header_bytes > limits->header_bytes || f->fields > limits->fields ||
         (limits->header_cost && f->cost > limits->header_cost)))
        http_framing_refuse(f, HTTP_REFUSAL_HEADER_TOO_LARGE);
}

static uint8_t plain_class(const struct http_framing *f)
{
    switch (f->state) {
    case FIELD_NAME:
        return IN_NAME;
    case VALUE:
        return f->field == OTHER || f->field == HOST ? IN_VALUE : 0;
    case TARGET:
        return f->token_len ? IN_TARGET : 0;
    default:
        return 0;
    }
}

size_t http_framing_header_skip(struct http_framing *f, const struct http_framing_limits *limits,
                                const uint8_t *data, size_t len)
{
    uint8_t class = plain_class(f);
    if (!class)
        return 0;
    size_t room = limits->header_bytes - f->header_bytes;
    if (limits->header_cost && limits->header_cost - f->cost < room)
        room = limits->header_cost - f->cost;
    if (len > room)
        len = room;
    size_t n = 0;
    while (n < len && classes[data[n]] & class)
        n++;
    for (size_t i = 0; class == IN_NAME && i < n; i++)
        token_add(f, data[i]);
    if (class == IN_VALUE && len - n >= 2 && data[n] == '\r' && data[n + 1] == '\n') {
        f->state = FIELD_START; // such a value needs no end
        n += 2;
    }
    f->header_bytes += (uint32_t)n;
    f->cost += (uint32_t)n;
    return n;
}
