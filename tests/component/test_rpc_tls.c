// RPC over tls+tcp://: both sides of one connection, with certificates as `berth rpc-keys` makes
// them, and with those of processes that should not get in.
#include "common/crypto.h"
#include "common/files.h"
#include "tests/component/rpc_fixture.h"

static struct crypto_key *ca_key, *other_key;
static struct crypto_cert *ca, *other_ca;
static char keys[64];

static void write_pem(const char *folder, const char *name, const struct crypto_cert *cert)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s.pem", folder, name);
    char *pem = crypto_cert_pem(cert);
    assert_int_equal(file_create(path, pem, strlen(pem), 0644, NULL), 0);
    free(pem);
}

static void make_ca(struct crypto_cert **cert, struct crypto_key **key)
{
    const struct crypto_issue what = {.common_name = "Berth installation",
                                      .not_before = {clock_wall().s - 60},
                                      .not_after = {clock_wall().s + 3600},
                                      .ca = true};
    assert_int_equal(crypto_key_new_p256(key), 0);
    assert_int_equal(crypto_cert_issue(cert, &what, *key, NULL, NULL, NULL), 0);
}

// <file>.pem and <file>.key in the folder of keys, of a process called name.
static void make_process(const char *file, const char *name, int64_t until,
                         const struct crypto_cert *issuer, const struct crypto_key *issuer_key)
{
    const struct crypto_issue what = {.common_name = name,
                                      .not_before = {clock_wall().s - 3600},
                                      .not_after = {clock_wall().s + until},
                                      .usage = USAGE_RPC};
    struct crypto_key *key;
    struct crypto_cert *cert;
    char path[200];
    assert_int_equal(crypto_key_new_p256(&key), 0);
    assert_int_equal(crypto_cert_issue(&cert, &what, key, issuer, issuer_key, NULL), 0);
    snprintf(path, sizeof path, "%s/%s.key", keys, file);
    assert_int_equal(crypto_key_save(key, path, NULL), 0);
    write_pem(keys, file, cert);
    crypto_cert_free(&cert);
    crypto_key_free(&key);
}

static int make_keys(void **state)
{
    (void)state;
    strcpy(keys, "/tmp/berth-keys-XXXXXX");
    assert_non_null(mkdtemp(keys));
    make_ca(&ca, &ca_key);
    make_ca(&other_ca, &other_key);
    write_pem(keys, "ca", ca);
    make_process("gateway", "gateway", 3600, ca, ca_key);
    make_process("pool", "pool", 3600, ca, ca_key);
    make_process("expired", "gateway", -60, ca, ca_key);
    make_process("foreign", "gateway", 3600, other_ca, other_key);
    return 0;
}

static int remove_keys(void **state)
{
    (void)state;
    static const char *const files[] = {"ca.pem",      "gateway.pem", "gateway.key",
                                        "pool.pem",    "pool.key",    "expired.pem",
                                        "expired.key", "foreign.pem", "foreign.key"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[200];
        snprintf(path, sizeof path, "%s/%s", keys, files[i]);
        unlink(path);
    }
    rmdir(keys);
    rpc_keys_unload();
    crypto_cert_free(&ca);
    crypto_cert_free(&other_ca);
    crypto_key_free(&ca_key);
    crypto_key_free(&other_key);
    return 0;
}

static void become(const char *process)
{
    struct error err = {{0}};
    if (rpc_keys_load(keys, process, &err))
        fail_msg("%s", err.text);
}

static const char *tls_url(struct fixture *f)
{
    snprintf(f->ipc_url, sizeof f->ipc_url, "tls+%s", f->tcp_url);
    return f->ipc_url;
}

// Serves as one process, dials as another.
static void meet(struct fixture *f, const char *server, const char *client,
                 bool (*done)(struct fixture *f))
{
    become(server);
    fixture_serve(f, tls_url(f));
    become(client);
    fixture_dial(f, tls_url(f), 5000);
    fixture_wait(f, done);
}

static void test_calls(void **state)
{
    struct fixture *f = *state;
    meet(f, "pool", "gateway", is_connected);
    for (uint32_t i = 1; i <= 5000; i++)
        fixture_call(f, "echo", i);
    fixture_wait_answers(f, 5000);
    assert_int_equal(f->answers, 5000);
    assert_int_equal(f->failures, 0);
    assert_int_equal(f->server_errors.value, 0);
}

// A server that goes away and comes back is found again.
static void test_reconnects(void **state)
{
    struct fixture *f = *state;
    meet(f, "pool", "gateway", is_connected);
    rpc_server_free(&f->server);
    fixture_wait(f, is_disconnected);
    become("pool");
    fixture_serve(f, tls_url(f));
    fixture_wait(f, is_connected);
    fixture_call(f, "echo", 7);
    fixture_wait_answers(f, 1);
    assert_int_equal(f->last_value, 7);
}

static bool server_refused(struct fixture *f)
{
    return f->server_errors.value > 0;
}

static bool client_refused(struct fixture *f)
{
    return f->client_errors.value > 0;
}

static void check_wrong(struct fixture *f, const char *server, const char *client,
                        bool (*refused)(struct fixture *f))
{
    meet(f, server, client, refused);
    assert_false(rpc_client_connected(f->client));
    assert_int_equal(f->answers, 0);
}

// The fixture's client claims to be the gateway.
static void test_client_of_another_role(void **state)
{
    check_wrong(*state, "pool", "pool", server_refused);
}

static void test_server_of_another_role(void **state)
{
    check_wrong(*state, "gateway", "gateway", client_refused);
}

static void test_foreign_client(void **state)
{
    check_wrong(*state, "pool", "foreign", server_refused);
}

static void test_foreign_server(void **state)
{
    check_wrong(*state, "foreign", "gateway", client_refused);
}

static void test_expired_client(void **state)
{
    check_wrong(*state, "pool", "expired", server_refused);
}

static void test_plain_client(void **state)
{
    struct fixture *f = *state;
    become("pool");
    fixture_serve(f, tls_url(f));
    fixture_dial(f, f->tcp_url, 5000);
    fixture_wait(f, server_refused);
    assert_false(rpc_client_connected(f->client));
}

static void test_plain_server(void **state)
{
    struct fixture *f = *state;
    fixture_serve(f, f->tcp_url);
    become("gateway");
    fixture_dial(f, tls_url(f), 5000);
    fixture_wait(f, client_refused);
    assert_false(rpc_client_connected(f->client));
}

static void test_no_keys(void **state)
{
    struct fixture *f = *state;
    rpc_keys_unload();
    assert_int_equal(rpc_server_new(&f->server, f->loop, tls_url(f), &f->service.base, NULL),
                     -ENOKEY);
    struct error err = {{0}};
    assert_true(rpc_keys_load(keys, "borrow", &err) < 0);
    assert_non_null(strstr(err.text, "borrow.pem"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_calls),
        TEST(test_reconnects),
        TEST(test_client_of_another_role),
        TEST(test_server_of_another_role),
        TEST(test_foreign_client),
        TEST(test_foreign_server),
        TEST(test_expired_client),
        TEST(test_plain_client),
        TEST(test_plain_server),
        TEST(test_no_keys),
    };
    return cmocka_run_group_tests(tests, make_keys, remove_keys);
}
