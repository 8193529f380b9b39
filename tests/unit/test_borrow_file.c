// Borrowed license files with real keys: what verifies, and that nothing else does.
#include "tests/unit/borrow_fixture.h"

#include "common/core/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct borrow_vendor vendor, stranger;
    struct borrow_server server;
    struct buf license, file;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    borrow_vendor_make(&f->vendor);
    borrow_vendor_make(&f->stranger);
    borrow_server_make(&f->server, &f->vendor, FIXTURE_SERVER, FIXTURE_NOW + 90 * FIXTURE_DAY,
                       NULL);
    borrow_license(&f->vendor, NULL, FIXTURE_SERVER, &f->license);
    const struct borrow_fields fields = borrow_fields_any();
    borrow_lend(&f->server, f->license.data, &fields, &f->file);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    borrow_vendor_drop(&f->vendor);
    borrow_vendor_drop(&f->stranger);
    borrow_server_drop(&f->server);
    buf_fini(&f->license);
    buf_fini(&f->file);
    free(f);
    return 0;
}

static int verify(const struct fixture *f, const struct buf *text, struct borrow_file *out)
{
    struct error err = {""};
    struct borrow_file other;
    int r = borrow_file_verify(out ? out : &other, text->data, text->len, f->vendor.root.ca, &err);
    assert_true(!r == !*err.text);
    return r;
}

static void test_good(void **state)
{
    const struct fixture *f = *state;
    struct borrow_file file;
    assert_int_equal(verify(f, &f->file, &file), 0);
    assert_string_equal(file.borrow.borrow_id, FIXTURE_BORROW_ID);
    assert_string_equal(file.borrow.host_id, FIXTURE_HOST);
    assert_string_equal(file.license.uuid, FIXTURE_UUID);
    assert_int_equal(file.license.count, 5);
    assert_string_equal(file.server.server_id, FIXTURE_SERVER);
    assert_memory_equal(f->file.data, f->license.data, f->license.len); // the block unchanged
}

// Editors change line ends and trailing blanks; both sides of a line end mean the same.
static void test_edited(void **state)
{
    const struct fixture *f = *state;
    struct buf text BUF_CLEANUP = {0};
    buf_add_str(&text, "# a comment\r\n");
    for (const char *p = f->file.data; *p; p++) {
        if (*p == '\n')
            buf_add_str(&text, " \t\r");
        buf_add_char(&text, *p);
    }
    assert_int_equal(verify(f, &text, NULL), 0);
}

static void test_host_and_period(void **state)
{
    const struct fixture *f = *state;
    struct borrow_file file;
    struct error err;
    static const struct {
        const char *hosts[2];
        int64_t now;
        enum borrow_file_use expected;
    } cases[] = {
        {{FIXTURE_HOST}, FIXTURE_NOW, BORROW_FILE_USABLE},
        {{"001A2B3C4D5E"}, FIXTURE_NOW, BORROW_FILE_USABLE},
        {{"nonsense of a host!", "00-1A-2B-3C-4D-5E"}, FIXTURE_NOW, BORROW_FILE_USABLE},
        {{"00:1a:2b:3c:4d:5f"}, FIXTURE_NOW, BORROW_FILE_OTHER_HOST},
        {{"dongle-1"}, FIXTURE_NOW, BORROW_FILE_OTHER_HOST},
        {{NULL}, FIXTURE_NOW, BORROW_FILE_OTHER_HOST},
        {{FIXTURE_HOST}, FIXTURE_NOW - 1, BORROW_FILE_NOT_YET},
        {{FIXTURE_HOST}, FIXTURE_NOW + FIXTURE_DAY - 1, BORROW_FILE_USABLE},
        {{FIXTURE_HOST}, FIXTURE_NOW + FIXTURE_DAY, BORROW_FILE_OVER},
    };
    assert_int_equal(verify(f, &f->file, &file), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t hosts = cases[i].hosts[1] ? 2 : cases[i].hosts[0] ? 1 : 0;
        assert_int_equal(
            borrow_file_use(&file, cases[i].hosts, hosts, (struct wall_time){cases[i].now}, &err),
            cases[i].expected);
    }
}

// The parts that are signed: both blocks. Outside stand the signatures themselves and the
// certificate, each checked by what it is, except the armour around them.
static void test_every_signed_character(void **state)
{
    const struct fixture *f = *state;
    struct buf text BUF_CLEANUP = {0};
    buf_add(&text, f->file.data, f->file.len);
    static const char *const begins[] = {"-----BEGIN LICENSE-----\n", "-----BEGIN BORROW-----\n"};
    static const char *const ends[] = {"-----END LICENSE-----", "-----END BORROW-----"};
    unsigned tried = 0;
    for (int block = 0; block < 2; block++) {
        char *p = strstr(text.data, begins[block]) + strlen(begins[block]);
        for (char *end = strstr(text.data, ends[block]); p < end; p++) {
            char was = *p;
            for (unsigned flip = 1; flip < 256; flip <<= 1, tried++) {
                *p = (char)(was ^ (char)flip);
                assert_int_not_equal(verify(f, &text, NULL), 0);
            }
            *p = was;
        }
    }
    assert_int_equal(verify(f, &text, NULL), 0);
    assert_true(tried > 3000);
}

// Every other character: the file is refused, or still says the same.
static void test_every_character(void **state)
{
    const struct fixture *f = *state;
    struct borrow_file good, file;
    struct buf text BUF_CLEANUP = {0};
    buf_add(&text, f->file.data, f->file.len);
    assert_int_equal(verify(f, &text, &good), 0);
    for (size_t i = 0; i < text.len; i++) {
        char was = text.data[i];
        text.data[i] = was == 'A' ? 'B' : 'A';
        if (!verify(f, &text, &file)) {
            assert_memory_equal(&file.borrow, &good.borrow, sizeof good.borrow);
            assert_string_equal(file.server.server_id, good.server.server_id);
        }
        text.data[i] = was;
    }
    for (size_t len = 0; len + 30 < text.len; len++) {
        struct buf cut = {text.data, len, 0};
        assert_int_not_equal(verify(f, &cut, NULL), 0);
    }
}

static void refused(const struct fixture *f, const char *a, const char *b, const char *c)
{
    struct buf text BUF_CLEANUP = {0};
    buf_printf(&text, "%s%s%s", a, b, c);
    assert_int_not_equal(verify(f, &text, NULL), 0);
}

static void test_splices(void **state)
{
    const struct fixture *f = *state;
    // Another license of the vendor, of the same identity and server, in front of the borrow block.
    struct buf lent BUF_CLEANUP = {0};
    struct crypto_key *key;
    assert_int_equal(crypto_key_new_ed25519(&key), 0);
    struct buf unknown BUF_CLEANUP = {0};
    borrow_license(&f->vendor, key, FIXTURE_SERVER, &unknown);
    crypto_key_free(&key);
    const char *own = strstr(f->file.data, "-----BEGIN BORROW-----");
    const char *certificate = strstr(own, "-----BEGIN CERTIFICATE-----");
    char block[1024];
    snprintf(block, sizeof block, "%.*s", (int)(certificate - own), own);
    refused(f, unknown.data, own, "");                 // a block that no key of the vendor signed
    refused(f, "", own, "");                           // no license block
    refused(f, f->license.data, certificate, "");      // no borrow block
    refused(f, f->license.data, block, "");            // no server license
    refused(f, f->file.data, certificate, "");         // two
    refused(f, f->license.data, block, own);           // two borrow blocks
    refused(f, f->license.data, f->license.data, own); // two license blocks
    refused(f, own, f->license.data, "");              // the wrong order
    const struct borrow_fields fields = borrow_fields_any();
    // Signed by a server of another vendor, and by another server of this one.
    struct borrow_server foreign;
    borrow_server_make(&foreign, &f->stranger, FIXTURE_SERVER, FIXTURE_NOW + 9 * FIXTURE_DAY, NULL);
    borrow_lend(&foreign, f->license.data, &fields, &lent);
    refused(f, lent.data, "", "");
    borrow_server_drop(&foreign);
    borrow_server_make(&foreign, &f->vendor, "BERTH-TEST-2", FIXTURE_NOW + 9 * FIXTURE_DAY, NULL);
    buf_clear(&lent);
    borrow_lend(&foreign, f->license.data, &fields, &lent);
    refused(f, lent.data, "", "");
    refused(f, f->license.data, block, foreign.pem); // and its certificate alone
    borrow_server_drop(&foreign);
}

static void test_contradictions(void **state)
{
    const struct fixture *f = *state;
    struct buf lent BUF_CLEANUP = {0};
    struct borrow_fields fields = borrow_fields_any();
    fields.valid_until.s = FIXTURE_NOW + 91 * FIXTURE_DAY; // beyond the server license
    borrow_lend(&f->server, f->license.data, &fields, &lent);
    refused(f, lent.data, "", "");
    buf_clear(&lent);
    fields = borrow_fields_any();
    strcpy(fields.feature, "MVTec_HDevelop"); // not what the license block is for
    borrow_lend(&f->server, f->license.data, &fields, &lent);
    refused(f, lent.data, "", "");
    buf_clear(&lent);
    fields = borrow_fields_any();
    strcpy(fields.host_id, "00:1A:2B:3C:4D:5E"); // not as a server writes it
    borrow_lend(&f->server, f->license.data, &fields, &lent);
    refused(f, lent.data, "", "");
}

// A license signed with a key that is known by its certificate only: good while the certificate
// was, when it was borrowed.
static void test_license_key_certificate(void **state)
{
    const struct fixture *f = *state;
    struct crypto_key *key;
    struct crypto_cert *cert;
    struct error err = {""};
    const struct crypto_issue what = {.common_name = "license key",
                                      .not_before = {FIXTURE_NOW - FIXTURE_DAY},
                                      .not_after = {FIXTURE_NOW + 3600},
                                      .usage = USAGE_LICENSE_KEY};
    assert_int_equal(crypto_key_new_ed25519(&key), 0);
    assert_int_equal(
        crypto_cert_issue(&cert, &what, key, f->vendor.root.cert, f->vendor.root.key, &err), 0);
    char *pem = crypto_cert_pem(cert);
    struct buf vendor_text BUF_CLEANUP = {0}, lent BUF_CLEANUP = {0};
    borrow_license(&f->vendor, key, FIXTURE_SERVER, &vendor_text);
    buf_add_str(&vendor_text, pem);
    struct borrow_fields fields = borrow_fields_any();
    borrow_lend(&f->server, vendor_text.data, &fields, &lent);
    assert_int_equal(verify(f, &lent, NULL), 0);
    buf_clear(&lent);
    fields.issued.s = FIXTURE_NOW + 7200;
    borrow_lend(&f->server, vendor_text.data, &fields, &lent);
    assert_int_not_equal(verify(f, &lent, NULL), 0);
    free(pem);
    crypto_cert_free(&cert);
    crypto_key_free(&key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_edited),
        cmocka_unit_test(test_host_and_period),
        cmocka_unit_test(test_every_signed_character),
        cmocka_unit_test(test_every_character),
        cmocka_unit_test(test_splices),
        cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_license_key_certificate),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
