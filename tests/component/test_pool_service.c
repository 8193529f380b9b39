// berth-pool in one process with a trust that the test plays, over real RPC: license files are
// loaded with the verdict's keys, sessions come and go, and without a valid verdict nothing is
// issued.
#include "common/core/buf.h"
#include "common/core/license_block.h"
#include "common/core/text.h"
#include "common/crypto.h"
#include "common/rpc.h"
#include "pool.pb-c.h"
#include "services/pool/service.h"
#include "trust.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define CALL_MS 2000
#define TRIES 200
#define PAUSE_MS 20

struct fixture {
    char folder[64];
    struct loop *loop;
    struct rpc_server *trust;
    Berth__Trust_Service trust_service;
    Berth__Verdict verdict;
    ProtobufCBinaryData key_data;
    struct crypto_key *key;
    uint8_t raw[32];
    char id[17];
    struct config *config;
    void *pool;
    struct rpc_client *client;
    struct loop_timer pause;
    // Of the last answer:
    int code;
    char text[64]; // session ID, or the error's reason
    size_t listed;
};

static struct fixture *fixture;

static void trust_watch(Berth__Trust_Service *service, const Berth__WatchCall *input,
                        Berth__Verdict_Closure closure, void *data)
{
    (void)service;
    (void)input;
    closure(&fixture->verdict, data); // at once: the watch then asks again a little later
}

static void write_license(struct fixture *f, const char *name, unsigned count)
{
    struct buf body = {0}, b = {0};
    buf_printf(&body,
               LICENSE_SIGN_LABEL "format: 1\nuuid: 3c2d8f6e-0b7a-4f1e-9a52-6f0f4c1f3a77\n"
                                  "feature: F\nversion: 24.11\nedition: Steady\nmodules: fc\n"
                                  "count: %u\nserver-id: S-1\nissued: 2026-11-24T08:00:0%uZ\n",
               count, count % 10);
    uint8_t signature[64];
    size_t len = sizeof signature;
    char base64[92];
    assert_int_equal(crypto_sign(f->key, body.data, body.len, signature, &len), 0);
    base64_encode(signature, len, base64);
    buf_printf(&b, "-----BEGIN LICENSE-----\n%s-----END LICENSE-----\nsignature: %s %s\n",
               body.data + strlen(LICENSE_SIGN_LABEL), f->id, base64);
    char path[128];
    snprintf(path, sizeof path, "%s/%s", f->folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fwrite(b.data, 1, b.len, file);
    fclose(file);
    buf_fini(&b);
    buf_fini(&body);
}

static void stop_pause(void *ctx)
{
    struct fixture *f = ctx;
    loop_stop(f->loop);
}

static void pause_ms(struct fixture *f, int64_t ms)
{
    loop_timer_arm(f->loop, &f->pause, mono_after(loop_now(f->loop), ms));
    assert_int_equal(loop_run(f->loop), 0);
}

static void start(struct fixture *f)
{
    char text[512];
    struct error err = {{0}};
    snprintf(text, sizeof text,
             "licenses: {search_paths: [%s]}\nsessions: {revalidation_interval: 1 s}\n"
             "rpc: {pool: 'ipc://%s/pool', trust: 'ipc://%s/trust'}\nops: {pool: '127.0.0.1:0'}\n"
             "serve: {licenses: {tls: {certificate: c, key: k}}}\n"
             "trust: {server_license: l, vendor_ca: none.pem}\n",
             f->folder, f->folder, f->folder);
    if (config_parse(&f->config, "test.yaml", f->folder, text, strlen(text), &err))
        fail_msg("%s", err.text);
    if (pool_service_start(f->loop, f->config, &f->pool, &err))
        fail_msg("%s", err.text);
    char url[128];
    snprintf(url, sizeof url, "ipc://%s/pool", f->folder);
    assert_int_equal(rpc_client_new(&f->client, f->loop, url, BERTH__ROLE__GATEWAY,
                                    &berth__pool__descriptor, "pool", CALL_MS, NULL),
                     0);
    for (int i = 0; i < TRIES && !(pool_service_ready(f->pool) && rpc_client_connected(f->client));
         i++)
        pause_ms(f, PAUSE_MS);
    assert_true(pool_service_ready(f->pool));
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = fixture = f;
    strcpy(f->folder, "/tmp/berth-test-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    assert_int_equal(loop_new(&f->loop), 0);
    loop_timer_init(&f->pause, stop_pause, f);
    assert_int_equal(crypto_key_new_ed25519(&f->key), 0);
    assert_int_equal(crypto_key_public_raw(f->key, f->raw), 0);
    crypto_key_id(f->raw, f->id);
    f->key_data = (ProtobufCBinaryData){32, f->raw};
    berth__verdict__init(&f->verdict);
    f->verdict.generation = 1;
    f->verdict.state = BERTH__STATE__VALID;
    f->verdict.reason = (char *)(uintptr_t) "";
    f->verdict.variant = (char *)(uintptr_t) "cloud-ready";
    f->verdict.server_id = (char *)(uintptr_t) "S-1";
    f->verdict.n_license_keys = 1;
    f->verdict.license_keys = &f->key_data;
    berth__trust__init(&f->trust_service, NULL);
    f->trust_service.watch = trust_watch;
    char url[128];
    snprintf(url, sizeof url, "ipc://%s/trust", f->folder);
    assert_int_equal(rpc_server_new(&f->trust, f->loop, url, &f->trust_service.base, NULL), 0);
    write_license(f, "license.dat", 2);
    start(f);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    rpc_client_free(&f->client);
    pool_service_free(f->pool);
    rpc_server_free(&f->trust);
    config_free(&f->config);
    crypto_key_free(&f->key);
    loop_free(&f->loop);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", f->folder);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static void take_error(struct fixture *f)
{
    const Berth__Error *e = rpc_client_error(f->client);
    f->code = e->code;
    assert_true(e->message && *e->message);
    snprintf(f->text, sizeof f->text, "%s", e->reason ? e->reason : "");
}

static void on_session(const Berth__RequestSessionReply *r, void *data)
{
    struct fixture *f = data;
    f->code = 0;
    if (r)
        snprintf(f->text, sizeof f->text, "%s", r->session_id);
    else
        take_error(f);
    loop_stop(f->loop);
}

static void on_revalidated(const Berth__RevalidateSessionReply *r, void *data)
{
    struct fixture *f = data;
    f->code = 0;
    if (!r)
        take_error(f);
    loop_stop(f->loop);
}

static void on_empty(const Berth__Empty *r, void *data)
{
    struct fixture *f = data;
    f->code = 0;
    if (!r)
        take_error(f);
    loop_stop(f->loop);
}

static void on_list(const Berth__ListLicensesReply *r, void *data)
{
    struct fixture *f = data;
    assert_non_null(r);
    f->listed = r->n_licenses;
    f->code = r->n_licenses ? (int)r->licenses[0]->count : 0;
    loop_stop(f->loop);
}

static int request(struct fixture *f, const char *edition)
{
    Berth__RequestSessionCall call = BERTH__REQUEST_SESSION_CALL__INIT;
    call.feature = (char *)(uintptr_t) "F";
    call.version = (char *)(uintptr_t) "24.11";
    call.edition = (char *)(uintptr_t)edition;
    call.modules = (char *)(uintptr_t) "f";
    berth__pool__request_session(rpc_client_service(f->client), &call, on_session, f);
    assert_int_equal(loop_run(f->loop), 0);
    return f->code;
}

static int revalidate(struct fixture *f, const char *id)
{
    Berth__RevalidateSessionCall call = BERTH__REVALIDATE_SESSION_CALL__INIT;
    call.session_id = (char *)(uintptr_t)id;
    berth__pool__revalidate_session(rpc_client_service(f->client), &call, on_revalidated, f);
    assert_int_equal(loop_run(f->loop), 0);
    return f->code;
}

static int give_back(struct fixture *f, const char *id)
{
    Berth__ReturnSessionCall call = BERTH__RETURN_SESSION_CALL__INIT;
    call.session_id = (char *)(uintptr_t)id;
    berth__pool__return_session(rpc_client_service(f->client), &call, on_empty, f);
    assert_int_equal(loop_run(f->loop), 0);
    return f->code;
}

// The count of the one license; 0: there is none.
static int list(struct fixture *f)
{
    Berth__Empty call = BERTH__EMPTY__INIT;
    berth__pool__list_licenses(rpc_client_service(f->client), &call, on_list, f);
    assert_int_equal(loop_run(f->loop), 0);
    return f->code;
}

static void test_sessions(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(list(f), 2);
    assert_int_equal(request(f, "Steady"), 0);
    char first[64];
    strcpy(first, f->text);
    assert_int_equal(strlen(first), 32);
    assert_int_equal(request(f, "Steady"), 0);
    char second[64];
    strcpy(second, f->text);
    assert_int_equal(request(f, "Steady"), 1002);
    assert_int_equal(request(f, "Progress"), 1001);
    assert_int_equal(request(f, "steady"), -32602);
    assert_int_equal(revalidate(f, first), 0);
    assert_int_equal(give_back(f, first), 0);
    assert_int_equal(revalidate(f, first), 1003);
    assert_string_equal(f->text, "returned");
    assert_int_equal(give_back(f, "guess"), 1003);
    assert_string_equal(f->text, "unknown");
    assert_int_equal(request(f, "Steady"), 0);
    // Not revalidated for an interval of one second:
    for (int i = 0; i < TRIES && request(f, "Steady") == 1002; i++)
        pause_ms(f, PAUSE_MS);
    assert_int_equal(f->code, 0);
    assert_int_equal(revalidate(f, second), 1003);
    assert_string_equal(f->text, "expired");
}

static void test_verdict(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(request(f, "Steady"), 0);
    char id[64];
    strcpy(id, f->text);
    f->verdict.generation = 2;
    f->verdict.state = BERTH__STATE__INVALID;
    f->verdict.reason = (char *)(uintptr_t) "revoked";
    for (int i = 0; i < TRIES && request(f, "Steady") != 1004; i++)
        pause_ms(f, PAUSE_MS);
    assert_int_equal(f->code, 1004);
    assert_string_equal(f->text, "revoked");
    assert_int_equal(revalidate(f, id), 1004);
    assert_int_equal(list(f), 2);
    assert_int_equal(give_back(f, id), 0);
    rpc_server_free(&f->trust); // silence: after 3 s nothing is issued, licenses are still listed
    for (int i = 0; i < 4 * TRIES && request(f, "Steady") != 1011; i++)
        pause_ms(f, PAUSE_MS);
    assert_int_equal(f->code, 1011);
    assert_int_equal(list(f), 2);
}

static void test_files_and_keys(void **state)
{
    struct fixture *f = *state;
    write_license(f, "license.dat", 5);
    for (int i = 0; i < TRIES && list(f) != 5; i++)
        pause_ms(f, PAUSE_MS);
    assert_int_equal(f->code, 5);
    char *revoked[] = {f->id};
    f->verdict.generation = 3;
    f->verdict.n_revoked_key_ids = 1;
    f->verdict.revoked_key_ids = revoked;
    for (int i = 0; i < TRIES && list(f); i++)
        pause_ms(f, PAUSE_MS);
    assert_int_equal(f->listed, 0);
    assert_int_equal(request(f, "Steady"), 1001);
    f->verdict.n_revoked_key_ids = 0;
    f->verdict.revoked_key_ids = NULL;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_sessions), T(test_verdict), T(test_files_and_keys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
