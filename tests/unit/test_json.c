// What is accepted as JSON, where the ids are, and that an independent, naive scanner agrees.
#include "common/core/json_check.h"
#include "common/json.h"

#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DEPTH 16

static int check(const char *text, size_t len)
{
    const char *why = NULL;
    size_t at = 0;
    // In a block of exactly this size, so that a sanitizer sees a read behind the end.
    char *copy = malloc(len ? len : 1);
    memcpy(copy, text, len);
    int r = json_check(copy, len, DEPTH, NULL, &why, &at);
    free(copy);
    assert_int_equal(r != 0, why != NULL);
    assert_true(at <= len);
    return r;
}

static void test_accepted(void **state)
{
    static const char *const texts[] = {
        "{}", "[]", " \t\r\n{ } ", "null", "true", "false", "0", "-0", "-0.0e-10", "1E+2", "12.5",
        "\"\"", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"", "\"\\ud83d\\ude00\"",
        "\"\xf0\x9f\x98\x80\"",
        "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]", "{\"a\":1,\"A\":1}", "{\"a\":{\"a\":{\"a\":1}}}",
        "[{\"a\":1},{\"a\":1}]", "{\"\":1,\"\\u0001\":2}", "\"\x7f\"", "\"\\uFFFF\"",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (check(texts[i], strlen(texts[i])))
            fail_msg("refused: %s", texts[i]);
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *text;
        size_t len; // 0: strlen
    } texts[] = {
        {"", 0}, {" ", 0}, {"{", 0}, {"[", 0}, {"[1,]", 0}, {"[,1]", 0}, {"{\"a\":1,}", 0},
        {"{\"a\"}", 0}, {"{\"a\":}", 0}, {"{a:1}", 0}, {"{'a':1}", 0}, {"{1:1}", 0}, {"[1 2]", 0},
        {"01", 0}, {"-", 0}, {"+1", 0}, {".5", 0}, {"1.", 0}, {"1e", 0}, {"1e+", 0}, {"0x10", 0},
        {"NaN", 0}, {"Infinity", 0}, {"-Infinity", 0}, {"nul", 0}, {"True", 0}, {"truee", 0},
        {"{} x", 0}, {"{}{}", 0}, {"//\n{}", 0}, {"/**/{}", 0}, {"]", 0}, {"}", 0}, {"[}", 0},
        {"{]", 0}, {",", 0}, {"\"", 0}, {"\"\\\"", 0}, {"\"\\", 0}, {"\"\\x41\"", 0},
        {"\"\\u12\"", 0}, {"\"\\u12g4\"", 0}, {"\"\\u\"", 0}, {"\"\\U0041\"", 0}, {"\"\n\"", 0},
        {"\"\t\"", 0}, {"\"\\ud800\"", 0}, {"\"\\udc00\"", 0}, {"\"\\ud800\\u0041\"", 0},
        {"\"\\ud800x\"", 0}, {"\"\\ud800\\ud800\"", 0}, {"\"\\udc00\\ud800\"", 0},
        {"\"\\u0000\"", 0}, {"\"a\0b\"", 5}, {"{}\0", 3}, {"\0", 1}, {"\xef\xbb\xbf{}", 0},
        {"\"\x80\"", 0}, {"\"\xc0\xaf\"", 0}, {"\"\xed\xa0\x80\"", 0}, {"\"\xf4\x90\x80\x80\"", 0},
        {"\"\xe2\x82\"", 0}, {"\xa0{}", 0}, {"\f{}", 0}, {"[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]", 0},
        {"{\"a\":1,\"a\":1}", 0}, {"{\"a\":1,\"\\u0061\":1}", 0}, {"{\"\":1,\"\":2}", 0},
        {"{\"\\n\":1,\"\\u000a\":1}", 0}, {"{\"\\/\":1,\"/\":1}", 0},
        {"{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":1}", 0}, {"{\"\\u00e9\":1,\"\xc3\xa9\":1}", 0},
        {"{\"\\u20ac\":1,\"\xe2\x82\xac\":1}", 0}, {"{\"x\":[{\"b\":1,\"c\":2,\"b\":3}]}", 0},
        {"{\"a\":1,\"b\":{\"a\":2},\"a\":3}", 0},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        size_t len = texts[i].len ? texts[i].len : strlen(texts[i].text);
        if (!check(texts[i].text, len))
            fail_msg("accepted (%zu): %s", i, texts[i].text);
    }
}

// The last of many keys repeats the first one: found, and in reasonable time.
static void test_many_keys(void **state)
{
    for (int duplicate = 0; duplicate < 2; duplicate++) {
        char *text = malloc(200000);
        char *o = text;
        *o++ = '{';
        for (int i = 0; i < 9000; i++)
            o += sprintf(o, "\"k%d\":%d,", i, i);
        o += sprintf(o, "\"%s\":0}", duplicate ? "\\u006b0" : "k9000");
        assert_int_equal(check(text, (size_t)(o - text)) != 0, duplicate);
        free(text);
    }
}

static void assert_span(struct json_span span, const char *expected)
{
    if (!expected) {
        assert_null(span.p);
        return;
    }
    assert_non_null(span.p);
    assert_int_equal(span.len, strlen(expected));
    assert_memory_equal(span.p, expected, span.len);
}

static void test_ids(void **state)
{
    static const struct {
        const char *text;
        bool batch;
        size_t len;
        const char *ids[3];
    } cases[] = {
        {"{\"id\":1}", false, 1, {"1"}},
        {"{\"id\": 1.50e0 ,\"x\":2}", false, 1, {"1.50e0"}},
        {"{\"id\":\"\\u0041\\n\"}", false, 1, {"\"\\u0041\\n\""}},
        {"{\"i\\u0064\":7}", false, 1, {"7"}},
        {"{\"id\":null}", false, 1, {"null"}},
        {"{\"id\":{\"id\":2}}", false, 1, {"{\"id\":2}"}},
        {"{\"params\":{\"id\":3}}", false, 1, {NULL}},
        {"{}", false, 1, {NULL}},
        {"5", false, 1, {NULL}},
        {"[]", true, 0, {NULL}},
        {"[{\"id\":1},{\"x\":[{\"id\":9}]},{\"id\":\"b\"}]", true, 3, {"1", NULL, "\"b\""}},
        {"[1,[{\"id\":4}]]", true, 2, {NULL, NULL}},
        {" [ {\"id\" : 18446744073709551616} ] ", true, 1, {"18446744073709551616"}},
        {"[{\"id\":1},{\"id\":2},{\"id\":3},{\"id\":4},{\"id\":5}]", true, 5, {"1", "2", "3"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json_span items[3];
        struct json_ids ids = {.items = items, .cap = 3};
        size_t len = strlen(cases[i].text);
        assert_int_equal(json_check(cases[i].text, len, DEPTH, &ids, NULL, NULL), 0);
        assert_int_equal(ids.batch, cases[i].batch);
        assert_int_equal(ids.len, cases[i].len);
        for (size_t k = 0; k < ids.len && k < 3; k++)
            assert_span(items[k], cases[i].ids[k]);
    }
}

// Whatever the check accepts, cJSON must be able to read, with the same keys.
static void test_mutations_agree_with_cjson(void **state)
{
    static const char *const seeds[] = {
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"M\",\"params\":{\"a\":[1,-2.5e3,true,null]}}",
        "[{\"id\":\"x\\u00e9\\ud83d\\ude00\"},{\"k\":{\"k\":[]}},[],{}]",
    };
    static const char bits[] = "{}[]:,\"\\ut0f1-+.eE \n\xc3\xa9\x80";
    struct arena *arena = arena_new(4096);
    unsigned accepted = 0;
    srand(20261124);
    for (int round = 0; round < 60000; round++) {
        char text[256];
        size_t len = strlen(seeds[round % 2]);
        memcpy(text, seeds[round % 2], len);
        for (int n = rand() % 3; n >= 0; n--) {
            size_t at = (size_t)rand() % len;
            if (rand() % 3) {
                text[at] = bits[(size_t)rand() % (sizeof bits - 1)];
            } else {
                memmove(text + at, text + at + 1, len - at - 1);
                len--;
            }
        }
        if (check(text, len))
            continue;
        accepted++;
        cJSON *tree = json_parse(arena, text, len, NULL);
        cJSON *theirs = cJSON_ParseWithLength(text, len);
        if (!tree || !theirs || !cJSON_Compare(tree, theirs, true))
            fail_msg("cJSON sees something else in %.*s", (int)len, text);
        cJSON_Delete(theirs);
        // Once more through our eyes: what cJSON read and wrote is JSON to us, too.
        char *written = cJSON_PrintUnformatted(tree);
        assert_int_equal(check(written, strlen(written)), 0);
        cJSON_free(written);
        arena_reset(arena);
    }
    assert_true(accepted > 1000);
    arena_free(&arena);
}

static void test_parse(void **state)
{
    struct arena *arena = arena_new(1024);
    struct error err = {""};
    static const char good[] = "{\"a\":[1,\"\\u20ac\"]}";
    cJSON *tree = json_parse(arena, good, strlen(good), &err);
    assert_non_null(tree);
    const cJSON *a = cJSON_GetObjectItemCaseSensitive(tree, "a");
    assert_int_equal(cJSON_GetArraySize(a), 2);
    assert_string_equal(cJSON_GetArrayItem(a, 1)->valuestring, "\xe2\x82\xac");
    assert_ptr_equal(a->child->prev, a->child->next);
    assert_null(json_parse(arena, "{\"a\":1,\"a\":2}", 13, &err));
    assert_non_null(strstr(err.text, "a key stands twice"));
    arena_free(&arena);
}

static void test_numbers(void **state)
{
    static const struct {
        const char *text;
        double value;
        int value_int;
    } numbers[] = {
        {"0", 0, 0},
        {"-7", -7, -7},
        {"2147483648", 2147483648.0, INT_MAX},
        {"-2147483649", -2147483649.0, INT_MIN},
        {"999999999999999", 999999999999999.0, INT_MAX},
        {"9999999999999999", 1e16, INT_MAX},
        {"18446744073709551616", 18446744073709551616.0, INT_MAX},
        {"1.5e-3", 0.0015, 0},
        {"1e999", (double)INFINITY, INT_MAX},
    };
    struct arena *arena = arena_new(1024);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        size_t len = strlen(numbers[i].text);
        char *copy = malloc(len); // nothing follows the number
        memcpy(copy, numbers[i].text, len);
        const cJSON *n = json_parse(arena, copy, len, NULL);
        assert_true(cJSON_IsNumber(n) && n->valuedouble == numbers[i].value);
        assert_int_equal(n->valueint, numbers[i].value_int);
        free(copy);
    }
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_many_keys), cmocka_unit_test(test_ids),
        cmocka_unit_test(test_mutations_agree_with_cjson), cmocka_unit_test(test_parse),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
