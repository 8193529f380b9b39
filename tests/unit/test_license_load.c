// License files on disk with real keys: what is trusted, and what must not be opened or believed.
#include "common/core/buf.h"
#include "common/core/text.h"
#include "common/license_load.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define BODY                                                                                       \
    "format: 1\nuuid: 3c2d8f6e-0b7a-4f1e-9a52-6f0f4c1f3a77\nfeature: MVTec_HALCON\n"              \
    "version: 24.11\nedition: Steady\nmodules: fc12d\ncount: 5\nserver-id: S-1\n"                  \
    "issued: 2026-11-24T08:00:00Z\n"
#define NOW ((struct wall_time){1795510000})

struct fixture {
    struct crypto_key *key, *ca_key;
    struct crypto_cert *ca_cert;
    struct crypto_ca *ca;
    uint8_t raw[1][32];
    char id[17];
    char folder[64];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    assert_int_equal(crypto_key_new_ed25519(&f->key), 0);
    assert_int_equal(crypto_key_public_raw(f->key, f->raw[0]), 0);
    crypto_key_id(f->raw[0], f->id);
    assert_int_equal(crypto_key_new_p256(&f->ca_key), 0);
    struct crypto_issue what = {.common_name = "Test CA", .not_before = {NOW.s - 1000},
                                .not_after = {NOW.s + 100000}, .ca = true};
    struct error err = {{0}};
    if (crypto_cert_issue(&f->ca_cert, &what, f->ca_key, NULL, f->ca_key, &err))
        fail_msg("%s", err.text);
    char *pem = crypto_cert_pem(f->ca_cert);
    assert_int_equal(crypto_ca_load_pem(&f->ca, pem, strlen(pem), &err), 0);
    free(pem);
    strcpy(f->folder, "/tmp/berth-test-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"file", "fifo", "dir", "loop", "sparse"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", f->folder, names[i]);
        remove(path);
    }
    assert_int_equal(rmdir(f->folder), 0);
    crypto_key_free(&f->key);
    crypto_key_free(&f->ca_key);
    crypto_cert_free(&f->ca_cert);
    crypto_ca_free(&f->ca);
    free(f);
    return 0;
}

static void add_block(const struct fixture *f, struct buf *b, const char *body)
{
    struct buf text = {0};
    buf_add_str(&text, LICENSE_SIGN_LABEL);
    buf_add_str(&text, body);
    uint8_t signature[64];
    size_t len = sizeof signature;
    assert_int_equal(crypto_sign(f->key, text.data, text.len, signature, &len), 0);
    char base64[92];
    base64_encode(signature, len, base64);
    buf_printf(b, "-----BEGIN LICENSE-----\n%s-----END LICENSE-----\nsignature: %s %s\n", body,
               f->id, base64);
    buf_fini(&text);
}

static struct license_keys trusting(const struct fixture *f)
{
    return (struct license_keys){.trusted = (const uint8_t(*)[32])f->raw, .trusted_len = 1,
                                 .server_id = "S-1", .now = NOW};
}

static enum license_refusal load(const struct buf *b, const struct license_keys *keys)
{
    struct license_set *set;
    license_load_text(&set, b->data, b->len, keys);
    assert_int_equal(set->records_len, 1);
    enum license_refusal r = set->records[0].refusal;
    assert_int_equal(r == LICENSE_OK, set->records[0].reason[0] == '\0');
    license_set_free(&set);
    return r;
}

static void test_trust(void **state)
{
    struct fixture *f = *state;
    struct buf b = {0};
    add_block(f, &b, BODY);
    struct license_keys keys = trusting(f);
    assert_int_equal(load(&b, &keys), LICENSE_OK);
    keys.server_id = "S-2";
    assert_int_equal(load(&b, &keys), LICENSE_SERVER_ID);
    keys.server_id = NULL;
    assert_int_equal(load(&b, &keys), LICENSE_OK);
    const char *revoked[] = {f->id};
    keys.revoked = revoked;
    keys.revoked_len = 1;
    assert_int_equal(load(&b, &keys), LICENSE_REVOKED_KEY);
    keys.revoked_len = 0;
    keys.trusted_len = 0;
    assert_int_equal(load(&b, &keys), LICENSE_UNKNOWN_KEY);
    buf_fini(&b);
}

static void add_certificate(struct fixture *f, struct buf *b, enum crypto_usage usage,
                            int64_t until)
{
    struct crypto_issue what = {.common_name = "key", .not_before = {NOW.s - 500},
                                .not_after = {until}, .usage = usage};
    struct crypto_cert *cert = NULL;
    struct error err = {{0}};
    if (crypto_cert_issue(&cert, &what, f->key, f->ca_cert, f->ca_key, &err))
        fail_msg("%s", err.text);
    char *pem = crypto_cert_pem(cert);
    buf_add_str(b, pem);
    free(pem);
    crypto_cert_free(&cert);
}

static void test_certified_key(void **state)
{
    struct fixture *f = *state;
    static const struct {
        enum crypto_usage usage;
        int64_t until;
        bool with_ca;
        enum license_refusal expected;
    } cases[] = {
        {USAGE_LICENSE_KEY, 1795510000 + 500, true, LICENSE_OK},
        {USAGE_LICENSE_KEY, 1795510000 + 500, false, LICENSE_UNKNOWN_KEY},
        {USAGE_LICENSE_KEY, 1795510000 - 100, true, LICENSE_UNKNOWN_KEY},
        {USAGE_BACKEND_TLS, 1795510000 + 500, true, LICENSE_UNKNOWN_KEY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        add_block(f, &b, BODY);
        add_certificate(f, &b, cases[i].usage, cases[i].until);
        struct license_keys keys = trusting(f);
        keys.trusted_len = 0;
        keys.vendor_ca = cases[i].with_ca ? f->ca : NULL;
        assert_int_equal(load(&b, &keys), cases[i].expected);
        buf_fini(&b);
    }
}

// A higher format is refused as such, whether its signature is one that this version knows or not.
static void test_higher_format(void **state)
{
    struct fixture *f = *state;
    struct license_keys keys = trusting(f);
    for (int i = 0; i < 3; i++) {
        struct buf b = {0};
        add_block(f, &b, i ? BODY : "format: 2\nanything: x\n");
        if (i)
            b.data[strlen("-----BEGIN LICENSE-----\nformat: ")] = '2';
        keys.trusted_len = i < 2;
        assert_int_equal(load(&b, &keys), LICENSE_FORMAT);
        buf_fini(&b);
    }
}

// No single flipped bit inside the block is believed.
static void test_flipped(void **state)
{
    struct fixture *f = *state;
    struct buf b = {0};
    add_block(f, &b, BODY);
    struct license_keys keys = trusting(f);
    size_t from = strlen("-----BEGIN LICENSE-----\n");
    for (size_t i = from * 8; i < (from + strlen(BODY)) * 8; i++) {
        b.data[i / 8] ^= (char)(1 << i % 8);
        struct license_set *set;
        license_load_text(&set, b.data, b.len, &keys);
        for (size_t j = 0; j < set->records_len; j++)
            assert_int_not_equal(set->records[j].refusal, LICENSE_OK);
        license_set_free(&set);
        b.data[i / 8] ^= (char)(1 << i % 8);
    }
    buf_fini(&b);
}

static void test_editors(void **state)
{
    struct fixture *f = *state;
    struct buf b = {0}, edited = {0};
    buf_add_str(&b, "server=https://a:22022\n");
    add_block(f, &b, BODY);
    buf_add_str(&edited, "\xef\xbb\xbf");
    for (size_t i = 0; i < b.len; i++)
        buf_add_str(&edited, b.data[i] == '\n' ? " \t\r\n" : (char[2]){b.data[i], 0});
    struct license_keys keys = trusting(f);
    assert_int_equal(load(&edited, &keys), LICENSE_OK);
    buf_fini(&b);
    buf_fini(&edited);
}

static enum license_refusal load_path(const struct fixture *f, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", f->folder, name);
    struct license_keys keys = trusting(f);
    struct license_set *set;
    struct stat st;
    license_load_file(&set, path, &keys, &st);
    assert_int_equal(set->records_len, 1);
    enum license_refusal r = set->records[0].refusal;
    license_set_free(&set);
    return r;
}

static void test_paths(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(chdir(f->folder), 0);
    struct buf b = {0};
    add_block(f, &b, BODY);
    int fd = open("file", O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, b.data, b.len), b.len);
    close(fd);
    buf_fini(&b);
    assert_int_equal(load_path(f, "file"), LICENSE_OK);
    assert_int_equal(mkfifo("fifo", 0600), 0);
    assert_int_equal(load_path(f, "fifo"), LICENSE_IO);
    assert_int_equal(mkdir("dir", 0700), 0);
    assert_int_equal(load_path(f, "dir"), LICENSE_IO);
    assert_int_equal(symlink("loop", "loop"), 0);
    assert_int_equal(load_path(f, "loop"), LICENSE_IO);
    assert_int_equal(load_path(f, "missing"), LICENSE_IO);
    fd = open("sparse", O_CREAT | O_WRONLY, 0600);
    assert_int_equal(ftruncate(fd, 1 << 30), 0);
    close(fd);
    assert_int_equal(load_path(f, "sparse"), LICENSE_TOO_LARGE);
    assert_int_equal(chdir("/"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trust),   cmocka_unit_test(test_certified_key),
        cmocka_unit_test(test_flipped), cmocka_unit_test(test_editors),
        cmocka_unit_test(test_paths),   cmocka_unit_test(test_higher_format),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
