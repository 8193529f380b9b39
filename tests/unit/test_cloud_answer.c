#include "common/core/buf.h"
#include "services/trust/cloud_answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define OK_START "{\"format\":1,\"status\":\"ok\",\"nextCheckSeconds\":60,\"token\":\"abc\""
#define NO_START "{\"format\":1,\"status\":\"refused\",\"nextCheckSeconds\":60,\"token\":\"\""
#define HASH64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct {
    const char *text;
    int result;
    const char *reason;
} cases[] = {
    {OK_START "}", 0, ""},
    {OK_START ",\"ledger\":null,\"revokedKeyIds\":[]}", 0, ""},
    {OK_START ",\"ledger\":{\"sequence\":7,\"hash\":\"" HASH64 "\"}}", 0, ""},
    {OK_START ",\"later\":[1,2]}", 0, ""},
    {NO_START ",\"reason\":\"revoked\"}", 0, "revoked"},
    {NO_START ",\"reason\":\"expired\"}", 0, "expired"},
    {NO_START ",\"reason\":\"in-use-elsewhere\"}", 0, "in-use-elsewhere"},
    {NO_START ",\"reason\":\"ledger-rollback\"}", 0, "ledger-rollback"},
    {"{\"format\":1,\"status\":\"refused\",\"reason\":\"revoked\"}", 0, "revoked"},
    {"{\"format\":1,\"status\":\"refused\",\"reason\":\"revoked\",\"nextCheckSeconds\":0}", -1,
     NULL},
    {"{\"format\":1,\"status\":\"ok\",\"token\":\"abc\"}", -1, NULL},
    {NO_START ",\"reason\":\"bored\"}", -1, NULL},
    {NO_START "}", -1, NULL},
    {"", -1, NULL},
    {"[]", -1, NULL},
    {"null", -1, NULL},
    {OK_START, -1, NULL},
    {OK_START "} ", 0, ""},
    {OK_START "}x", -1, NULL},
    {OK_START ",\"status\":\"ok\"}", -1, NULL},
    {OK_START ",\"ledger\":{\"sequence\":-1,\"hash\":\"" HASH64 "\"}}", -1, NULL},
    {OK_START ",\"ledger\":{\"sequence\":1,\"hash\":\"00\"}}", -1, NULL},
    {OK_START ",\"ledger\":7}", -1, NULL},
    {OK_START ",\"revokedKeyIds\":{}}", -1, NULL},
    {OK_START ",\"revokedKeyIds\":[\"0123456789abcdeF\"]}", -1, NULL},
    {OK_START ",\"revokedKeyIds\":[7]}", -1, NULL},
    {"{\"format\":2,\"status\":\"ok\",\"nextCheckSeconds\":60,\"token\":\"abc\"}", -1, NULL},
    {"{\"format\":1,\"status\":\"OK\",\"nextCheckSeconds\":60,\"token\":\"abc\"}", -1, NULL},
    {"{\"format\":1,\"status\":\"ok\",\"nextCheckSeconds\":0,\"token\":\"abc\"}", -1, NULL},
    {"{\"format\":1,\"status\":\"ok\",\"nextCheckSeconds\":3601,\"token\":\"abc\"}", -1, NULL},
    {"{\"format\":1,\"status\":\"ok\",\"nextCheckSeconds\":1.5,\"token\":\"abc\"}", -1, NULL},
    {"{\"format\":1,\"status\":\"ok\",\"nextCheckSeconds\":1e999,\"token\":\"abc\"}", -1, NULL},
    {"{\"format\":1,\"status\":\"ok\",\"nextCheckSeconds\":60,\"token\":\"\"}", -1, NULL},
    {"{\"format\":1,\"status\":\"ok\",\"nextCheckSeconds\":60,\"token\":\"a b\"}", -1, NULL},
    {"{\"format\":1,\"status\":\"ok\",\"nextCheckSeconds\":60}", -1, NULL},
};

static void table(void **state)
{
    static struct cloud_answer a;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {""};
        int r = cloud_answer_parse(&a, cases[i].text, strlen(cases[i].text), &err);
        if ((r == 0) != (cases[i].result == 0))
            fail_msg("case %zu: %s: %s", i, cases[i].text, err.text);
        if (r == 0) {
            assert_string_equal(a.reason, cases[i].reason);
            assert_int_equal(a.ok, cases[i].reason[0] == '\0');
        } else {
            assert_string_not_equal(err.text, "");
        }
    }
}

static int with_keys(size_t n, struct cloud_answer *a)
{
    struct buf text BUF_CLEANUP = {0};
    buf_add_str(&text, OK_START ",\"revokedKeyIds\":[");
    for (size_t i = 0; i < n; i++)
        buf_printf(&text, "%s\"%016zx\"", i > 0 ? "," : "", i);
    buf_add_str(&text, "]}");
    return cloud_answer_parse(a, text.data, text.len, NULL);
}

static int with_token(size_t n, struct cloud_answer *a)
{
    struct buf text BUF_CLEANUP = {0};
    buf_add_str(&text,
                "{\"format\":1,\"status\":\"ok\",\"nextCheckSeconds\":60,\"token\":\"");
    for (size_t i = 0; i < n; i++)
        buf_add_char(&text, 'x');
    buf_add_str(&text, "\"}");
    return cloud_answer_parse(a, text.data, text.len, NULL);
}

static void limits(void **state)
{
    static struct cloud_answer a;
    assert_int_equal(with_keys(CLOUD_REVOKED_KEYS_MAX, &a), 0);
    assert_int_equal(a.revoked_key_ids_len, CLOUD_REVOKED_KEYS_MAX);
    assert_string_equal(a.revoked_key_ids[255], "00000000000000ff");
    assert_true(with_keys(CLOUD_REVOKED_KEYS_MAX + 1, &a) < 0);
    assert_int_equal(with_token(CLOUD_TOKEN_MAX, &a), 0);
    assert_true(with_token(CLOUD_TOKEN_MAX + 1, &a) < 0);
    assert_true(with_token(CLOUD_ANSWER_BYTES_MAX, &a) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(table), cmocka_unit_test(limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
