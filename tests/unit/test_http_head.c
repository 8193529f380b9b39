#include "tools/berth-cloud/http_head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define LINE "POST /v1/validate HTTP/1.1\r\n"

static const struct {
    const char *text;
    int status;
    size_t length;
} cases[] = {
    {LINE "\r\n", 0, 0},
    {LINE "Content-Length: 7\r\nContent-Type: application/json\r\n\r\n", 0, 7},
    {LINE "content-length:16384 \r\n\r\n", 0, 16384},
    {LINE "content-length: 16385\r\n\r\n", 413, 0},
    {LINE "content-length: 99999999999999999999\r\n\r\n", 413, 0},
    {LINE "content-length: -1\r\n\r\n", 400, 0},
    {LINE "content-length: 1, 1\r\n\r\n", 400, 0},
    {LINE "content-length:\r\n\r\n", 400, 0},
    {LINE "content-length: 1\r\ncontent-length: 1\r\n\r\n", 400, 0},
    {LINE "content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400, 0},
    {LINE "Transfer-Encoding : chunked\r\n\r\n", 400, 0},
    {LINE " folded: x\r\n\r\n", 400, 0},
    {LINE "no colon\r\n\r\n", 400, 0},
    {LINE "a: b\n\r\n", 400, 0},
    {LINE "a: \x01\r\n\r\n", 400, 0},
    {"POST /v1/validate HTTP/1.0\r\n\r\n", 400, 0},
    {"POST /v1/validate\r\n\r\n", 400, 0},
    {"POST  HTTP/1.1\r\n\r\n", 400, 0},
    {"POST http://x/ HTTP/1.1\r\n\r\n", 400, 0},
    {"POST /a /b HTTP/1.1\r\n\r\n", 400, 0},
    {"LONGMETHOD / HTTP/1.1\r\n\r\n", 400, 0},
    {"\r\n\r\n", 400, 0},
    {"", 400, 0},
};

static void table(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct http_head head;
        int status = http_head_parse(&head, cases[i].text, strlen(cases[i].text), 16384);
        if (status != cases[i].status)
            fail_msg("case %zu: %s: %d", i, cases[i].text, status);
        if (status == 0)
            assert_int_equal(head.content_length, cases[i].length);
    }
}

static void every_cut_is_refused(void **state)
{
    const char *whole = cases[1].text;
    struct http_head head;
    for (size_t len = 0; len < strlen(whole); len++)
        assert_int_not_equal(http_head_parse(&head, whole, len, 16384), 0);
    assert_string_equal((http_head_parse(&head, whole, strlen(whole), 16384), head.content_type),
                        "application/json");
    assert_string_equal(head.method, "POST");
    assert_string_equal(head.path, "/v1/validate");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(table),
                                       cmocka_unit_test(every_cut_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
