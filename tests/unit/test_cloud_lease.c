// The backend's decisions: who holds a server license, and what is remembered of it.
#include "common/crypto.h"
#include "tools/berth-cloud/protocol.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define HASH_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HASH_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static const struct cloud_policy policy = {.lease = {.silence_s = 600, .alive_s = 150},
                                           .next_check_s = 60};
static char dir[64], path[96];
static struct store *store;

static int setup(void **state)
{
    snprintf(dir, sizeof dir, "/tmp/berth-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/state.db", dir);
    struct error err = {""};
    return store_open(&store, path, true, &err);
}

static int teardown(void **state)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    store_close(&store);
    for (size_t i = 0; i < 3; i++) {
        char file[112];
        snprintf(file, sizeof file, "%s%s", path, suffixes[i]);
        unlink(file);
    }
    return rmdir(dir);
}

// Asks; returns the outcome, and the new token in `token` if there is one.
static const char *ask(const char *presented, const char *ledger, int64_t now, char *token)
{
    char text[512];
    snprintf(text, sizeof text,
             "{\"format\":1,\"serverId\":\"S-1\",\"token\":\"%s\",\"ledger\":%s}", presented,
             ledger);
    struct cloud_request request;
    struct error err = {""};
    struct buf answer BUF_CLEANUP = {0};
    const char *outcome = NULL;
    assert_int_equal(cloud_request_parse(&request, text, strlen(text), &err), 0);
    assert_int_equal(store_begin(store, &err), 0);
    assert_int_equal(cloud_validate(store, &request, false, &policy, now, &answer, &outcome, &err),
                     0);
    assert_int_equal(store_commit(store, &err), 0);
    const char *found = strstr(answer.data, "\"token\":\"");
    assert_non_null(found);
    size_t len = strcspn(found + 9, "\"");
    assert_int_equal(len, strcmp(outcome, "ok") == 0 ? 64 : 0);
    if (token != NULL)
        snprintf(token, 65, "%.*s", (int)len, found + 9);
    return outcome;
}

static void goodbye(const char *token)
{
    char text[256];
    snprintf(text, sizeof text, "{\"format\":1,\"serverId\":\"S-1\",\"token\":\"%s\"}", token);
    struct cloud_request request;
    struct error err = {""};
    struct buf answer BUF_CLEANUP = {0};
    const char *outcome = NULL;
    assert_int_equal(cloud_request_parse(&request, text, strlen(text), &err), 0);
    assert_int_equal(store_begin(store, &err), 0);
    assert_int_equal(cloud_goodbye(store, &request, &policy, 0, &answer, &outcome, &err), 0);
    assert_int_equal(store_commit(store, &err), 0);
}

static void holder_continues(void **state)
{
    char t1[65], t2[65], t3[65];
    assert_string_equal(ask("", "null", 1000, t1), "ok");
    assert_string_equal(ask(t1, "null", 1060, t2), "ok");
    assert_string_not_equal(t1, t2);
    assert_string_equal(ask(t1, "null", 1061, t3), "ok"); // the answer with t2 was lost
    assert_string_equal(ask(t2, "null", 1062, NULL), "in-use-elsewhere");
    assert_string_equal(ask(t3, "null", 1063, NULL), "ok");
}

static void others_wait(void **state)
{
    char t1[65], t2[65];
    assert_string_equal(ask("", "null", 1000, t1), "ok");
    assert_string_equal(ask("", "null", 1001, NULL), "in-use-elsewhere");
    assert_string_equal(ask("stolen", "null", 1599, NULL), "in-use-elsewhere");
    assert_string_equal(ask("stolen", "null", 1600, t2), "ok"); // ten minutes of silence
    assert_string_equal(ask(t1, "null", 1601, NULL), "in-use-elsewhere");
    goodbye(t1); // not the holder: nothing happens
    assert_string_equal(ask("", "null", 1602, NULL), "in-use-elsewhere");
    goodbye(t2);
    assert_string_equal(ask("", "null", 1603, NULL), "ok");
}

static void revoked_and_restored(void **state)
{
    char t1[65];
    struct error err = {""};
    assert_string_equal(ask("", "null", 1000, t1), "ok");
    assert_int_equal(store_revoke(store, "S-1", true, 1001, &err), 0);
    assert_int_equal(store_revoke(store, "S-1", true, 1001, &err), 1);
    assert_string_equal(ask(t1, "null", 1002, NULL), "revoked");
    assert_int_equal(store_revoke(store, "S-1", false, 0, &err), 0);
    assert_string_equal(ask(t1, "null", 1003, NULL), "ok");
}

static void ledger_goes_forward_only(void **state)
{
    char t[65];
    assert_string_equal(ask("", "{\"sequence\":5,\"hash\":\"" HASH_A "\"}", 1000, t), "ok");
    assert_string_equal(ask(t, "{\"sequence\":5,\"hash\":\"" HASH_A "\"}", 1001, t), "ok");
    assert_string_equal(ask(t, "{\"sequence\":4,\"hash\":\"" HASH_A "\"}", 1002, NULL),
                        "ledger-rollback");
    assert_string_equal(ask(t, "{\"sequence\":5,\"hash\":\"" HASH_B "\"}", 1003, NULL),
                        "ledger-rollback");
    assert_string_equal(ask(t, "{\"sequence\":6,\"hash\":\"" HASH_B "\"}", 1004, t), "ok");
}

static void random_holders(void **state)
{
    // Three hosts with copies of one key. At most one believes that it holds the license, unless
    // it was silent for ten minutes.
    srand(7);
    char tokens[3][65] = {"", "", ""};
    int64_t believes_until[3] = {0, 0, 0};
    int64_t now = 1000;
    for (int i = 0; i < 3000; i++) {
        now += rand() % 200;
        int host = rand() % 3;
        if (rand() % 10 == 0) {
            goodbye(tokens[host]);
            believes_until[host] = 0;
            continue;
        }
        char token[65];
        bool ok = strcmp(ask(tokens[host], "null", now, token), "ok") == 0;
        believes_until[host] = ok ? now + policy.lease.silence_s : 0;
        if (ok && rand() % 5 != 0) // else the answer was lost
            memcpy(tokens[host], token, sizeof token);
        for (int other = 0; ok && other < 3; other++)
            assert_true(other == host || believes_until[other] <= now);
    }
}

static void bad_requests(void **state)
{
    static const char *const texts[] = {
        "",
        "{}",
        "[]",
        "{\"format\":1,\"serverId\":\"S-1\"}",
        "{\"format\":2,\"serverId\":\"S-1\",\"token\":\"\"}",
        "{\"format\":1,\"serverId\":\"S/1\",\"token\":\"\"}",
        "{\"format\":1,\"serverId\":\"\",\"token\":\"\"}",
        "{\"format\":1,\"serverId\":\"S-1\",\"token\":7}",
        "{\"format\":1,\"serverId\":\"S-1\",\"token\":\"\",\"ledger\":{}}",
        "{\"format\":1,\"serverId\":\"S-1\",\"token\":\"\",\"ledger\":{\"sequence\":1e999,"
        "\"hash\":\"" HASH_A "\"}}",
        "{\"format\":1,\"serverId\":\"S-1\",\"token\":\"\",\"token\":\"\"}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct cloud_request request;
        struct error err = {""};
        assert_true(cloud_request_parse(&request, texts[i], strlen(texts[i]), &err) < 0);
        assert_string_not_equal(err.text, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(holder_continues, setup, teardown),
        cmocka_unit_test_setup_teardown(others_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(revoked_and_restored, setup, teardown),
        cmocka_unit_test_setup_teardown(ledger_goes_forward_only, setup, teardown),
        cmocka_unit_test_setup_teardown(random_holders, setup, teardown),
        cmocka_unit_test(bad_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
