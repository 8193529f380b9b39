// The ledger and its signature file: round trips, and that no alteration of either is accepted.
#include "common/core/text.h"
#include "services/borrow/core/ledger.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static const char pem[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

// Stands for a real signature: 64 bits over all that is signed.
static void digest(const void *data, size_t len, uint8_t out[static 8])
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ ((const uint8_t *)data)[i]) * 1099511628211u;
    for (size_t i = 0; i < 8; i++)
        out[i] = (uint8_t)(h >> (8 * i));
}

static void sign(struct ledger_text certificate, struct ledger_text ledger, uint8_t out[static 8])
{
    uint8_t hash[32] = {0};
    struct buf data BUF_CLEANUP = {0};
    digest(ledger.p, ledger.len, hash);
    ledger_signed_text(certificate, hash, &data);
    digest(data.data, data.len, out);
}

static int verify(void *ctx, const struct ledger_signature *signature, struct ledger_text ledger,
                  struct error *err)
{
    uint8_t want[8];
    (void)ctx;
    sign(signature->certificate, ledger, want);
    if (signature->len == sizeof want && !memcmp(signature->bytes, want, sizeof want))
        return 0;
    return error_set(err, "wrong signature"), -EINVAL;
}

static struct ledger_text text_of(const char *s)
{
    return (struct ledger_text){s, strlen(s)};
}

static struct buf owns[5];
static struct borrow_fields all_fields[5];

static void make(struct ledger *l, struct ledger_record *records, size_t n)
{
    static const char *const vendors[] = {"-----BEGIN LICENSE-----\na\n", "other\n"};
    *l = (struct ledger){.server_id = "BERTH-1",
                         .sequence = 7,
                         .records = records,
                         .records_len = n,
                         .previous = {1, 2}};
    memset(l->epoch, 'e', LEDGER_EPOCH_LEN);
    for (size_t i = 0; i < n; i++) {
        struct borrow_fields f = {.uuid = "3c2d8f6e-0b7a-4f1e-9a52-6f0f4c1f3a77",
                                  .feature = "F",
                                  .host_id = "d",
                                  .valid_from = {1700000000 + (int64_t)i},
                                  .valid_until = {1700003600},
                                  .issued = {1700000000}};
        snprintf(f.borrow_id, sizeof f.borrow_id, "%032zx", n - i);
        buf_clear(&owns[i]);
        borrow_block_write_signed(&f, (const uint8_t *)"signed", 6, &owns[i]);
        all_fields[i] = f;
        records[i] = (struct ledger_record){.fields = &all_fields[i],
                                            .vendor = text_of(vendors[i % 2]),
                                            .own = {owns[i].data, owns[i].len},
                                            .certificate = text_of(pem)};
    }
}

static void seal(struct ledger *l, struct buf *ledger, struct buf *signature)
{
    struct ledger_signature sig = {.len = 8, .certificate = text_of(pem)};
    ledger_encode(l, ledger);
    sign(sig.certificate, (struct ledger_text){ledger->data, ledger->len}, sig.bytes);
    assert_int_equal(ledger_signature_encode(&sig, signature), 0);
    assert_int_equal(signature->len, LEDGER_SIGNATURE_FILE_BYTES);
}

static int open_pair(const char *ledger, size_t ledger_len, const char *sig, size_t sig_len)
{
    struct arena *arena = arena_new(4096);
    struct ledger l;
    struct error err;
    int r = ledger_open(&l, arena, (struct ledger_text){ledger, ledger_len},
                        (struct ledger_text){sig, sig_len}, verify, NULL, &err);
    arena_free(&arena);
    return r;
}

static void test_round_trip(void **state)
{
    for (size_t n = 0; n < 5; n++) {
        struct ledger_record records[5];
        struct ledger l, got;
        struct buf text BUF_CLEANUP = {0}, again BUF_CLEANUP = {0};
        struct arena *arena = arena_new(4096);
        make(&l, records, n);
        ledger_encode(&l, &text);
        assert_int_equal(ledger_decode(&got, arena, text.data, text.len, NULL), 0);
        assert_int_equal(got.records_len, n);
        assert_int_equal(got.sequence, 7);
        for (size_t i = 0; i < n; i++) {
            assert_string_equal(got.records[i].fields->borrow_id, records[i].fields->borrow_id);
            assert_string_equal(got.records[i].fields->host_id, "d");
            assert_int_equal(got.records[i].fields->valid_until.s, 1700003600);
            assert_int_equal(got.records[i].vendor.len, records[i].vendor.len);
            assert_memory_equal(got.records[i].vendor.p, records[i].vendor.p,
                                records[i].vendor.len);
            assert_memory_equal(got.records[i].own.p, records[i].own.p, records[i].own.len);
        }
        ledger_encode(&got, &again);
        assert_int_equal(again.len, text.len);
        arena_free(&arena);
    }
}

// Every byte, every value; every length; one more byte: of the file at `which`.
static void alter(const struct buf *ledger, const struct buf *sig, bool which)
{
    const struct buf *file = which ? sig : ledger;
    char *copy = malloc(file->len + 1);
    assert_non_null(copy);
    memcpy(copy, file->data, file->len);
    size_t tried = 0;
    for (size_t i = 0; i < file->len; i++) {
        for (int d = 1; d < 256; d++, tried++) {
            copy[i] = (char)(file->data[i] ^ d);
            assert_true(which ? open_pair(ledger->data, ledger->len, copy, file->len)
                              : open_pair(copy, file->len, sig->data, sig->len));
        }
        copy[i] = file->data[i];
    }
    for (size_t len = 0; len < file->len; len++)
        assert_true(which ? open_pair(ledger->data, ledger->len, copy, len)
                          : open_pair(copy, len, sig->data, sig->len));
    for (int c = 0; c < 256; c++) {
        copy[file->len] = (char)c;
        assert_true(which ? open_pair(ledger->data, ledger->len, copy, file->len + 1)
                          : open_pair(copy, file->len + 1, sig->data, sig->len));
    }
    assert_true(tried > 10000);
    free(copy);
}

static void test_every_alteration_is_refused(void **state)
{
    struct ledger_record records[3];
    struct ledger l;
    struct buf ledger BUF_CLEANUP = {0}, sig BUF_CLEANUP = {0};
    make(&l, records, 3);
    seal(&l, &ledger, &sig);
    assert_int_equal(open_pair(ledger.data, ledger.len, sig.data, sig.len), 0);
    alter(&ledger, &sig, false);
    alter(&ledger, &sig, true);
}

// Even with a good signature only the one encoding is a ledger.
static void test_decoding_is_strict(void **state)
{
    static const struct {
        const char *from, *to;
    } cases[] = {
        {"berth-ledger 1", "berth-ledger 2"},
        {"sequence: 7", "sequence: 07"},
        {"sequence: 7", "sequence:  7"},
        {"sequence: 7", "sequence: -7"},
        {"previous: 01", "previous: 0g"},
        {"epoch: e", "epoch: E"},
        {"parts: 3", "parts: 2"},
        {"borrows: 3", "borrows: 4"},
        {"borrows: 3", "borrows: 99999999"},
        {"part 6", "part 7"},
        {"vendor: ", "vendor: 9"},
        {"feature: F", "feature: \x01"},
        {"feature: F", "feature:F"},
        {"T22:13:20Z", "T22:13:20z"},
        {"00000001\n", "00000003\n"},
        {"\nown ", "\nown 9"},
        {"host-id: d", "host-id: ?"},
    };
    struct ledger_record records[3];
    struct ledger l, got;
    struct buf text BUF_CLEANUP = {0};
    make(&l, records, 3);
    ledger_encode(&l, &text);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct arena *arena = arena_new(4096);
        struct buf bad BUF_CLEANUP = {0};
        struct error err = {""};
        const char *at = strstr(text.data, cases[i].from);
        assert_non_null(at);
        buf_add(&bad, text.data, (size_t)(at - text.data));
        buf_add_str(&bad, cases[i].to);
        buf_add_str(&bad, at + strlen(cases[i].from));
        assert_int_equal(ledger_decode(&got, arena, bad.data, bad.len, &err), -EINVAL);
        assert_true(*err.text);
        arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_alteration_is_refused),
        cmocka_unit_test(test_decoding_is_strict),
    };
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < sizeof owns / sizeof *owns; i++)
        buf_fini(&owns[i]);
    return r;
}
