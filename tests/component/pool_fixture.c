#include "tests/component/pool_fixture.h"

#include "common/clock.h"
#include "common/core/buf.h"
#include "common/core/license_block.h"
#include "common/core/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define CALL_MS 2000

static struct pool_fixture *fixture;

static void trust_watch(Berth__Trust_Service *service, const Berth__WatchCall *input,
                        Berth__Verdict_Closure closure, void *data)
{
    (void)service;
    (void)input;
    closure(&fixture->verdict, data); // at once: the watch then asks again a little later
}

// As berth-trust does it.
static void trust_delegate(Berth__Trust_Service *service, const Berth__DelegateCall *input,
                           Berth__DelegateReply_Closure closure, void *data)
{
    (void)service;
    struct pool_fixture *f = fixture;
    if (!f->delegates) {
        Berth__Error e = BERTH__ERROR__INIT;
        e.code = 1011;
        e.message = (char *)(uintptr_t) "no";
        rpc_fail(data, &e);
        return;
    }
    struct wall_time from = {clock_wall().s + f->clock_ahead_s};
    struct wall_time until = {from.s + f->delegation_s};
    char key[64], dates[2][32], payload[512], text[1024], part[700];
    uint8_t signature[512];
    size_t len = sizeof signature;
    base64_encode(input->public_key.data, input->public_key.len, key);
    snprintf(payload, sizeof payload,
             GRANT_DELEGATION_LABEL "{\"format\":1,\"key\":\"%s\",\"serverId\":\"%s\","
                                    "\"validFrom\":\"%s\",\"validUntil\":\"%s\"}",
             key, f->verdict.server_id, wall_format(from, dates[0]), wall_format(until, dates[1]));
    assert_int_equal(crypto_sign(f->server_key, payload, strlen(payload), signature, &len), 0);
    const char *unlabelled = payload + strlen(GRANT_DELEGATION_LABEL);
    base64_encode((const uint8_t *)unlabelled, strlen(unlabelled), part);
    size_t n = (size_t)snprintf(text, sizeof text, "{\"format\":1,\"payload\":\"%s\",", part);
    base64_encode(signature, len, part);
    n += (size_t)snprintf(text + n, sizeof text - n, "\"signature\":\"%s\"}", part);
    Berth__DelegateReply reply = BERTH__DELEGATE_REPLY__INIT;
    reply.delegation = (ProtobufCBinaryData){n, (uint8_t *)text};
    reply.certificate = f->server_pem;
    reply.valid_until_s = until.s;
    f->delegated++;
    closure(&reply, data);
}

static void make_certificates(struct pool_fixture *f)
{
    static const char extension[] =
        "{\"format\":1,\"variant\":\"cloud-ready\",\"addons\":[],\"licenseKeys\":"
        "[\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"],\"cloudUrl\":\"https://localhost:1\"}";
    struct crypto_issue what = {.common_name = "Test CA",
                                .not_before = {clock_wall().s - 86400},
                                .not_after = {clock_wall().s + 86400},
                                .ca = true};
    struct crypto_cert *ca, *cert;
    struct error err;
    assert_int_equal(crypto_key_new_p256(&f->ca_key), 0);
    assert_int_equal(crypto_key_new_p256(&f->server_key), 0);
    assert_int_equal(crypto_cert_issue(&ca, &what, f->ca_key, NULL, NULL, &err), 0);
    what.common_name = "S-1";
    what.ca = false;
    what.usage = USAGE_SERVER_LICENSE;
    what.extension_json = extension;
    assert_int_equal(crypto_cert_issue(&cert, &what, f->server_key, ca, f->ca_key, &err), 0);
    char *pem = crypto_cert_pem(ca);
    assert_int_equal(crypto_ca_load_pem(&f->ca, pem, strlen(pem), &err), 0);
    free(pem);
    f->server_pem = crypto_cert_pem(cert);
    crypto_cert_free(&ca);
    crypto_cert_free(&cert);
}

void pool_write_license(struct pool_fixture *f, const char *name, unsigned count)
{
    struct buf body = {0}, b = {0};
    buf_printf(&body,
               LICENSE_SIGN_LABEL "format: 1\nuuid: " POOL_UUID "\n"
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
    struct pool_fixture *f = ctx;
    loop_stop(f->loop);
}

void pool_pause(struct pool_fixture *f, int64_t ms)
{
    loop_timer_arm(f->loop, &f->pause, mono_after(loop_now(f->loop), ms));
    assert_int_equal(loop_run(f->loop), 0);
}

static void connect_as(struct pool_fixture *f, struct rpc_client **client, Berth__Role role)
{
    char url[128];
    snprintf(url, sizeof url, "ipc://%s/pool", f->folder);
    assert_int_equal(
        rpc_client_new(client, f->loop, url, role, &berth__pool__descriptor, "pool", CALL_MS, NULL),
        0);
    for (int i = 0; i < POOL_TRIES && !rpc_client_connected(*client); i++)
        pool_pause(f, POOL_PAUSE_MS);
    assert_true(rpc_client_connected(*client));
}

void pool_start(struct pool_fixture *f)
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
    connect_as(f, &f->client, BERTH__ROLE__GATEWAY);
    connect_as(f, &f->borrow, BERTH__ROLE__BORROW);
}

void pool_stop(struct pool_fixture *f)
{
    rpc_client_free(&f->client);
    rpc_client_free(&f->borrow);
    pool_service_free(f->pool);
    config_free(&f->config);
}

void pool_no_borrows(struct pool_fixture *f)
{
    assert_int_equal(pool_tell(f, f->borrow, true, true, NULL, 0), 0);
    for (int i = 0; i < POOL_TRIES && !pool_service_ready(f->pool); i++)
        pool_pause(f, POOL_PAUSE_MS);
    assert_true(pool_service_ready(f->pool));
}

int pool_setup(void **state)
{
    struct pool_fixture *f = calloc(1, sizeof *f);
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
    f->trust_service.delegate = trust_delegate;
    f->delegates = true;
    f->delegation_s = 600;
    make_certificates(f);
    char url[128];
    snprintf(url, sizeof url, "ipc://%s/trust", f->folder);
    assert_int_equal(rpc_server_new(&f->trust, f->loop, url, &f->trust_service.base, NULL), 0);
    pool_write_license(f, "license.dat", 2);
    pool_start(f);
    pool_no_borrows(f);
    return 0;
}

int pool_teardown(void **state)
{
    struct pool_fixture *f = *state;
    pool_stop(f);
    rpc_server_free(&f->trust);
    buf_fini(&f->block);
    for (size_t i = 0; i < 4; i++)
        buf_fini(&f->grant[i]);
    crypto_key_free(&f->ca_key);
    crypto_key_free(&f->server_key);
    crypto_ca_free(&f->ca);
    free(f->server_pem);
    crypto_key_free(&f->key);
    loop_free(&f->loop);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", f->folder);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static void take_error(struct pool_fixture *f, const struct rpc_client *client)
{
    const Berth__Error *e = rpc_client_error(client);
    f->code = e->code;
    assert_true(e->message && *e->message);
    snprintf(f->text, sizeof f->text, "%s", e->reason ? e->reason : e->service ? e->service : "");
}

static int wait_for(struct pool_fixture *f)
{
    assert_int_equal(loop_run(f->loop), 0);
    return f->code;
}

static void take_grant(struct pool_fixture *f, const Berth__Grant *g)
{
    for (size_t i = 0; i < 4; i++)
        buf_clear(&f->grant[i]);
    if (!g)
        return;
    const ProtobufCBinaryData parts[] = {g->payload, g->signature, g->delegation};
    for (size_t i = 0; i < 3; i++) {
        buf_reserve(&f->grant[i], 2 * parts[i].len + 4);
        f->grant[i].len = base64_encode(parts[i].data, parts[i].len, f->grant[i].data);
    }
    buf_add_str(&f->grant[3], g->certificate);
}

static void on_session(const Berth__RequestSessionReply *r, void *data)
{
    struct pool_fixture *f = data;
    f->code = 0;
    take_grant(f, r ? r->grant : NULL);
    if (r)
        snprintf(f->text, sizeof f->text, "%s", r->session_id);
    else
        take_error(f, f->client);
    loop_stop(f->loop);
}

static void on_revalidated(const Berth__RevalidateSessionReply *r, void *data)
{
    struct pool_fixture *f = data;
    f->code = 0;
    take_grant(f, r ? r->grant : NULL);
    if (!r)
        take_error(f, f->client);
    loop_stop(f->loop);
}

static void on_returned(const Berth__Empty *r, void *data)
{
    struct pool_fixture *f = data;
    f->code = 0;
    if (!r)
        take_error(f, f->client);
    loop_stop(f->loop);
}

static void on_list(const Berth__ListLicensesReply *r, void *data)
{
    struct pool_fixture *f = data;
    assert_non_null(r);
    f->listed = r->n_licenses;
    f->code = 0;
    f->available = 0;
    f->intervals = 0;
    if (r->n_licenses) {
        f->code = (int)r->licenses[0]->count;
        f->available = r->licenses[0]->available;
        f->intervals = r->licenses[0]->n_borrowed;
    }
    loop_stop(f->loop);
}

static int ask(struct pool_fixture *f, const char *edition, const char *instance, const char *host,
               const char *nonce)
{
    Berth__RequestSessionCall call = BERTH__REQUEST_SESSION_CALL__INIT;
    Berth__ClientInfo client = BERTH__CLIENT_INFO__INIT;
    call.feature = (char *)(uintptr_t) "F";
    call.version = (char *)(uintptr_t) "24.11";
    call.edition = (char *)(uintptr_t)edition;
    call.modules = (char *)(uintptr_t) "f";
    call.instance_id = (char *)(uintptr_t)instance;
    client.host_id = (char *)(uintptr_t)host;
    call.client = host ? &client : NULL;
    call.has_nonce = nonce != NULL;
    call.nonce = (ProtobufCBinaryData){nonce ? 16 : 0, (uint8_t *)(uintptr_t)nonce};
    berth__pool__request_session(rpc_client_service(f->client), &call, on_session, f);
    return wait_for(f);
}

int pool_ask(struct pool_fixture *f, const char *edition)
{
    return ask(f, edition, NULL, NULL, NULL);
}

int pool_ask_proof(struct pool_fixture *f, const char *instance, const char *host,
                   const char *nonce)
{
    return ask(f, "Steady", instance, host, nonce);
}

int pool_ask_again_proof(struct pool_fixture *f, const char *id, const char *nonce)
{
    Berth__RevalidateSessionCall call = BERTH__REVALIDATE_SESSION_CALL__INIT;
    call.session_id = (char *)(uintptr_t)id;
    call.has_nonce = nonce != NULL;
    call.nonce = (ProtobufCBinaryData){nonce ? 16 : 0, (uint8_t *)(uintptr_t)nonce};
    berth__pool__revalidate_session(rpc_client_service(f->client), &call, on_revalidated, f);
    return wait_for(f);
}

int pool_ask_again(struct pool_fixture *f, const char *id)
{
    return pool_ask_again_proof(f, id, NULL);
}

int pool_give_back(struct pool_fixture *f, const char *id)
{
    Berth__ReturnSessionCall call = BERTH__RETURN_SESSION_CALL__INIT;
    call.session_id = (char *)(uintptr_t)id;
    berth__pool__return_session(rpc_client_service(f->client), &call, on_returned, f);
    return wait_for(f);
}

int pool_list(struct pool_fixture *f)
{
    Berth__Empty call = BERTH__EMPTY__INIT;
    berth__pool__list_licenses(rpc_client_service(f->client), &call, on_list, f);
    return wait_for(f);
}

// ---- as borrow, or as somebody who may not ----

struct asked {
    struct pool_fixture *f;
    struct rpc_client *as;
};

static void on_told(const Berth__Empty *r, void *data)
{
    struct asked *a = data;
    a->f->code = 0;
    if (!r)
        take_error(a->f, a->as);
    loop_stop(a->f->loop);
}

int pool_tell(struct pool_fixture *f, struct rpc_client *as, bool first, bool last,
              Berth__BorrowedSeat **seats, size_t len)
{
    struct asked asked = {f, as};
    Berth__SetBorrowsCall call = BERTH__SET_BORROWS_CALL__INIT;
    call.first = first;
    call.last = last;
    call.n_borrows = len;
    call.borrows = seats;
    berth__pool__set_borrows(rpc_client_service(as), &call, on_told, &asked);
    return wait_for(f);
}

int pool_add(struct pool_fixture *f, struct rpc_client *as, Berth__BorrowedSeat *seat)
{
    struct asked asked = {f, as};
    Berth__AddBorrowCall call = BERTH__ADD_BORROW_CALL__INIT;
    call.borrow = seat;
    berth__pool__add_borrow(rpc_client_service(as), &call, on_told, &asked);
    return wait_for(f);
}

static void on_found(const Berth__FindLicenseReply *r, void *data)
{
    struct asked *a = data;
    struct pool_fixture *f = a->f;
    f->code = 0;
    buf_clear(&f->block);
    if (r) {
        buf_add(&f->block, r->block.data, r->block.len);
        f->code = r->certificate ? -1 : (int)r->count;
    } else {
        take_error(f, a->as);
    }
    loop_stop(f->loop);
}

int pool_find(struct pool_fixture *f, struct rpc_client *as, const char *uuid)
{
    struct asked asked = {f, as};
    Berth__FindLicenseCall call = BERTH__FIND_LICENSE_CALL__INIT;
    call.uuid = (char *)(uintptr_t)uuid;
    call.feature = (char *)(uintptr_t) "F";
    berth__pool__find_license(rpc_client_service(as), &call, on_found, &asked);
    return wait_for(f);
}
