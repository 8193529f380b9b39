// The session with a token, against an emulated one that misbehaves in every way it knows.
#include "common/crypto_internal.h"
#include "services/trust/dongle.h"
#include "tests/component/token_model.h"
#include "tests/unit/ca_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define NOW 1790000000
#define DAY 86400
#define EXTENSION(variant, rest)                                                                   \
    "{\"format\":1,\"variant\":\"" variant "\",\"addons\":[],\"licenseKeys\":["                    \
    "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]" rest "}"
#define ON_PREMISES EXTENSION("on-premises", "")
#define CLOUD EXTENSION("cloud-ready", ",\"cloudUrl\":\"https://cloud.example.com\"")

static const struct ccid_reader reader = {0x00040000, 3072, 7};
static int64_t fake_ms;

static int io_send(void *ctx, const uint8_t *data, size_t len, int64_t timeout_ms)
{
    fake_ms += 1;
    return token_send(ctx, data, len);
}

static int io_receive(void *ctx, uint8_t *data, size_t cap, int64_t timeout_ms)
{
    assert_true(timeout_ms > 0 && timeout_ms < 1000);
    int r = token_receive(ctx, data, cap);
    fake_ms += r == -ETIMEDOUT ? timeout_ms : 5;
    return r;
}

static int64_t io_now(void *ctx)
{
    return fake_ms;
}

static struct test_ca vendor, stranger;
static struct crypto_key *p256, *other_p256;
static struct crypto_key rsa;

static int setup(void **state)
{
    test_ca_make(&vendor, (struct wall_time){NOW});
    test_ca_make(&stranger, (struct wall_time){NOW});
    assert_int_equal(crypto_key_new_p256(&p256), 0);
    assert_int_equal(crypto_key_new_p256(&other_p256), 0);
    rsa.pkey = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    assert_non_null(rsa.pkey);
    return 0;
}

static int teardown(void **state)
{
    test_ca_drop(&vendor);
    test_ca_drop(&stranger);
    crypto_key_free(&p256);
    crypto_key_free(&other_p256);
    EVP_PKEY_free(rsa.pkey);
    return 0;
}

static struct token *make(const struct test_ca *by, const struct crypto_key *key,
                          const struct crypto_key *in_token, enum crypto_usage usage,
                          const char *json)
{
    struct error err;
    struct crypto_cert *cert = NULL;
    const struct crypto_issue what = {.common_name = "BERTH-7F3A-2291",
                                      .not_before = {NOW - DAY},
                                      .not_after = {NOW + DAY},
                                      .usage = usage,
                                      .extension_json = json};
    assert_int_equal(crypto_cert_issue(&cert, &what, key, by->cert, by->key, &err), 0);
    struct token *token = token_new(cert, in_token);
    crypto_cert_free(&cert);
    return token;
}

static enum dongle_outcome start(struct dongle *d, struct token *token, int64_t now)
{
    const struct dongle_io io = {io_send, io_receive, io_now, token};
    struct error err = {""};
    int64_t before = fake_ms;
    enum dongle_outcome outcome =
        dongle_open(d, &io, &reader, vendor.ca, (struct wall_time){now}, &err);
    if (outcome == DONGLE_PROVEN)
        outcome = dongle_prove(d, (struct wall_time){now}, &err);
    assert_true(fake_ms - before <= 4 * DONGLE_COMMAND_MS);
    if (outcome != DONGLE_PROVEN)
        assert_true(err.text[0] != '\0' && dongle_advice(outcome)[0] != '\0');
    return outcome;
}

static void check(struct token *token, int64_t now, const char *reason)
{
    struct dongle d;
    assert_string_equal(dongle_reason(start(&d, token, now)), reason);
    dongle_close(&d);
    token_free(&token);
}

static void test_both_kinds_of_key(void **state)
{
    check(make(&vendor, p256, p256, USAGE_SERVER_LICENSE, ON_PREMISES), NOW, "");
    check(make(&vendor, &rsa, &rsa, USAGE_SERVER_LICENSE, ON_PREMISES), NOW, "");
}

static void test_certificates(void **state)
{
    check(make(&stranger, p256, p256, USAGE_SERVER_LICENSE, ON_PREMISES), NOW, "certificate");
    check(make(&vendor, p256, p256, USAGE_LICENSE_KEY, NULL), NOW, "certificate");
    check(make(&vendor, p256, p256, USAGE_SERVER_LICENSE, NULL), NOW, "certificate");
    check(make(&vendor, p256, p256, USAGE_SERVER_LICENSE, CLOUD), NOW, "certificate");
    check(make(&vendor, p256, p256, USAGE_SERVER_LICENSE, ON_PREMISES), NOW + 2 * DAY, "expired");
    check(make(&vendor, p256, p256, USAGE_SERVER_LICENSE, ON_PREMISES), NOW - 2 * DAY, "");
    check(make(&vendor, p256, p256, USAGE_SERVER_LICENSE, ON_PREMISES), NOW - 2 * DAY - 1, "clock");
    check(make(&vendor, p256, other_p256, USAGE_SERVER_LICENSE, ON_PREMISES), NOW, "proof-failed");
}

static const struct {
    enum token_fault fault;
    const char *reason;
} faults[] = {
    {TOKEN_TIME_EXTENSIONS, ""},
    {TOKEN_ENDLESS_TIME_EXTENSIONS, "proof-failed"},
    {TOKEN_STALE_FRAMES, ""},
    {TOKEN_MANY_STALE_FRAMES, "dongle-unsupported"},
    {TOKEN_EMPTY_READS, ""},
    {TOKEN_ENDLESS_EMPTY_READS, "dongle-unsupported"},
    {TOKEN_SMALL_PARTS, ""},
    {TOKEN_WANTS_LE, ""},
    {TOKEN_ONLY_5V, ""},
    {TOKEN_NO_VOLTAGE, "dongle-unsupported"},
    {TOKEN_NO_CARD, "dongle-absent"},
    {TOKEN_NO_PIV, "dongle-unsupported"},
    {TOKEN_NO_CERTIFICATE, "certificate"},
    {TOKEN_BROKEN_OBJECT, "certificate"},
    {TOKEN_COMPRESSED, "certificate"},
    {TOKEN_WRONG_SIGNATURE, "proof-failed"},
    {TOKEN_REFUSES_TO_SIGN, "proof-failed"},
    {TOKEN_SILENT, "dongle-absent"},
    {TOKEN_SILENT_AT_SIGNATURE, "proof-failed"},
    {TOKEN_REMOVED, "dongle-absent"},
    {TOKEN_REMOVED_AT_SIGNATURE, "dongle-absent"},
    {TOKEN_GARBAGE, "dongle-unsupported"},
    {TOKEN_SHORT_FRAMES, "dongle-unsupported"},
};

static void test_every_misbehaviour(void **state)
{
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct token *token = make(&vendor, p256, p256, USAGE_SERVER_LICENSE, ON_PREMISES);
        token_misbehave(token, faults[i].fault);
        print_message("fault %d\n", (int)faults[i].fault);
        check(token, NOW, faults[i].reason);
        token = make(&vendor, &rsa, &rsa, USAGE_SERVER_LICENSE, ON_PREMISES);
        token_misbehave(token, faults[i].fault);
        check(token, NOW, faults[i].reason);
    }
}

static void test_a_held_token(void **state)
{
    static const struct {
        enum token_fault fault;
        const char *present, *proof;
    } cases[] = {
        {TOKEN_GOOD, "", ""},
        {TOKEN_RESET, "dongle-absent", "proof-failed"},
        {TOKEN_REMOVED, "dongle-absent", "dongle-absent"},
        {TOKEN_NO_CARD, "dongle-absent", "dongle-absent"},
        {TOKEN_SILENT, "dongle-absent", "proof-failed"},
        {TOKEN_OLD_SIGNATURE, "", "proof-failed"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct token *token = make(&vendor, p256, p256, USAGE_SERVER_LICENSE, ON_PREMISES);
        struct dongle d;
        struct error err;
        assert_int_equal(start(&d, token, NOW), DONGLE_PROVEN);
        token_misbehave(token, cases[i].fault);
        assert_string_equal(dongle_reason(dongle_present(&d, &err)), cases[i].present);
        assert_string_equal(dongle_reason(dongle_prove(&d, (struct wall_time){NOW}, &err)),
                            cases[i].proof);
        dongle_close(&d);
        token_free(&token);
    }
}

static void test_a_license_expires_while_it_is_held(void **state)
{
    struct token *token = make(&vendor, p256, p256, USAGE_SERVER_LICENSE, ON_PREMISES);
    struct dongle d;
    struct error err;
    assert_int_equal(start(&d, token, NOW), DONGLE_PROVEN);
    assert_int_equal(dongle_prove(&d, (struct wall_time){NOW + DAY}, &err), DONGLE_EXPIRED);
    dongle_close(&d);
    token_free(&token);
}

static void test_readers_that_are_not_used(void **state)
{
    static const struct ccid_reader readers[] = {
        {0x00010000, 3072, 7}, {0x000104FE, 3072, 7}, {0x00040000, 100, 7}, {0x000000FE, 3072, 7}};
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        struct token *token = make(&vendor, p256, p256, USAGE_SERVER_LICENSE, ON_PREMISES);
        const struct dongle_io io = {io_send, io_receive, io_now, token};
        struct dongle d;
        struct error err;
        assert_int_equal(
            dongle_open(&d, &io, &readers[i], vendor.ca, (struct wall_time){NOW}, &err),
            DONGLE_UNSUPPORTED);
        dongle_close(&d);
        token_free(&token);
    }
}

static void test_a_reader_at_the_tpdu_level(void **state)
{
    static const enum token_fault harmless[] = {TOKEN_GOOD, TOKEN_SMALL_PARTS, TOKEN_STALE_FRAMES,
                                                TOKEN_TIME_EXTENSIONS};
    static const struct ccid_reader tpdu = {0x000104FE, 3072, 7};
    for (size_t i = 0; i < 2 * sizeof harmless / sizeof *harmless; i++) {
        const struct crypto_key *key = i % 2 == 0 ? p256 : &rsa;
        struct token *token = make(&vendor, key, key, USAGE_SERVER_LICENSE, ON_PREMISES);
        const struct dongle_io io = {io_send, io_receive, io_now, token};
        struct dongle d;
        struct error err;
        token_speak_t0(token);
        token_misbehave(token, harmless[i / 2]);
        assert_int_equal(dongle_open(&d, &io, &tpdu, vendor.ca, (struct wall_time){NOW}, &err),
                         DONGLE_PROVEN);
        assert_int_equal(dongle_prove(&d, (struct wall_time){NOW}, &err), DONGLE_PROVEN);
        dongle_close(&d);
        token_free(&token);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_kinds_of_key),
        cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_every_misbehaviour),
        cmocka_unit_test(test_a_held_token),
        cmocka_unit_test(test_a_license_expires_while_it_is_held),
        cmocka_unit_test(test_readers_that_are_not_used),
        cmocka_unit_test(test_a_reader_at_the_tpdu_level),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
