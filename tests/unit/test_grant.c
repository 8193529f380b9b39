// Grants: what pool writes verifies; what a false server, or somebody who shares a session, could
// put together does not.
#include "common/core/text.h"
#include "common/grant.h"
#include "tests/unit/borrow_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOW FIXTURE_NOW
#define SESSION "0123456789abcdef0123456789abcdef"
#define OTHER "ffffffffffffffffffffffffffffffff"

struct parts {
    struct borrow_vendor vendor;
    struct borrow_server server;
    struct crypto_key *key; // pool's
    struct arena *arena;
    const uint8_t *nonce;
};

static int setup(void **state)
{
    static const uint8_t nonce[16] = "sixteen bytes..";
    struct parts *p = calloc(1, sizeof *p);
    *state = p;
    borrow_vendor_make(&p->vendor);
    borrow_server_make(&p->server, &p->vendor, FIXTURE_SERVER, NOW + 100 * FIXTURE_DAY, NULL);
    assert_int_equal(crypto_key_new_ed25519(&p->key), 0);
    p->arena = arena_new(4096);
    p->nonce = nonce;
    return 0;
}

static int teardown(void **state)
{
    struct parts *p = *state;
    borrow_server_drop(&p->server);
    borrow_vendor_drop(&p->vendor);
    crypto_key_free(&p->key);
    arena_free(&p->arena);
    free(p);
    return 0;
}

static const char *base64(struct arena *a, const void *data, size_t len)
{
    char *out = arena_alloc(a, 4 * ((len + 2) / 3) + 1);
    base64_encode(data, len, out);
    return out;
}

// As berth-trust writes it.
static const char *delegation(struct parts *p, const struct crypto_key *signer,
                              const struct crypto_key *key, const char *server_id, int64_t from,
                              int64_t until)
{
    uint8_t raw[32], signature[512];
    size_t len = sizeof signature;
    char dates[2][32];
    assert_int_equal(crypto_key_public_raw(key, raw), 0);
    const char *payload = arena_printf(p->arena,
                                       "{\"format\":1,\"key\":\"%s\",\"serverId\":\"%s\","
                                       "\"validFrom\":\"%s\",\"validUntil\":\"%s\"}",
                                       base64(p->arena, raw, sizeof raw), server_id,
                                       wall_format((struct wall_time){from}, dates[0]),
                                       wall_format((struct wall_time){until}, dates[1]));
    const char *labelled = arena_printf(p->arena, "%s%s", GRANT_DELEGATION_LABEL, payload);
    assert_int_equal(crypto_sign(signer, labelled, strlen(labelled), signature, &len), 0);
    const char *text =
        arena_printf(p->arena, "{\"format\":1,\"payload\":\"%s\",\"signature\":\"%s\"}",
                     base64(p->arena, payload, strlen(payload)), base64(p->arena, signature, len));
    return base64(p->arena, text, strlen(text));
}

static struct grant_facts facts_any(const struct parts *p)
{
    struct grant_facts f = {.nonce = p->nonce,
                            .nonce_len = 16,
                            .instance_id = "run \"1\" \xc3\xa4",
                            .host_id = FIXTURE_HOST,
                            .feature = "F",
                            .uuid = FIXTURE_UUID,
                            .version = "24.11",
                            .edition = "Steady",
                            .modules = "",
                            .server_id = FIXTURE_SERVER,
                            .time = {NOW},
                            .revalidate_within_s = 120};
    grant_session_hash(SESSION, f.session_hash);
    return f;
}

static struct grant_expected expected_any(const struct parts *p)
{
    return (struct grant_expected){.nonce = p->nonce,
                                   .nonce_len = 16,
                                   .session_id = SESSION,
                                   .instance_id = "run \"1\" \xc3\xa4",
                                   .host_id = FIXTURE_HOST,
                                   .feature = "F"};
}

static void sign(struct parts *p, const struct crypto_key *key, const char *payload,
                 struct grant_texts *out)
{
    uint8_t signature[64];
    struct buf text = {0};
    buf_add_str(&text, payload);
    assert_int_equal(grant_sign(key, &text, signature), 0);
    out->payload = base64(p->arena, text.data, text.len);
    out->signature = base64(p->arena, signature, sizeof signature);
    buf_fini(&text);
}

static struct grant_texts texts_of(struct parts *p, const struct grant_facts *f)
{
    struct buf payload = {0};
    struct grant_texts t = {.certificate = p->server.pem};
    grant_write_payload(&payload, f);
    sign(p, p->key, payload.data, &t);
    t.delegation = delegation(p, p->server.key, p->key, FIXTURE_SERVER, NOW - 60, NOW + 540);
    buf_fini(&payload);
    return t;
}

static void refused(struct parts *p, const struct grant_texts *t, const struct grant_expected *e,
                    const char *why)
{
    struct error err = {{0}};
    assert_int_equal(grant_verify(NULL, p->arena, t, e, p->vendor.root.ca, &err), -EACCES);
    if (!strstr(err.text, why))
        fail_msg("\"%s\" instead of \"%s\"", err.text, why);
}

static void test_what_is_written_verifies(void **state)
{
    struct parts *p = *state;
    struct grant_facts f = facts_any(p), back;
    struct grant_texts t = texts_of(p, &f);
    struct grant_expected e = expected_any(p);
    struct error err = {{0}};
    if (grant_verify(&back, p->arena, &t, &e, p->vendor.root.ca, &err))
        fail_msg("%s", err.text);
    assert_int_equal(back.time.s, NOW);
    assert_int_equal(back.revalidate_within_s, 120);
    assert_string_equal(back.server_id, FIXTURE_SERVER);
    assert_string_equal(back.uuid, FIXTURE_UUID);
    assert_string_equal(back.version, "24.11");
    assert_string_equal(back.edition, "Steady");
    assert_string_equal(back.modules, "");
    // Long after: when it is looked at does not matter.
    assert_int_equal(strlen(back.session_hash), 64);
    assert_null(strstr(back.session_hash, SESSION));
}

// Its own part only; whatever the payload says is signed by the right key.
static void test_not_for_this_request(void **state)
{
    struct parts *p = *state;
    struct grant_facts f = facts_any(p);
    struct grant_texts t = texts_of(p, &f);
    static const uint8_t other[16] = "another nonce..";
    const struct {
        struct grant_expected e;
        const char *why;
    } cases[] = {
        {{other, 16, SESSION, f.instance_id, FIXTURE_HOST, "F"}, "nonce"},
        {{p->nonce, 15, SESSION, f.instance_id, FIXTURE_HOST, "F"}, "nonce"},
        {{p->nonce, 16, OTHER, f.instance_id, FIXTURE_HOST, "F"}, "session"},
        {{p->nonce, 16, SESSION, "run 2", FIXTURE_HOST, "F"}, "instanceId"},
        {{p->nonce, 16, SESSION, f.instance_id, "aa:bb", "F"}, "hostId"},
        {{p->nonce, 16, SESSION, f.instance_id, FIXTURE_HOST, "G"}, "feature"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(p, &t, &cases[i].e, cases[i].why);
}

static void test_times(void **state)
{
    struct parts *p = *state;
    struct grant_expected e = expected_any(p);
    static const struct {
        int64_t time;
        const char *why; // NULL: good
    } cases[] = {
        {NOW - 61, "delegation"}, {NOW - 60, NULL}, {NOW + 539, NULL}, {NOW + 540, "delegation"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct grant_facts f = facts_any(p);
        struct error err;
        f.time.s = cases[i].time;
        struct grant_texts t = texts_of(p, &f);
        if (cases[i].why)
            refused(p, &t, &e, cases[i].why);
        else
            assert_int_equal(grant_verify(NULL, p->arena, &t, &e, p->vendor.root.ca, &err), 0);
    }
    // A server license that had run out, or had not begun.
    static const int64_t outside[] = {NOW + 100 * FIXTURE_DAY, NOW - 2 * FIXTURE_DAY};
    for (size_t i = 0; i < 2; i++) {
        struct grant_facts f = facts_any(p);
        f.time.s = outside[i];
        struct grant_texts t = texts_of(p, &f);
        t.delegation =
            delegation(p, p->server.key, p->key, FIXTURE_SERVER, outside[i] - 10, outside[i] + 10);
        refused(p, &t, &e, "server license");
    }
}

static void test_false_servers(void **state)
{
    struct parts *p = *state;
    struct grant_expected e = expected_any(p);
    struct grant_facts f = facts_any(p);
    const struct grant_texts good = texts_of(p, &f);
    struct grant_texts t = good;

    // A vendor of its own.
    struct borrow_vendor vendor;
    struct borrow_server server;
    borrow_vendor_make(&vendor);
    borrow_server_make(&server, &vendor, FIXTURE_SERVER, NOW + FIXTURE_DAY, NULL);
    t.certificate = server.pem;
    t.delegation = delegation(p, server.key, p->key, FIXTURE_SERVER, NOW - 60, NOW + 540);
    refused(p, &t, &e, "no server license of the vendor");
    // Its own key, certified by nobody, or by itself.
    t = good;
    t.delegation = delegation(p, server.key, p->key, FIXTURE_SERVER, NOW - 60, NOW + 540);
    refused(p, &t, &e, "not signed by the server license");
    borrow_server_drop(&server);
    borrow_vendor_drop(&vendor);

    // A key that was not certified.
    struct crypto_key *key;
    struct buf payload = {0};
    assert_int_equal(crypto_key_new_ed25519(&key), 0);
    t = good;
    grant_write_payload(&payload, &f);
    sign(p, key, payload.data, &t);
    refused(p, &t, &e, "signature does not fit");
    crypto_key_free(&key);

    // Another licensed server's delegation, or grant.
    borrow_server_make(&server, &p->vendor, "OTHER", NOW + FIXTURE_DAY, NULL);
    t = good;
    t.delegation = delegation(p, p->server.key, p->key, "OTHER", NOW - 60, NOW + 540);
    refused(p, &t, &e, "of another server");
    t = good;
    t.certificate = server.pem;
    t.delegation = delegation(p, server.key, p->key, "OTHER", NOW - 60, NOW + 540);
    refused(p, &t, &e, "of another server");
    borrow_server_drop(&server);

    // The vendor's own certificate is no server license; and garbage is nothing.
    char *ca = crypto_cert_pem(p->vendor.root.cert);
    t = good;
    t.certificate = ca;
    refused(p, &t, &e, "no server license of the vendor");
    free(ca);
    t.certificate = "garbage";
    refused(p, &t, &e, "");
    buf_fini(&payload);
}

static void test_every_character_counts(void **state)
{
    struct parts *p = *state;
    struct grant_expected e = expected_any(p);
    struct grant_facts f = facts_any(p);
    const struct grant_texts good = texts_of(p, &f);
    const char *const parts[] = {good.payload, good.signature, good.delegation};
    for (size_t part = 0; part < 3; part++) {
        char *copy = strdup(parts[part]);
        for (size_t i = 0; copy[i]; i++) {
            char before = copy[i];
            copy[i] = before == 'A' ? 'B' : 'A';
            struct grant_texts t = good;
            *(part == 0 ? &t.payload : part == 1 ? &t.signature : &t.delegation) = copy;
            refused(p, &t, &e, "");
            copy[i] = '\0'; // and cut off there
            refused(p, &t, &e, "");
            copy[i] = before;
        }
        free(copy);
    }
}

// Signed by the right key, and still not as it must be.
static void test_payloads(void **state)
{
    struct parts *p = *state;
    struct grant_expected e = expected_any(p);
    struct grant_facts f = facts_any(p);
    struct grant_texts t = texts_of(p, &f);
    struct buf good = {0};
    struct error err;
    grant_write_payload(&good, &f);
    static const struct {
        const char *find, *put, *why; // why NULL: good
    } cases[] = {
        {"\"format\":1", "\"format\":1,\"later\":[1]", NULL},
        {"\"format\":1", "\"format\":2", "newer"},
        {"\"format\":1,", "", "not as it must be"},
        {"\"format\":1", "\"format\":\"1\"", "not as it must be"},
        {"\"format\":1", "\"format\":1,\"format\":1", "not as it must be"},
        {"\"nonce\"", "\"once\"", "lacks"},
        {"\"revalidateWithin\":120", "\"revalidateWithin\":0", "lacks"},
        {"\"revalidateWithin\":120", "\"revalidateWithin\":1e9", "lacks"},
        {"\"time\":\"", "\"time\":\"x", "lacks"},
        {"\"hostId\":", "\"hostId\":1,\"x\":", "lacks"},
        {"{\"feature\":\"F\"", "{\"feature\":null", "lacks"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *at = strstr(good.data, cases[i].find);
        assert_non_null(at);
        const char *text = arena_printf(p->arena, "%.*s%s%s", (int)(at - good.data), good.data,
                                        cases[i].put, at + strlen(cases[i].find));
        sign(p, p->key, text, &t);
        if (cases[i].why)
            refused(p, &t, &e, cases[i].why);
        else
            assert_int_equal(grant_verify(NULL, p->arena, &t, &e, p->vendor.root.ca, &err), 0);
    }
    buf_fini(&good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_verifies),
        cmocka_unit_test(test_not_for_this_request),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_false_servers),
        cmocka_unit_test(test_every_character_counts),
        cmocka_unit_test(test_payloads),
    };
    return cmocka_run_group_tests_name("grant", tests, setup, teardown);
}
