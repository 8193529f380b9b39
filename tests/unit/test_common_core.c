// Base library: times, text, buf, arena.
#include "common/core/arena.h"
#include "common/core/buf.h"
#include "common/core/error.h"
#include "common/core/text.h"
#include "common/core/times.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void times_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum wall_date_rule rule;
        int64_t s; // -1: refused
    } cases[] = {
        {"1970-01-01T00:00:00Z", WALL_NO_DATE, 0},
        {"2026-11-24T08:00:00Z", WALL_NO_DATE, 1795507200},
        {"2026-11-24T09:00:00+01:00", WALL_NO_DATE, 1795507200},
        {"2026-11-24T02:30:00-05:30", WALL_NO_DATE, 1795507200},
        {"2026-11-24T08:00:00.999Z", WALL_NO_DATE, 1795507200},
        {"2026-11-24", WALL_DATE_START, 1795478400},
        {"2026-11-24", WALL_DATE_END, 1795564800},
        {"2026-11-24", WALL_NO_DATE, -1},
        {"2024-02-29", WALL_DATE_START, 1709164800},
        {"2025-02-29", WALL_DATE_START, -1},
        {"2100-02-29", WALL_DATE_START, -1},
        {"2026-13-01", WALL_DATE_START, -1},
        {"2026-00-01", WALL_DATE_START, -1},
        {"2026-11-31", WALL_DATE_START, -1},
        {"1969-12-31", WALL_DATE_START, -1},
        {"2026-11-24T24:00:00Z", WALL_NO_DATE, -1},
        {"2026-11-24T08:00:60Z", WALL_NO_DATE, -1},
        {"2026-11-24T08:00:00", WALL_NO_DATE, -1},
        {"2026-11-24 08:00:00Z", WALL_NO_DATE, -1},
        {"2026-11-24T08:00:00.Z", WALL_NO_DATE, -1},
        {"2026-11-24T08:00:00Zx", WALL_NO_DATE, -1},
        {"2026-11-24T08:00Z", WALL_NO_DATE, -1},
        {"", WALL_DATE_END, -1},
        {"tomorrow", WALL_DATE_END, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct wall_time t = {-1};
        int r = wall_parse(cases[i].text, strlen(cases[i].text), cases[i].rule, &t);
        if ((r != 0) != (cases[i].s == -1) || t.s != cases[i].s)
            fail_msg("%s: %d, %lld", cases[i].text, r, (long long)t.s);
    }
}

static void times_round_trip(void **state)
{
    (void)state;
    srandom(1);
    for (int i = 0; i < 20000; i++) {
        struct wall_time t = {(int64_t)((uint64_t)random() << 7 ^ (uint64_t)random()) %
                              253402300800};
        char text[32];
        struct wall_time back;
        assert_int_equal(wall_parse(wall_format(t, text), 20, WALL_NO_DATE, &back), 0);
        assert_int_equal(t.s, back.s);
    }
    char text[32];
    assert_string_equal(wall_format(WALL_MAX, text), "9999-12-31T23:59:59Z");
}

static void text_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        bool good;
    } cases[] = {
        {"", true},
        {"plain ascii, more than eight", true},
        {"ä€😀", true},
        {"\x80", false},
        {"\xc0\x80", false},
        {"\xc1\xbf", false},
        {"\xe0\x9f\xbf", false},
        {"\xed\xa0\x80", false},
        {"\xf0\x8f\xbf\xbf", false},
        {"\xf4\x90\x80\x80", false},
        {"\xf5\x80\x80\x80", false},
        {"\xe2\x82", false},
        {"12345678\xff", false},
        {"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(utf8_valid(cases[i].bytes, strlen(cases[i].bytes)), cases[i].good);
}

static void text_base64(void **state)
{
    (void)state;
    uint8_t data[64] = {0}, back[64];
    char text[100];
    for (size_t len = 0; len <= sizeof data; len++) {
        for (size_t i = 0; i < len; i++)
            data[i] = (uint8_t)(i * 37 + len);
        size_t n = base64_encode(data, len, text);
        assert_int_equal(n, 4 * ((len + 2) / 3));
        assert_int_equal(base64_decode(text, n, back, sizeof back), (int)len);
        assert_memory_equal(data, back, len);
        if (len)
            assert_int_equal(base64_decode(text, n, back, len - 1), -EINVAL);
    }
    static const char *const bad[] = {
        "A",    "AA",   "AAA",      "A===",     "====", "AB==", "AAB=",
        "A A=", "AA=A", "AAAA====", "QQ==QQ==", "-_AA", "AAA\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(base64_decode(bad[i], strlen(bad[i]), back, sizeof back), -EINVAL);
}

static void text_hex_and_numbers(void **state)
{
    (void)state;
    uint8_t bytes[4];
    char text[9];
    assert_int_equal(hex_decode("00fFa5", 6, bytes, 4), 3);
    hex_encode(bytes, 3, text);
    assert_string_equal(text, "00ffa5");
    assert_int_equal(hex_decode("0", 1, bytes, 4), -EINVAL);
    assert_int_equal(hex_decode("0g", 2, bytes, 4), -EINVAL);
    assert_int_equal(hex_decode("0011223344", 10, bytes, 4), -EINVAL);
    uint64_t n = 7;
    assert_int_equal(parse_u64("18446744073709551615", 20, 0, UINT64_MAX, &n), 0);
    assert_true(n == UINT64_MAX);
    assert_int_equal(parse_u64("18446744073709551616", 20, 0, UINT64_MAX, &n), -ERANGE);
    assert_int_equal(parse_u64("10", 2, 0, 9, &n), -ERANGE);
    assert_int_equal(parse_u64("-1", 2, 0, 9, &n), -EINVAL);
    assert_int_equal(parse_u64("", 0, 0, 9, &n), -EINVAL);
}

static void buf_json_string(void **state)
{
    (void)state;
    BUF_CLEANUP struct buf b = {0};
    const char text[] = "a\"\\\b\f\n\r\t\x01<>&\xe2\x80\xa8ä\x7f";
    buf_add_json_string(&b, text, sizeof text - 1);
    assert_string_equal(b.data,
                        "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u003c\\u003e\\u0026\\u2028ä\\u007f\"");
    buf_clear(&b);
    buf_add_json_string(&b, "", 0);
    assert_string_equal(b.data, "\"\"");
    buf_clear(&b);
    buf_add_u64(&b, 0);
    buf_add_char(&b, ' ');
    buf_add_u64(&b, UINT64_MAX);
    assert_string_equal(b.data, "0 18446744073709551615");
    buf_clear(&b);
    buf_printf(&b, "%d-%s", 12, "x");
    buf_consume(&b, 3);
    assert_string_equal(b.data, "x");
}

static void arena_keeps_apart(void **state)
{
    (void)state;
    struct arena *a = arena_new(64);
    for (int round = 0; round < 3; round++) {
        char *texts[200];
        for (int i = 0; i < 200; i++) {
            texts[i] = arena_printf(a, "%0*d", 1 + i % 90, i);
            assert_int_equal((uintptr_t)texts[i] % 16, 0);
        }
        for (int i = 0; i < 200; i++)
            assert_int_equal(atoi(texts[i]), i);
        arena_reset(a);
    }
    arena_free(&a);
    arena_free(&a);
}

static void error_texts(void **state)
{
    (void)state;
    struct error e;
    error_set(&e, "%s", "inner");
    error_prefix(&e, "outer %d", 1);
    assert_string_equal(e.text, "outer 1: inner");
    error_set(NULL, "nothing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_parse),
        cmocka_unit_test(times_round_trip),
        cmocka_unit_test(text_utf8),
        cmocka_unit_test(text_base64),
        cmocka_unit_test(text_hex_and_numbers),
        cmocka_unit_test(buf_json_string),
        cmocka_unit_test(arena_keeps_apart),
        cmocka_unit_test(error_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
