// Frames and descriptors of CCID, against tables.
#include "services/trust/core/ccid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static void test_frames_are_built(void **state)
{
    uint8_t out[CCID_FRAME_BYTES_MAX], data[CCID_APDU_BYTES_MAX + 1] = {1, 2};
    assert_int_equal(ccid_build(out, sizeof out, CCID_XFR_BLOCK, 7, 0, data, 2), 12);
    assert_memory_equal(out, "\x6F\x02\0\0\0\0\x07\0\0\0\1\2", 12);
    assert_int_equal(ccid_build(out, sizeof out, CCID_ICC_POWER_ON, 255, 1, NULL, 0), 10);
    assert_memory_equal(out, "\x62\0\0\0\0\0\xFF\1\0\0", 10);
    assert_int_equal(ccid_build(out, sizeof out, CCID_XFR_BLOCK, 0, 0, data, 261), 271);
    assert_int_equal(ccid_build(out, sizeof out, CCID_XFR_BLOCK, 0, 0, data, 262), 0);
    assert_int_equal(ccid_build(out, 11, CCID_XFR_BLOCK, 0, 0, data, 2), 0);
}

static void test_answers_are_judged(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        enum ccid_outcome want;
    } cases[] = {
        {"\x80\2\0\0\0\0\5\0\0\0\x90\0", 12, CCID_DONE},
        {"\x80\0\0\0\0\0\5\1\0\0", 10, CCID_DONE},
        {"\x80\2\0\0\0\0\4\0\0\0\x90\0", 12, CCID_STALE},
        {"\x80\0\0\0\0\0\5\x80\1\0", 10, CCID_TIME_EXTENSION},
        {"\x80\0\0\0\0\0\5\x40\xFE\0", 10, CCID_FAILED},
        {"\x80\0\0\0\0\0\5\x42\xFE\0", 10, CCID_NO_CARD},
        {"\x80\0\0\0\0\0\5\2\0\0", 10, CCID_NO_CARD},
        {"\x80\0\0\0\0\0\5\xC0\0\0", 10, CCID_MALFORMED},
        {"\x81\0\0\0\0\0\5\0\0\0", 10, CCID_MALFORMED},
        {"\x80\0\0\0\0\1\5\0\0\0", 10, CCID_MALFORMED},
        {"\x80\3\0\0\0\0\5\0\0\0\x90\0", 12, CCID_MALFORMED},
        {"\x80\1\0\0\0\0\5\0\0\0\x90\0", 12, CCID_MALFORMED},
        {"\x80\xFF\xFF\xFF\xFF\0\5\0\0\0", 10, CCID_MALFORMED},
        {"\x80\0\0\0\0\0\5\0\0", 9, CCID_MALFORMED},
        {"", 0, CCID_MALFORMED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ccid_answer answer;
        assert_int_equal(
            ccid_parse(&answer, (const uint8_t *)cases[i].bytes, cases[i].len, CCID_DATA_BLOCK, 5),
            cases[i].want);
    }
}

static void test_descriptors(void **state)
{
    uint8_t d[3 + CCID_DESCRIPTOR_BYTES] = {3, 0x30, 0, CCID_DESCRIPTOR_BYTES, 0x21};
    struct ccid_reader reader;
    d[3 + 5] = 7;
    d[3 + 42] = 2;
    d[3 + 44] = 0x0F;
    d[3 + 45] = 1;
    assert_true(ccid_reader_parse(&reader, d, sizeof d));
    assert_int_equal(reader.max_message, 271);
    assert_int_equal(ccid_reader_level(&reader), CCID_LEVEL_APDU);
    d[3 + 42] = 1; // TPDU
    assert_true(ccid_reader_parse(&reader, d, sizeof d));
    assert_int_equal(ccid_reader_level(&reader), CCID_LEVEL_OTHER);
    assert_false(ccid_reader_parse(&reader, d, sizeof d - 1));
    d[0] = 0;
    assert_false(ccid_reader_parse(&reader, d, sizeof d));
}

static void test_levels(void **state)
{
    static const struct {
        uint32_t features;
        enum ccid_level want;
    } cases[] = {
        {0x00020000, CCID_LEVEL_APDU},  {0x00040000, CCID_LEVEL_APDU},
        {0x000204B2, CCID_LEVEL_APDU},  {0x000104FE, CCID_LEVEL_TPDU},
        {0x00010000, CCID_LEVEL_OTHER}, {0x000000FE, CCID_LEVEL_OTHER},
        {0, CCID_LEVEL_OTHER},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct ccid_reader reader = {cases[i].features, 271, 1};
        assert_int_equal(ccid_reader_level(&reader), cases[i].want);
    }
}

static void test_protocol_of_the_answer_to_reset(void **state)
{
    static const struct {
        const char *atr;
        size_t len;
        bool t0;
    } cases[] = {
        {"\x3B\x00", 2, true},
        {"\x3F\x65\x25\x00\x22\x09\x69", 7, true},
        {"\x3B\x80\x80\x01\x01", 5, true},          // T=0, then T=1
        {"\x3B\xF0\x11\x00\xFF\x00", 6, true},      // TA1, TB1, TC1, TD1
        {"\x3B\x80\x01\x81", 4, false},             // T=1
        {"\x3B\x8F\x01\x80\x5D\x4E\x69", 7, false}, // Nitrokey 3
        {"\x3B\xFD\x13\x00\x00\x81\x31", 7, false}, // YubiKey 5
        {"\x3B\x80", 2, false},                     // cut
        {"\x3B\xF0\x11\x00\xFF", 5, false},
        {"\x3B", 1, false},
        {"", 0, false},
        {"\x00\x00", 2, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(ccid_atr_is_t0((const uint8_t *)cases[i].atr, cases[i].len), cases[i].t0);
}

static void test_power(void **state)
{
    static const struct {
        uint32_t features;
        uint8_t voltages, n, want[3];
    } cases[] = {
        {0x04, 7, 1, {0}}, {0x08, 1, 1, {0}}, {0, 7, 3, {1, 2, 3}},
        {0, 1, 1, {1}},    {0, 6, 2, {2, 3}}, {0, 0, 1, {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct ccid_reader reader = {cases[i].features, 271, cases[i].voltages};
        uint8_t out[3];
        assert_int_equal(ccid_power_selects(&reader, out), cases[i].n);
        assert_memory_equal(out, cases[i].want, cases[i].n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_are_built),
        cmocka_unit_test(test_answers_are_judged),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_protocol_of_the_answer_to_reset),
        cmocka_unit_test(test_power),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
