// License files: what is accepted, what is refused and why, and what exactly is signed.
#include "common/core/buf.h"
#include "common/core/license_block.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SIGNATURE                                                                                  \
    "signature: 0011223344556677 "                                                                 \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\n"
#define BODY                                                                                       \
    "format: 1\nuuid: 3C2d8f6e-0b7a-4f1e-9a52-6f0f4c1f3a77\nfeature: MVTec_HALCON\n"              \
    "version: 24.11\nedition: Steady\nmodules: fc12d\ncount: 5\nserver-id: BERTH-7F3A-2291\n"      \
    "issued: 2026-11-24T08:00:00Z\n"
#define BEGIN "-----BEGIN LICENSE-----\n"
#define END "-----END LICENSE-----\n"
#define GOOD BEGIN BODY END SIGNATURE

static enum license_refusal parse(const char *text, size_t len)
{
    struct arena *arena = arena_new(256);
    struct license_file file;
    struct error err = {{0}};
    struct license_fields fields;
    // A copy of exactly this size, so that a sanitizer sees a read beyond it.
    char *copy = malloc(len ? len : 1);
    memcpy(copy, text, len);
    enum license_refusal r = license_file_parse(arena, copy, len, &file, &err);
    for (size_t i = 0; !r && i < file.blocks_len; i++) {
        r = file.blocks[i].refusal;
        if (!r)
            r = license_fields_parse(&file.blocks[i], &fields, &err);
        else
            assert_true(file.blocks[i].reason[0]);
        if (r)
            break;
    }
    arena_free(&arena);
    free(copy);
    return r;
}

static void test_files(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum license_refusal expected;
    } cases[] = {
        {"", LICENSE_OK},
        {GOOD, LICENSE_OK},
        {"\xef\xbb\xbf" GOOD, LICENSE_OK},
        {"# c\n\n  \nserver=https://a:22022\n" GOOD "server=x\n" GOOD, LICENSE_OK},
        {GOOD "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", LICENSE_OK},
        {GOOD "-----BEGIN CERTIFICATE-----\nAAAA\n", LICENSE_SYNTAX},
        {"stray\n" GOOD, LICENSE_SYNTAX},
        {GOOD SIGNATURE, LICENSE_SYNTAX},
        {SIGNATURE GOOD, LICENSE_SYNTAX},
        {BEGIN BODY, LICENSE_SYNTAX},
        {BEGIN BODY BEGIN, LICENSE_SYNTAX},
        {END, LICENSE_SYNTAX},
        {BEGIN BODY END, LICENSE_UNSIGNED},
        {BEGIN BODY END "\n" SIGNATURE, LICENSE_SYNTAX},
        {BEGIN BODY END "# c\n", LICENSE_UNSIGNED},
        {BEGIN BODY END "signature: 0011 AAAA\n", LICENSE_SYNTAX},
        {BEGIN BODY END "signature:\n", LICENSE_SYNTAX},
        {"\xff", LICENSE_ENCODING},
        {BEGIN BODY "unknown: \xc3\xa4\n" END SIGNATURE, LICENSE_OK},
        {BEGIN BODY "must-do: 1\n" END SIGNATURE, LICENSE_MUST},
        {BEGIN BODY "count: 5\n" END SIGNATURE, LICENSE_FIELD},
        {BEGIN BODY "x: 5\nx: 6\n" END SIGNATURE, LICENSE_FIELD},
        {BEGIN BODY "no colon\n" END SIGNATURE, LICENSE_FIELD},
        {BEGIN "format: 2\nanything: x\n" END SIGNATURE, LICENSE_FORMAT},
        {BEGIN "format: 0\n" END SIGNATURE, LICENSE_FIELD},
        {BEGIN "uuid: x\nformat: 1\n" END SIGNATURE, LICENSE_FIELD},
        {BEGIN END SIGNATURE, LICENSE_FIELD},
        {BEGIN BODY "valid-from: 2027-01-01T00:00:00Z\nvalid-until: 2026-01-01T00:00:00Z\n" END
             SIGNATURE,
         LICENSE_FIELD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum license_refusal r = parse(cases[i].text, strlen(cases[i].text));
        if (r != cases[i].expected)
            print_message("case %zu: %s\n", i, license_refusal_name(r));
        assert_int_equal(r, cases[i].expected);
    }
    assert_int_equal(parse("# a\0b\n", 6), LICENSE_ENCODING);
}

// One line of the good block replaced by another.
static enum license_refusal parse_with(const char *line, const char *replacement)
{
    const char *at = strstr(GOOD, line);
    assert_non_null(at);
    struct buf b = {0};
    buf_add(&b, GOOD, (size_t)(at - GOOD));
    buf_add_str(&b, replacement);
    buf_add_str(&b, at + strlen(line));
    enum license_refusal r = parse(b.data, b.len);
    buf_fini(&b);
    return r;
}

static void test_fields(void **state)
{
    (void)state;
    static const struct {
        const char *line, *replacement;
        bool good;
    } cases[] = {
        {"count: 5\n", "count: 1000000\n", true},
        {"count: 5\n", "count: 1000001\n", false},
        {"count: 5\n", "count: 0\n", false},
        {"count: 5\n", "count: -1\n", false},
        {"count: 5\n", "", false},
        {"edition: Steady\n", "edition: Steady-Progress\n", true},
        {"edition: Steady\n", "edition: steady\n", false},
        {"modules: fc12d\n", "modules:\n", true},
        {"modules: fc12d\n", "modules: cf\n", false},
        {"modules: fc12d\n", "modules: ff\n", false},
        {"version: 24.11\n", "version: 1.2.3.4\n", true},
        {"version: 24.11\n", "version: 1.2.3.4.5\n", false},
        {"version: 24.11\n", "version: 1..2\n", false},
        {"version: 24.11\n", "version: 100000\n", false},
        {"3C2d8f6e", "3C2d8f6g", false},
        {"3C2d8f6e-", "3C2d8f6e", false},
        {"MVTec_HALCON", "MVTec HALCON", false},
        {"2026-11-24T08:00:00Z", "2026-11-24", false},
        {"2026-11-24T08:00:00Z", "2026-13-24T08:00:00Z", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum license_refusal r = parse_with(cases[i].line, cases[i].replacement);
        if ((r == LICENSE_OK) != cases[i].good)
            print_message("case %zu: %s\n", i, license_refusal_name(r));
        assert_int_equal(r, cases[i].good ? LICENSE_OK : LICENSE_FIELD);
    }
}

static void check_signed(const char *text, const char *expected)
{
    struct arena *arena = arena_new(256);
    struct license_file file;
    assert_int_equal(license_file_parse(arena, text, strlen(text), &file, NULL), LICENSE_OK);
    assert_int_equal(file.blocks_len, 1);
    assert_int_equal(file.blocks[0].signed_len, strlen(expected));
    assert_memory_equal(file.blocks[0].signed_text, expected, strlen(expected));
    arena_free(&arena);
}

static void test_normalised(void **state)
{
    (void)state;
    check_signed(BEGIN "a: 1\n\nb: 2\n" END SIGNATURE, LICENSE_SIGN_LABEL "a: 1\n\nb: 2\n");
    check_signed("-----BEGIN LICENSE----- \r\na: 1 \t\r\n \r\nb: 2\r\n-----END LICENSE-----\r\n",
                 LICENSE_SIGN_LABEL "a: 1\n\nb: 2\n");
    check_signed(BEGIN " a: 1\r \n" END, LICENSE_SIGN_LABEL " a: 1\r\n");
    check_signed(BEGIN END, LICENSE_SIGN_LABEL);
}

static void test_limits(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < 1000; i++)
        buf_add_str(&b, GOOD);
    assert_int_equal(parse(b.data, b.len), LICENSE_OK);
    buf_add_str(&b, GOOD);
    assert_int_equal(parse(b.data, b.len), LICENSE_TOO_LARGE);
    while (b.len <= LICENSE_FILE_MAX_BYTES)
        buf_add_str(&b, "\n");
    assert_int_equal(parse(b.data, b.len), LICENSE_TOO_LARGE);
    buf_clear(&b);
    buf_add_char(&b, '#');
    while (b.len < LICENSE_LINE_MAX_BYTES)
        buf_add_char(&b, 'x');
    assert_int_equal(parse(b.data, b.len), LICENSE_OK);
    buf_add_char(&b, 'x');
    assert_int_equal(parse(b.data, b.len), LICENSE_TOO_LARGE);
    buf_fini(&b);
}

// Nothing that is cut or damaged crashes, and only a cut between parts can be good.
static void test_cut_and_flipped(void **state)
{
    (void)state;
    size_t len = strlen(GOOD), begin = strlen(BEGIN);
    for (size_t i = begin - 1; i < len - 1; i++)
        assert_int_not_equal(parse(GOOD, i), LICENSE_OK);
    char *copy = strdup(GOOD);
    for (size_t i = 0; i < len * 8; i++) {
        copy[i / 8] ^= (char)(1 << i % 8);
        parse(copy, len);
        copy[i / 8] ^= (char)(1 << i % 8);
    }
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),      cmocka_unit_test(test_fields),
        cmocka_unit_test(test_normalised), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_cut_and_flipped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
