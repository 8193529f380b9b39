// services/gateway/core/jsonrpc, error_table and http_rules: tables of cases.
#include "common/json.h"
#include "services/gateway/core/error_table.h"
#include "services/gateway/core/http_rules.h"
#include "services/gateway/core/jsonrpc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct envelope_case {
    const char *text;
    int code;
    const char *id;
    bool notification;
};

static const struct envelope_case envelopes[] = {
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"M\"}", 0, "1", false},
    {"{\"jsonrpc\":\"2.0\",\"id\":1.50,\"method\":\"M\",\"params\":{}}", 0, "1.50", false},
    {"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"M\"}", 0, "null", false},
    {"{\"jsonrpc\":\"2.0\",\"id\":\"\\u0061\",\"method\":\"M\"}", 0, "\"\\u0061\"", false},
    {"{\"jsonrpc\":\"2.0\",\"\\u0069d\":5,\"method\":\"M\"}", 0, "5", false},
    {"{\"jsonrpc\":\"2.0\",\"method\":\"M\",\"more\":[]}", 0, "null", true},
    {"{\"jsonrpc\":\"2.0\",\"method\":\"M\",\"params\":[]}", -32602, "null", true},
    {"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"M\",\"params\":[1]}", -32602, "2", false},
    {"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"M\",\"params\":1}", -32600, "2", false},
    {"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"M\",\"params\":null}", -32600, "2", false},
    {"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":[]}", -32600, "2", false},
    {"{\"jsonrpc\":\"2.0\",\"id\":2}", -32600, "2", false},
    {"{\"jsonrpc\":\"2.1\",\"id\":2,\"method\":\"M\"}", -32600, "2", false},
    {"{\"jsonrpc\":2.0,\"id\":2,\"method\":\"M\"}", -32600, "2", false},
    {"{\"jsonrpc\":\"2.1\",\"method\":\"M\"}", -32600, "null", false},
    {"{\"jsonrpc\":\"2.0\",\"id\":true,\"method\":\"M\"}", -32600, "null", false},
    {"{\"jsonrpc\":\"2.0\",\"id\":{\"id\":1},\"method\":\"M\"}", -32600, "null", false},
    {"{\"JSONRPC\":\"2.0\",\"Id\":2,\"METHOD\":\"M\"}", -32600, "null", false},
    {"{}", -32600, "null", false},
    {"7", -32600, "null", false},
    {"\"id\"", -32600, "null", false},
};

static void envelope_rules(void **state)
{
    for (size_t i = 0; i < sizeof envelopes / sizeof *envelopes; i++) {
        const struct envelope_case *c = &envelopes[i];
        struct arena *arena = arena_new(1024);
        struct json_span span;
        struct json_ids ids = {.items = &span, .cap = 1};
        struct error err;
        const cJSON *tree = json_parse_ids(arena, c->text, strlen(c->text), &ids, &err);
        assert_non_null(tree);
        struct jsonrpc_call call;
        jsonrpc_read(&call, tree, span);
        assert_int_equal(call.code, c->code);
        assert_int_equal(call.id.len, strlen(c->id));
        assert_memory_equal(call.id.p, c->id, call.id.len);
        assert_int_equal(call.notification, c->notification);
        assert_int_equal(call.method != NULL, c->code != -32600);
        assert_int_equal(call.why != NULL, c->code != 0);
        arena_free(&arena);
    }
}

static void batch_sizes(void **state)
{
    const char *why = NULL;
    assert_int_equal(jsonrpc_count(&(struct json_ids){.len = 0, .batch = true}, &why), 0);
    assert_non_null(why);
    assert_int_equal(jsonrpc_count(&(struct json_ids){.len = 1}, &why), 1);
    assert_int_equal(jsonrpc_count(&(struct json_ids){.len = 64, .batch = true}, &why), 64);
    assert_int_equal(jsonrpc_count(&(struct json_ids){.len = 65, .batch = true}, &why), 0);
}

static void answers(void **state)
{
    struct buf b BUF_CLEANUP = {0};
    jsonrpc_begin_result(&b, (struct json_span){"1e3", 3});
    assert_string_equal(b.data, "{\"jsonrpc\":\"2.0\",\"id\":1e3,\"result\":");
    buf_clear(&b);
    jsonrpc_begin_error(&b, (struct json_span){"null", 4});
    assert_string_equal(b.data, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":");
}

static void error_kinds(void **state)
{
    static const struct {
        int code;
        const char *name;
        int status;
    } table[] = {
        {1001, "NoLicense", 200},
        {1002, "NoSeat", 200},
        {1003, "SessionInvalid", 200},
        {1004, "ServerNotLicensed", 200},
        {1005, "BorrowNotAllowed", 200},
        {1006, "BorrowPeriodInvalid", 200},
        {1007, "BorrowNotAvailable", 200},
        {1008, "NotFound", 200},
        {1009, "Unauthorized", 401},
        {1010, "RateLimited", 429},
        {1011, "Unavailable", 200},
        {-32700, NULL, 200},
        {-32600, NULL, 200},
        {-32601, NULL, 200},
        {-32602, NULL, 200},
        {-32603, NULL, 200},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const struct error_kind *kind = error_kind_of(table[i].code);
        assert_int_equal(kind->code, table[i].code);
        assert_int_equal(kind->http_status, table[i].status);
        assert_int_equal(kind->name != NULL, table[i].name != NULL);
        if (kind->name)
            assert_string_equal(kind->name, table[i].name);
        assert_non_null(kind->message);
        assert_non_null(kind->label);
    }
    assert_int_equal(error_kind_of(0)->code, -32603);
    assert_int_equal(error_kind_of(4711)->code, -32603);
}

static void content_types(void **state)
{
    static const char *const good[] = {"application/json", " APPLICATION/json ",
                                       "application/json;charset=UTF-8",
                                       "application/json ; charset=\"utf-8\" "};
    static const char *const bad[] = {"",
                                      "application/jsonp",
                                      "text/json",
                                      "application/json;",
                                      "application/json; charset=utf-8; a=b",
                                      "application/json; charset=utf-16",
                                      "application/json,x"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(content_type_is_json(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(content_type_is_json(bad[i]));
    assert_false(content_type_is_json(NULL));
}

static void origins(void **state)
{
    static const struct {
        const char *origin, *host; // NULL: it has none
    } table[] = {
        {"https://a.example", "a.example"},
        {"http://a:80", "a"},
        {"https://[::1]:22022", "::1"},
        {"https://[::1]", "::1"},
        {"null", NULL},
        {"", NULL},
        {"://a", NULL},
        {"https://", NULL},
        {"https://:80", NULL},
        {"https://a/b", NULL},
        {"https://u@a", NULL},
        {"https://[::1", NULL},
        {"https://[::1]x", NULL},
        {"a.example", NULL},
        {"https://a b", NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *host;
        size_t len;
        bool has = origin_host(table[i].origin, &host, &len);
        assert_int_equal(has, table[i].host != NULL);
        if (has) {
            assert_int_equal(len, strlen(table[i].host));
            assert_memory_equal(host, table[i].host, len);
        }
    }
    assert_true(origin_is("https://Portal.Example:8443", "portal.example"));
    assert_true(origin_is("https://portal.example", "https://portal.example"));
    assert_false(origin_is("http://portal.example", "https://portal.example"));
    assert_false(origin_is("https://xportal.example", "portal.example"));
    assert_false(origin_is("null", "null"));
}

static void bearers(void **state)
{
    assert_string_equal(bearer_token("Bearer abc"), "abc");
    assert_string_equal(bearer_token("bearer   abc"), "abc");
    assert_null(bearer_token("Bearer "));
    assert_null(bearer_token("Bearerabc"));
    assert_null(bearer_token("Basic abc"));
    assert_null(bearer_token(""));
    assert_null(bearer_token(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(envelope_rules), cmocka_unit_test(batch_sizes),
        cmocka_unit_test(answers),        cmocka_unit_test(error_kinds),
        cmocka_unit_test(content_types),  cmocka_unit_test(origins),
        cmocka_unit_test(bearers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
