#include "tests/unit/borrow_fixture.h"

#include "common/core/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void borrow_vendor_make(struct borrow_vendor *v)
{
    uint8_t raw[32];
    test_ca_make(&v->root, (struct wall_time){FIXTURE_NOW});
    assert_int_equal(crypto_key_new_ed25519(&v->license_key), 0);
    assert_int_equal(crypto_key_public_raw(v->license_key, raw), 0);
    crypto_key_id(raw, v->license_key_id);
}

void borrow_vendor_drop(struct borrow_vendor *v)
{
    test_ca_drop(&v->root);
    crypto_key_free(&v->license_key);
}

void borrow_server_make(struct borrow_server *s, const struct borrow_vendor *v,
                        const char *server_id, int64_t until, struct crypto_key *key)
{
    struct error err = {""};
    uint8_t raw[32];
    char base64[45], json[512];
    assert_int_equal(crypto_key_public_raw(v->license_key, raw), 0);
    base64_encode(raw, sizeof raw, base64);
    snprintf(json, sizeof json,
             "{\"format\":1,\"variant\":\"cloud-ready\",\"addons\":[\"borrow\"],"
             "\"licenseKeys\":[\"%s\"],\"cloudUrl\":\"https://localhost:1\"}",
             base64);
    const struct crypto_issue what = {.common_name = server_id,
                                      .not_before = {FIXTURE_NOW - FIXTURE_DAY},
                                      .not_after = {until},
                                      .usage = USAGE_SERVER_LICENSE,
                                      .extension_json = json};
    s->key = key;
    if (!key)
        assert_int_equal(crypto_key_new_p256(&s->key), 0);
    assert_int_equal(crypto_cert_issue(&s->cert, &what, s->key, v->root.cert, v->root.key, &err),
                     0);
    s->pem = crypto_cert_pem(s->cert);
}

void borrow_server_drop(struct borrow_server *s)
{
    crypto_key_free(&s->key);
    crypto_cert_free(&s->cert);
    free(s->pem);
}

void borrow_license(const struct borrow_vendor *v, const struct crypto_key *license_key,
                    const char *server_id, struct buf *out)
{
    struct buf text BUF_CLEANUP = {0};
    uint8_t signature[64], raw[32];
    size_t len = sizeof signature;
    char base64[92], id[17];
    const struct crypto_key *key = license_key ? license_key : v->license_key;
    buf_printf(&text,
               LICENSE_SIGN_LABEL "format: 1\nuuid: " FIXTURE_UUID "\nfeature: MVTec_HALCON\n"
                                  "version: 24.11\nedition: Steady\nmodules: fc12d\ncount: 5\n"
                                  "server-id: %s\nissued: 2026-11-24T08:00:00Z\n",
               server_id);
    assert_int_equal(crypto_key_public_raw(key, raw), 0);
    crypto_key_id(raw, id);
    assert_int_equal(crypto_sign(key, text.data, text.len, signature, &len), 0);
    base64_encode(signature, len, base64);
    buf_printf(out, "-----BEGIN LICENSE-----\n%s-----END LICENSE-----\nsignature: %s %s\n",
               text.data + strlen(LICENSE_SIGN_LABEL), id, base64);
}

struct borrow_fields borrow_fields_any(void)
{
    return (struct borrow_fields){.borrow_id = FIXTURE_BORROW_ID,
                                  .uuid = FIXTURE_UUID,
                                  .feature = "MVTec_HALCON",
                                  .host_id = FIXTURE_HOST,
                                  .valid_from = {FIXTURE_NOW},
                                  .valid_until = {FIXTURE_NOW + FIXTURE_DAY},
                                  .issued = {FIXTURE_NOW}};
}

void borrow_lend(const struct borrow_server *s, const char *vendor_text,
                 const struct borrow_fields *fields, struct buf *out)
{
    struct buf message BUF_CLEANUP = {0};
    struct error err = {""};
    uint8_t signature[256];
    size_t len = sizeof signature;
    buf_add_str(&message, BORROW_SIGN_LABEL);
    if (borrow_file_message(vendor_text, strlen(vendor_text), fields, &message, &err))
        fail_msg("%s", err.text);
    assert_int_equal(crypto_sign(s->key, message.data, message.len, signature, &len), 0);
    buf_add_str(out, vendor_text);
    borrow_block_write_signed(fields, signature, len, out);
    buf_add_str(out, s->pem);
}
