// Commands, chained answers and BER-TLV of a PIV card, against tables.
#include "services/trust/core/piv_admin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t n = 0;
    for (unsigned byte; sscanf(hex, "%2x", &byte) == 1; hex += 2)
        out[n++] = (uint8_t)byte;
    return n;
}

static void assert_next(struct piv_command *c, const char *hex)
{
    uint8_t apdu[PIV_APDU_BYTES_MAX], want[PIV_APDU_BYTES_MAX];
    size_t len = unhex(hex, want);
    assert_int_equal(piv_next(c, apdu), len);
    assert_memory_equal(apdu, want, len);
}

static enum piv_step feed(struct piv_command *c, const char *hex)
{
    uint8_t answer[300];
    return piv_feed(c, answer, unhex(hex, answer));
}

static void test_commands_are_the_measured_ones(void **state)
{
    static struct piv_command c;
    static const uint8_t hash[32];
    piv_select(&c);
    assert_next(&c, "00A4040009A0000003080000100000");
    piv_get_certificate(&c);
    assert_next(&c, "00CB3FFF055C035FC10100");
    piv_sign(&c, PIV_P256, hash);
    assert_next(&c, "0087119E267C2482008120"
                    "0000000000000000000000000000000000000000000000000000000000000000"
                    "00");
}

static void test_rsa_is_chained_and_padded(void **state)
{
    static struct piv_command c;
    uint8_t hash[32], apdu[PIV_APDU_BYTES_MAX], data[300];
    memset(hash, 0xAB, sizeof hash);
    piv_sign(&c, PIV_RSA_2048, hash);
    assert_int_equal(piv_next(&c, apdu), 260);
    assert_memory_equal(apdu, "\x10\x87\x07\x9E\xFF\x7C\x82\x01\x06\x82\x00\x81\x82\x01\x00", 15);
    memcpy(data, apdu + 5, 255);
    assert_int_equal(feed(&c, "9000"), PIV_MORE);
    assert_int_equal(piv_next(&c, apdu), 5 + 11 + 1);
    assert_memory_equal(apdu, "\x00\x87\x07\x9E\x0B", 5);
    memcpy(data + 255, apdu + 5, 11);
    assert_memory_equal(data + 10, "\x00\x01\xFF\xFF", 4);
    assert_int_equal(data[10 + 256 - 52], 0);
    assert_memory_equal(data + 10 + 224, hash, 32);
    assert_int_equal(feed(&c, "7C0382010190"
                              "00"),
                     PIV_COMPLETE);
}

static void test_answers_are_put_together(void **state)
{
    static struct piv_command c;
    piv_get_certificate(&c);
    assert_next(&c, "00CB3FFF055C035FC10100");
    assert_int_equal(feed(&c, "6C20"), PIV_MORE);
    assert_next(&c, "00CB3FFF055C035FC10120");
    assert_int_equal(feed(&c, "01026100"), PIV_MORE);
    assert_next(&c, "00C0000000");
    assert_int_equal(feed(&c, "6C02"), PIV_MORE);
    assert_next(&c, "00C0000002");
    assert_int_equal(feed(&c, "03046101"), PIV_MORE);
    assert_next(&c, "00C0000001");
    assert_int_equal(feed(&c, "059000"), PIV_COMPLETE);
    assert_int_equal(c.answer_len, 5);
    assert_memory_equal(c.answer, "\1\2\3\4\5", 5);
}

static void test_bad_answers_end(void **state)
{
    static const struct {
        const char *first, *second;
        enum piv_step want;
    } cases[] = {
        {"6A82", NULL, PIV_REFUSED},
        {"6982", NULL, PIV_REFUSED},
        {"", NULL, PIV_MALFORMED},
        {"90", NULL, PIV_MALFORMED},
        {"6C10", "6C10", PIV_REFUSED},
        {"616100", NULL, PIV_MORE},
        {"0102030405066110", "6A88", PIV_REFUSED},
    };
    static struct piv_command c;
    uint8_t apdu[PIV_APDU_BYTES_MAX];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        piv_get_certificate(&c);
        piv_next(&c, apdu);
        enum piv_step step = feed(&c, cases[i].first);
        if (cases[i].second != NULL) {
            piv_next(&c, apdu);
            step = feed(&c, cases[i].second);
        }
        assert_int_equal(step, cases[i].want);
    }
}

static void test_an_endless_answer_ends(void **state)
{
    static struct piv_command c;
    uint8_t apdu[PIV_APDU_BYTES_MAX], part[252] = {0};
    for (size_t len = 2; len <= 252; len += 250) {
        piv_get_certificate(&c);
        part[len - 2] = 0x61;
        part[len - 1] = 0;
        enum piv_step step = PIV_MORE;
        for (unsigned i = 0; i < 1000 && step == PIV_MORE; i++) {
            piv_next(&c, apdu);
            step = piv_feed(&c, part, len);
        }
        assert_int_equal(step, PIV_MALFORMED);
        part[len - 2] = 0;
    }
}

static void test_certificate_objects(void **state)
{
    static const struct {
        const char *hex;
        enum piv_object want;
        size_t len;
    } cases[] = {
        {"530A70033001007101"
         "00FE00",
         PIV_OBJECT_GOOD, 3},
        {"530A70033001007101"
         "01FE00",
         PIV_OBJECT_COMPRESSED, 3},
        {"53810570033001"
         "00",
         PIV_OBJECT_GOOD, 3},
        {"5382000570033001"
         "00",
         PIV_OBJECT_GOOD, 3},
        {"5305700330010000", PIV_OBJECT_MALFORMED, 0}, // something behind it
        {"5306700330010000", PIV_OBJECT_MALFORMED, 0}, // half an element inside
        {"5308700130700130"
         "FE00",
         PIV_OBJECT_MALFORMED, 0}, // two certificates
        {"53027000", PIV_OBJECT_MALFORMED, 0},
        {"5300", PIV_OBJECT_MALFORMED, 0},
        {"5303710100", PIV_OBJECT_MALFORMED, 0},
        {"53058003300100", PIV_OBJECT_MALFORMED, 0},
        {"5383FFFFFF70", PIV_OBJECT_MALFORMED, 0},
        {"5384000000057003300100", PIV_OBJECT_MALFORMED, 0},
        {"53807003300100", PIV_OBJECT_MALFORMED, 0}, // indefinite length
        {"5F", PIV_OBJECT_MALFORMED, 0},
        {"", PIV_OBJECT_MALFORMED, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t data[64];
        const uint8_t *der;
        size_t der_len, len = unhex(cases[i].hex, data);
        assert_int_equal(piv_certificate(data, len, &der, &der_len), cases[i].want);
        if (cases[i].len > 0)
            assert_int_equal(der_len, cases[i].len);
    }
}

static void test_signatures(void **state)
{
    static const struct {
        const char *hex;
        bool good;
    } cases[] = {
        {"7C058203300100", true},    {"7C0582033001", false},
        {"7C0482033001", false},     {"7C028200", false},
        {"7C058103300100", false},   {"7D058203300100", false},
        {"7C05820330010000", false}, {"", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t data[64];
        const uint8_t *signature;
        size_t n, len = unhex(cases[i].hex, data);
        assert_int_equal(piv_signature(data, len, &signature, &n), cases[i].good);
    }
}

static void test_commands_that_make_a_dongle(void **state)
{
    static struct piv_command c;
    static const uint8_t one[16] = {1}, two[16] = {2};
    piv_get_metadata(&c);
    assert_next(&c, "00F7009B00");
    piv_ask_witness(&c, PIV_3DES);
    assert_next(&c, "0087039B047C02800000");
    piv_authenticate(&c, PIV_3DES, one, two, 8);
    assert_next(&c, "0087039B167C14"
                    "80080100000000000000"
                    "8108020000000000000000");
    piv_generate(&c);
    assert_next(&c, "0047009E05AC0380011100");
    assert_true(piv_put_certificate(&c, (const uint8_t *)"\xCC\xDD", 2));
    assert_next(&c, "00DB3FFF14"
                    "5C035FC101"
                    "5382000B70820002CCDD710100FE0000");
    assert_true(piv_put_certificate(&c, c.answer, 3000));
    assert_false(piv_put_certificate(&c, c.answer, PIV_COMMAND_BYTES_MAX - 17));
    piv_generate(&c); // without an Le where TPDUs are exchanged
    c.t0 = true;
    assert_next(&c, "0047009E05AC03800111");
}

static void test_answers_to_them(void **state)
{
    static const struct {
        const char *hex;
        bool witness, authenticated;
    } blocks[] = {
        {"7C0A80080102030405060708", true, false},
        {"7C0A82080102030405060708", false, true},
        {"7C0A80070102030405060708", false, false},
        {"7C0980080102030405060708", false, false},
        {"7D0A80080102030405060708", false, false},
        {"7C0A800801020304050607", false, false},
        {"7C00", false, false},
        {"", false, false},
    };
    uint8_t data[100], out[PIV_POINT_BYTES];
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        size_t len = unhex(blocks[i].hex, data);
        assert_int_equal(piv_witness(data, len, 8, out), blocks[i].witness);
        assert_int_equal(piv_authenticated(data, len, 8, out), blocks[i].authenticated);
        assert_false(piv_witness(data, len, 16, out));
    }
    enum piv_cipher cipher;
    assert_true(piv_metadata_cipher(data, unhex("01010A02020001050101", data), &cipher));
    assert_int_equal(cipher, PIV_AES_192);
    assert_false(piv_metadata_cipher(data, unhex("010111", data), &cipher));
    assert_false(piv_metadata_cipher(data, unhex("01020A0A", data), &cipher));
    assert_false(piv_metadata_cipher(data, unhex("0101", data), &cipher));
    memset(data, 4, sizeof data);
    memcpy(data, "\x7F\x49\x43\x86\x41", 5);
    assert_true(piv_generated(data, 70, out));
    assert_false(piv_generated(data, 69, out));
    data[4] = 0x40;
    assert_false(piv_generated(data, 70, out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands_are_the_measured_ones),
        cmocka_unit_test(test_rsa_is_chained_and_padded),
        cmocka_unit_test(test_answers_are_put_together),
        cmocka_unit_test(test_bad_answers_end),
        cmocka_unit_test(test_an_endless_answer_ends),
        cmocka_unit_test(test_certificate_objects),
        cmocka_unit_test(test_signatures),
        cmocka_unit_test(test_commands_that_make_a_dongle),
        cmocka_unit_test(test_answers_to_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
