// Keys, certificates, server licenses: what is accepted, and that every other use is refused.
#include "common/crypto.h"
#include "common/server_license.h"
#include "tests/unit/ca_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW 1795507200 // 2026-11-24T08:00:00Z
#define DAY 86400

static struct test_ca vendor, stranger;

static int setup(void **state)
{
    test_ca_make(&vendor, (struct wall_time){NOW});
    test_ca_make(&stranger, (struct wall_time){NOW});
    return 0;
}

static int teardown(void **state)
{
    test_ca_drop(&vendor);
    test_ca_drop(&stranger);
    return 0;
}

#define KEY_A "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define CLOUD                                                                                      \
    "{\"format\":1,\"variant\":\"cloud-ready\",\"addons\":[\"borrow\"],\"licenseKeys\":[\"" KEY_A  \
    "\"],\"cloudUrl\":\"https://cloud.example.com\"}"

static struct crypto_cert *issue(const struct test_ca *by, enum crypto_usage usage,
                                 const char *name, const char *json)
{
    struct crypto_issue what = {.common_name = name,
                                .not_before = {NOW - DAY},
                                .not_after = {NOW + DAY},
                                .usage = usage,
                                .extension_json = json};
    struct crypto_key *key = NULL;
    struct crypto_cert *cert = NULL;
    struct error err = {""};
    assert_int_equal(crypto_key_new_p256(&key), 0);
    assert_int_equal(crypto_cert_issue(&cert, &what, key, by->cert, by->key, &err), 0);
    assert_true(crypto_cert_matches_key(cert, key));
    assert_false(crypto_cert_matches_key(cert, by->key));
    crypto_key_free(&key);
    return cert;
}

static int read_at(struct crypto_cert *cert, struct server_license *out, int64_t now)
{
    struct error err = {""};
    int r = server_license_read(out, cert, vendor.ca, (struct wall_time){now}, &err);
    assert_int_equal(r != 0, *err.text != '\0');
    crypto_cert_free(&cert);
    return r;
}

static void test_server_license(void **state)
{
    struct server_license l;
    assert_int_equal(read_at(issue(&vendor, USAGE_SERVER_LICENSE, "BERTH-1", CLOUD), &l, NOW), 0);
    assert_string_equal(l.server_id, "BERTH-1");
    assert_string_equal(l.variant, "cloud-ready");
    assert_int_equal(l.addons_len, 1);
    assert_string_equal(l.addons[0], "borrow");
    assert_int_equal(l.license_keys_len, 1);
    assert_string_equal(l.cloud_url, "https://cloud.example.com");
    assert_true(l.not_after.s == NOW + DAY);
    // The moments around its validity; the struct is filled all the same.
    static const struct {
        int64_t now;
        int expected;
    } moments[] = {{NOW - DAY - 1, 2}, {NOW - DAY, 0}, {NOW + DAY, 0}, {NOW + DAY + 1, 1}};
    for (size_t i = 0; i < 4; i++) {
        struct crypto_cert *cert = issue(&vendor, USAGE_SERVER_LICENSE, "BERTH-1", CLOUD);
        assert_int_equal(read_at(cert, &l, moments[i].now), moments[i].expected);
        assert_string_equal(l.server_id, "BERTH-1");
    }
}

static void test_wrong_use(void **state)
{
    struct server_license l;
    assert_true(read_at(issue(&vendor, USAGE_BACKEND_TLS, "BERTH-1", CLOUD), &l, NOW) < 0);
    assert_true(read_at(issue(&vendor, USAGE_LICENSE_KEY, "BERTH-1", CLOUD), &l, NOW) < 0);
    assert_true(read_at(issue(&stranger, USAGE_SERVER_LICENSE, "BERTH-1", CLOUD), &l, NOW) < 0);
    assert_true(read_at(issue(&vendor, USAGE_SERVER_LICENSE, "BERTH-1", NULL), &l, NOW) < 0);
    assert_true(read_at(issue(&vendor, USAGE_SERVER_LICENSE, "BERTH 1", CLOUD), &l, NOW) < 0);
    assert_true(read_at(issue(&vendor, USAGE_SERVER_LICENSE, "BERTH/1", CLOUD), &l, NOW) < 0);
    struct crypto_cert *ca = NULL;
    char *pem = crypto_cert_pem(vendor.cert);
    assert_int_equal(crypto_cert_load_pem(&ca, pem, strlen(pem), NULL), 0);
    free(pem);
    assert_true(crypto_cert_is_ca(ca));
    assert_true(read_at(ca, &l, NOW) < 0);

    // Each usage is good for itself alone.
    for (int made = USAGE_SERVER_LICENSE; made <= USAGE_LICENSE_KEY; made++) {
        struct crypto_cert *cert = issue(&vendor, (enum crypto_usage)made, "x", NULL);
        for (int asked = USAGE_SERVER_LICENSE; asked <= USAGE_LICENSE_KEY; asked++) {
            int r = crypto_cert_verify(cert, vendor.ca, (enum crypto_usage)asked,
                                       (struct wall_time){NOW}, NULL);
            assert_int_equal(r == 0, made == asked);
        }
        crypto_cert_free(&cert);
    }
}

// A server license must not issue certificates, not even to somebody who has its key.
static void test_leaf_is_no_ca(void **state)
{
    struct crypto_key *key = NULL, *other = NULL;
    struct crypto_cert *leaf = NULL, *forged = NULL;
    struct crypto_issue what = {.common_name = "BERTH-1",
                                .not_before = {NOW - DAY},
                                .not_after = {NOW + DAY},
                                .usage = USAGE_SERVER_LICENSE,
                                .extension_json = CLOUD};
    assert_int_equal(crypto_key_new_p256(&key), 0);
    assert_int_equal(crypto_key_new_p256(&other), 0);
    assert_int_equal(crypto_cert_issue(&leaf, &what, key, vendor.cert, vendor.key, NULL), 0);
    assert_int_equal(crypto_cert_issue(&forged, &what, other, leaf, key, NULL), 0);
    struct server_license l;
    assert_true(read_at(forged, &l, NOW) < 0);
    crypto_cert_free(&leaf);
    crypto_key_free(&key);
    crypto_key_free(&other);
}

#define HEAD(variant, addons) "{\"format\":1,\"variant\":\"" variant "\",\"addons\":" addons
#define KEYS ",\"licenseKeys\":[\"" KEY_A "\"]"
#define URL ",\"cloudUrl\":\"https://c.example.com\"}"

static void test_extension(void **state)
{
    static const struct {
        const char *json;
        bool good;
    } cases[] = {
        {CLOUD, true},
        {HEAD("on-premises", "[]") KEYS "}", true},
        {HEAD("cloud-ready", "[]") KEYS URL, true},
        {HEAD("cloud-ready", "[]") KEYS ",\"unknown\":{}" URL, true},
        {HEAD("cloud-ready", "[]") KEYS "}", false},
        {HEAD("cloud-ready", "[]") KEYS ",\"cloudUrl\":\"http://c.example.com\"}", false},
        {HEAD("cloud-ready", "[]") KEYS ",\"cloudUrl\":7}", false},
        {HEAD("cloud-ready", "[]") KEYS ",\"cloudUrl\":\"https://\"}", false},
        {HEAD("cloud-ready", "[]") KEYS ",\"cloudUrl\":\"https://a b\"}", false},
        {HEAD("cloud-ready", "[]") KEYS ",\"cloudUrl\":\"https://a\\nb\"}", false},
        {HEAD("on-premises", "[\"borrow\"]") KEYS "}", false},
        {HEAD("cloudy", "[]") KEYS URL, false},
        {HEAD("cloud-ready", "\"borrow\"") KEYS URL, false},
        {HEAD("cloud-ready", "[1]") KEYS URL, false},
        {HEAD("cloud-ready", "[]") ",\"licenseKeys\":[]" URL, true},
        {HEAD("cloud-ready", "[]") ",\"licenseKeys\":[\"AAAA\"]" URL, false},
        {HEAD("cloud-ready", "[]") ",\"licenseKeys\":[\"" KEY_A " \"]" URL, false},
        {HEAD("cloud-ready", "[]") URL, false},
        {HEAD("cloud-ready", "[]") KEYS KEYS URL, false},
        {"{\"format\":2,\"variant\":\"cloud-ready\",\"addons\":[]" KEYS URL, false},
        {"{\"format\":\"1\",\"variant\":\"cloud-ready\",\"addons\":[]" KEYS URL, false},
        {"{\"variant\":\"cloud-ready\",\"addons\":[]" KEYS URL, false},
        {CLOUD " x", false}, {"[]", false}, {"", false}, {"null", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct server_license l;
        int r = read_at(issue(&vendor, USAGE_SERVER_LICENSE, "A", cases[i].json), &l, NOW);
        if ((r == 0) != cases[i].good)
            fail_msg("%d for %s", r, cases[i].json);
    }
}

static void test_key_files(void **state)
{
    char dir[] = "/tmp/berth-test-XXXXXX";
    char path[64];
    struct stat st;
    struct error err = {""};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/k", dir);
    struct crypto_key *key = NULL, *again = NULL;
    assert_int_equal(crypto_key_load(&key, path, &err), -ENOENT);
    assert_int_equal(crypto_key_new_ed25519(&key), 0);
    assert_int_equal(crypto_key_save(key, path, &err), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(crypto_key_save(key, path, &err), -EEXIST);
    assert_int_equal(crypto_key_load(&again, path, &err), 0);

    uint8_t a[32], b[32], signature[64];
    size_t len = sizeof signature;
    assert_int_equal(crypto_key_public_raw(key, a), 0);
    assert_int_equal(crypto_key_public_raw(again, b), 0);
    assert_memory_equal(a, b, 32);
    assert_int_equal(crypto_sign(again, "text", 4, signature, &len), 0);
    assert_int_equal(len, 64);
    assert_true(crypto_ed25519_verify(a, signature, "text", 4));
    assert_false(crypto_ed25519_verify(a, signature, "texT", 4));
    signature[3] ^= 1;
    assert_false(crypto_ed25519_verify(a, signature, "text", 4));
    crypto_key_free(&key);
    crypto_key_free(&again);
    assert_null(key);

    assert_int_equal(truncate(path, 40), 0);
    assert_true(crypto_key_load(&key, path, &err) < 0);
    unlink(path);
    rmdir(dir);
}

// RFC 8032, 7.1, test 3; and the key id is the beginning of its SHA-256.
static void test_ed25519_vector(void **state)
{
    static const uint8_t public_key[32] = {
        0xfc, 0x51, 0xcd, 0x8e, 0x62, 0x18, 0xa1, 0xa3,
        0x8d, 0xa4, 0x7e, 0xd0, 0x02, 0x30, 0xf0, 0x58,
        0x08, 0x16, 0xed, 0x13, 0xba, 0x33, 0x03, 0xac,
        0x5d, 0xeb, 0x91, 0x15, 0x48, 0x90, 0x80, 0x25};
    static const uint8_t signature[64] = {
        0x62, 0x91, 0xd6, 0x57, 0xde, 0xec, 0x24, 0x02,
        0x48, 0x27, 0xe6, 0x9c, 0x3a, 0xbe, 0x01, 0xa3,
        0x0c, 0xe5, 0x48, 0xa2, 0x84, 0x74, 0x3a, 0x44,
        0x5e, 0x36, 0x80, 0xd7, 0xdb, 0x5a, 0xc3, 0xac,
        0x18, 0xff, 0x9b, 0x53, 0x8d, 0x16, 0xf2, 0x90,
        0xae, 0x67, 0xf7, 0x60, 0x98, 0x4d, 0xc6, 0x59,
        0x4a, 0x7c, 0x15, 0xe9, 0x71, 0x6e, 0xd2, 0x8d,
        0xc0, 0x27, 0xbe, 0xce, 0xea, 0x1e, 0xc4, 0x0a};
    assert_true(crypto_ed25519_verify(public_key, signature, "\xaf\x82", 2));
    uint8_t digest[32];
    char id[17], expected[17];
    crypto_sha256(public_key, 32, digest);
    for (int i = 0; i < 8; i++)
        sprintf(expected + 2 * i, "%02x", digest[i]);
    crypto_key_id(public_key, id);
    assert_string_equal(id, expected);
}

static void test_bundle(void **state)
{
    char *a = crypto_cert_pem(vendor.cert), *b = crypto_cert_pem(stranger.cert);
    BUF_CLEANUP struct buf bundle = {0};
    buf_add_str(&bundle, a);
    buf_add_str(&bundle, b);
    const char *text = bundle.data;
    struct crypto_ca *ca = NULL;
    struct error err = {""};
    assert_int_equal(crypto_ca_load_pem(&ca, text, strlen(text), &err), 0);
    struct crypto_cert *cert = issue(&stranger, USAGE_BACKEND_TLS, "x", NULL);
    struct wall_time now = {NOW};
    assert_int_equal(crypto_cert_verify(cert, ca, USAGE_BACKEND_TLS, now, NULL), 0);
    crypto_cert_free(&cert);
    crypto_ca_free(&ca);
    // A damaged second certificate is not passed over silently.
    assert_int_equal(crypto_ca_load_pem(&ca, text, strlen(text) - 40, &err), -EINVAL);
    assert_int_equal(crypto_ca_load_pem(&ca, "", 0, &err), -EINVAL);
    assert_null(ca);
    free(a);
    free(b);
}

static void test_names(void **state)
{
    static const char *const names[] = {"127.0.0.1", "::1", "licenses.example.com", NULL};
    static const char *const hostile[] = {"a,DNS:evil.example.com", NULL};
    struct crypto_issue what = {.common_name = "x",
                                .not_before = {NOW - DAY},
                                .not_after = {NOW + DAY},
                                .usage = USAGE_BACKEND_TLS,
                                .names = names};
    struct crypto_cert *cert = NULL;
    char name[64];
    assert_int_equal(crypto_cert_issue(&cert, &what, vendor.key, vendor.cert, vendor.key, NULL), 0);
    assert_int_equal(crypto_cert_dns_name(cert, name, sizeof name), 0);
    assert_string_equal(name, "licenses.example.com");
    struct buf text = {0};
    crypto_cert_describe(cert, &text);
    assert_non_null(strstr(text.data, "127.0.0.1"));
    buf_fini(&text);
    crypto_cert_free(&cert);
    what.names = hostile;
    assert_int_equal(crypto_cert_issue(&cert, &what, vendor.key, vendor.cert, vendor.key, NULL),
                     -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server_license), cmocka_unit_test(test_wrong_use),
        cmocka_unit_test(test_leaf_is_no_ca),  cmocka_unit_test(test_extension),
        cmocka_unit_test(test_key_files),      cmocka_unit_test(test_ed25519_vector),
        cmocka_unit_test(test_bundle),         cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
