#include "common/core/http_framing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct http_framing_limits limits = {
    .header_bytes = 1000, .fields = 10, .header_cost = 0, .field_cost = 0, .body_bytes = 100};

#define GET "GET / HTTP/1.1\r\nHost: x\r\n"
#define CHUNKED "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
#define LENGTH(n) "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " n "\r\n\r\n"

struct row {
    const char *text;
    enum http_phase phase;
    enum http_refusal refusal;
    uint64_t requests;
};

static const struct row rows[] = {
    {"", HTTP_PHASE_IDLE, HTTP_REFUSAL_NONE, 0},
    {"G", HTTP_PHASE_HEADER, HTTP_REFUSAL_NONE, 0},
    {GET "\r\n", HTTP_PHASE_IDLE, HTTP_REFUSAL_NONE, 1},
    {"\r\n" GET "\r\n\r\n" GET "\r\n", HTTP_PHASE_IDLE, HTTP_REFUSAL_NONE, 2},
    {"\r\n\r\n" GET "\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_LINE_END, 0},
    {"GET / HTTP/1.0\r\n\r\n", HTTP_PHASE_IDLE, HTTP_REFUSAL_NONE, 1},
    {"GET / HTTP/1.1\r\n\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_HOST, 0},
    {"GET / HTTP/1.2\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_VERSION, 0},
    {"GET /  HTTP/1.1\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_REQUEST_LINE, 0},
    {"GET  / HTTP/1.1\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_REQUEST_LINE, 0},
    {" GET / HTTP/1.1\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_REQUEST_LINE, 0},
    {"GET /%00 HTTP/1.1\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_NUL, 0},
    {"GET /%0%01%20 HTTP/1.1\r\nHost: x\r\n\r\n", HTTP_PHASE_IDLE, HTTP_REFUSAL_NONE, 1},
    {"GET /\xc3\xa4 HTTP/1.1\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_REQUEST_LINE, 0},
    {"GET / HTTP/1.1\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_LINE_END, 0},
    {GET "A: b\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_LINE_END, 0},
    {GET "A: b\rc", HTTP_PHASE_REFUSED, HTTP_REFUSAL_LINE_END, 0},
    {GET "A: b\x01", HTTP_PHASE_REFUSED, HTTP_REFUSAL_FIELD, 0},
    {GET "A : b", HTTP_PHASE_REFUSED, HTTP_REFUSAL_FIELD, 0},
    {GET ": b", HTTP_PHASE_REFUSED, HTTP_REFUSAL_FIELD, 0},
    {GET "A: b\r\n c: d\r\n\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_FIELD, 0},
    {GET "hOST: y\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_HOST, 0},
    {GET "1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n8:\r\n9:\r\n\r\n", HTTP_PHASE_IDLE,
     HTTP_REFUSAL_NONE, 1},
    {GET "1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n8:\r\n9:\r\n0:", HTTP_PHASE_REFUSED,
     HTTP_REFUSAL_HEADER_TOO_LARGE, 0},
    {LENGTH("0"), HTTP_PHASE_IDLE, HTTP_REFUSAL_NONE, 1},
    {LENGTH("3") "ab", HTTP_PHASE_BODY, HTTP_REFUSAL_NONE, 0},
    {LENGTH("3") "abc" GET "\r\n", HTTP_PHASE_IDLE, HTTP_REFUSAL_NONE, 2},
    {LENGTH("003 ") "\n\n\n", HTTP_PHASE_IDLE, HTTP_REFUSAL_NONE, 1},
    {LENGTH(""), HTTP_PHASE_REFUSED, HTTP_REFUSAL_LENGTH, 0},
    {LENGTH("3 3"), HTTP_PHASE_REFUSED, HTTP_REFUSAL_LENGTH, 0},
    {LENGTH("-1"), HTTP_PHASE_REFUSED, HTTP_REFUSAL_LENGTH, 0},
    {LENGTH("3,3"), HTTP_PHASE_REFUSED, HTTP_REFUSAL_LENGTH, 0},
    {LENGTH("100"), HTTP_PHASE_BODY, HTTP_REFUSAL_NONE, 0},
    {LENGTH("101"), HTTP_PHASE_REFUSED, HTTP_REFUSAL_BODY_TOO_LARGE, 0},
    {LENGTH("9999999999999999999"), HTTP_PHASE_REFUSED, HTTP_REFUSAL_LENGTH, 0},
    {GET "Content-Length: 0\r\nContent-Length: 0\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_LENGTH, 0},
    {GET "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_PHASE_REFUSED,
     HTTP_REFUSAL_LENGTH_AND_CHUNKED, 0},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_PHASE_REFUSED,
     HTTP_REFUSAL_TRANSFER_ENCODING, 0},
    {GET "Transfer-Encoding: chunked, chunked\r\n", HTTP_PHASE_REFUSED,
     HTTP_REFUSAL_TRANSFER_ENCODING, 0},
    {GET "Transfer-Encoding: Chunked \r\n\r\n0\r\n\r\n", HTTP_PHASE_IDLE, HTTP_REFUSAL_NONE, 1},
    {CHUNKED "0\r\n\r\n", HTTP_PHASE_IDLE, HTTP_REFUSAL_NONE, 1},
    {CHUNKED "1\r\na\r\n00a;x=\"y\"\r\n0123456789\r\n0\r\nT: u\r\n\r\n" GET "\r\n",
     HTTP_PHASE_IDLE, HTTP_REFUSAL_NONE, 2},
    {CHUNKED "64\r\n", HTTP_PHASE_BODY, HTTP_REFUSAL_NONE, 0},
    {CHUNKED "65\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_BODY_TOO_LARGE, 0},
    {CHUNKED "fffffffffffffff\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_BODY_TOO_LARGE, 0},
    {CHUNKED "0000000000000001\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_CHUNK, 0},
    {CHUNKED "1 \r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_CHUNK, 0},
    {CHUNKED "\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_LINE_END, 0},
    {CHUNKED "1\r\nab", HTTP_PHASE_REFUSED, HTTP_REFUSAL_CHUNK, 0},
    {CHUNKED "1\r\na\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_LINE_END, 0},
    {CHUNKED "1;\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_LINE_END, 0},
    {CHUNKED "0\r\nHost: y\r\n", HTTP_PHASE_REFUSED, HTTP_REFUSAL_FIELD, 0},
};

static void check(const struct row *row, const struct http_framing *f)
{
    if (f->phase != row->phase || f->refusal != row->refusal || f->requests != row->requests)
        fail_msg("%s: phase %d, %s, %d requests", row->text, f->phase,
                 http_refusal_name(f->refusal), (int)f->requests);
}

static void table(void **state)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const uint8_t *data = (const uint8_t *)rows[i].text;
        size_t len = strlen(rows[i].text);
        struct http_framing f;
        http_framing_init(&f);
        size_t pass = http_framing_feed(&f, &limits, data, len);
        check(&rows[i], &f);
        assert_true(f.phase == HTTP_PHASE_REFUSED ? pass < len : pass == len);
        // Cut anywhere it must be read the same.
        for (size_t cut = 0; cut <= len; cut++) {
            http_framing_init(&f);
            http_framing_feed(&f, &limits, data, cut);
            http_framing_feed(&f, &limits, data + cut, len - cut);
            check(&rows[i], &f);
        }
    }
}

static void what_passes(void **state)
{
    static const char good[] = GET "\r\n" LENGTH("3") "abc";
    static const char bad[] = GET "Host: y\r\n\r\n" GET "\r\n";
    char text[512];
    strcpy(text, good);
    strcat(text, bad);
    struct http_framing f;
    http_framing_init(&f);
    assert_int_equal(http_framing_feed(&f, &limits, (uint8_t *)text, strlen(text)), strlen(good));
    assert_int_equal(f.requests, 2);
    assert_int_equal(http_framing_feed(&f, &limits, (const uint8_t *)good, strlen(good)), 0);
    assert_int_equal(http_refusal_status(f.refusal), 400);
}

static void nul(void **state)
{
    for (size_t at = 0; at < strlen(GET); at++) {
        char text[] = GET;
        text[at] = 0;
        struct http_framing f;
        http_framing_init(&f);
        assert_int_equal(http_framing_feed(&f, &limits, (uint8_t *)text, sizeof text - 1), 0);
        assert_int_equal(f.phase, HTTP_PHASE_REFUSED);
    }
}

static void cost(void **state)
{
    struct http_framing_limits l = limits;
    l.field_cost = 64;
    static const char text[] = GET "Cookie: a=b; c=d\r\n\r\n";
    // One field more for the cookie's list, one for each ';', and the value again, with its blanks.
    size_t need = strlen(text) - 1 + 4 * 64 + strlen(" a=b; c=d");
    for (int over = 0; over < 2; over++) {
        struct http_framing f;
        http_framing_init(&f);
        l.header_cost = (uint32_t)(need - (size_t)over);
        http_framing_feed(&f, &l, (const uint8_t *)text, strlen(text));
        assert_int_equal(f.refusal, over ? HTTP_REFUSAL_HEADER_TOO_LARGE : HTTP_REFUSAL_NONE);
    }
}

static void random_pieces(void **state)
{
    srand(7);
    for (int round = 0; round < 2000; round++) {
        char text[2048] = "";
        uint64_t expected = 0;
        for (int i = rand() % 6; i >= 0; i--) {
            static const char *const parts[] = {GET "\r\n", LENGTH("5") "12345",
                                                CHUNKED "3\r\nabc\r\n0\r\n\r\n", LENGTH("0")};
            strcat(text, parts[rand() % 4]);
            expected++;
        }
        struct http_framing f;
        http_framing_init(&f);
        size_t len = strlen(text);
        for (size_t at = 0; at < len;) {
            size_t n = 1 + (size_t)rand() % 40;
            n = n > len - at ? len - at : n;
            assert_int_equal(http_framing_feed(&f, &limits, (uint8_t *)text + at, n), n);
            at += n;
        }
        assert_int_equal(f.requests, expected);
        assert_int_equal(f.phase, HTTP_PHASE_IDLE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table), cmocka_unit_test(what_passes),   cmocka_unit_test(nul),
        cmocka_unit_test(cost),  cmocka_unit_test(random_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
