// A ledger with some history and its signature file, with real keys: every altered byte, every
// length and every appended byte of either file is refused ([D1] of borrow.md); who may have
// signed.
#include "services/borrow/verify.h"
#include "tests/unit/borrow_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BORROWS 3

struct fixture {
    struct borrow_vendor vendor, stranger;
    struct borrow_server server;
    struct buf license, ledger, signature;
};

static struct ledger_text text_of(const char *s)
{
    return (struct ledger_text){s, strlen(s)};
}

static void make_ledger(const struct borrow_server *s, const struct buf *license,
                        const char *server_id, struct buf *out)
{
    struct ledger_record records[BORROWS];
    struct borrow_fields fields[BORROWS];
    struct buf files[BORROWS] = {{0}};
    struct ledger l = {.sequence = 7, .records = records, .records_len = BORROWS};
    snprintf(l.server_id, sizeof l.server_id, "%s", server_id);
    memset(l.epoch, 'e', LEDGER_EPOCH_LEN);
    for (size_t i = 0; i < BORROWS; i++) {
        fields[i] = borrow_fields_any();
        fields[i].borrow_id[0] = (char)('0' + i);
        borrow_lend(s, license->data, &fields[i], &files[i]);
        const char *own = files[i].data + license->len;
        size_t own_len = files[i].len - license->len - strlen(s->pem);
        records[i] = (struct ledger_record){.fields = &fields[i],
                                            .vendor = {license->data, license->len},
                                            .own = {own, own_len},
                                            .certificate = text_of(s->pem)};
    }
    ledger_encode(&l, out);
    for (size_t i = 0; i < BORROWS; i++)
        buf_fini(&files[i]);
}

static void sign_ledger(const struct borrow_server *s, const char *label, const struct buf *ledger,
                        struct buf *out)
{
    struct ledger_signature sig = {.len = sizeof sig.bytes, .certificate = text_of(s->pem)};
    struct buf message BUF_CLEANUP = {0};
    uint8_t hash[32];
    crypto_sha256(ledger->data, ledger->len, hash);
    buf_add_str(&message, label);
    ledger_signed_text(sig.certificate, hash, &message);
    assert_int_equal(crypto_sign(s->key, message.data, message.len, sig.bytes, &sig.len), 0);
    assert_int_equal(ledger_signature_encode(&sig, out), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    borrow_vendor_make(&f->vendor);
    borrow_vendor_make(&f->stranger);
    int64_t until = FIXTURE_NOW + 90 * FIXTURE_DAY;
    borrow_server_make(&f->server, &f->vendor, FIXTURE_SERVER, until, NULL);
    borrow_license(&f->vendor, NULL, FIXTURE_SERVER, &f->license);
    make_ledger(&f->server, &f->license, FIXTURE_SERVER, &f->ledger);
    sign_ledger(&f->server, LEDGER_SIGN_LABEL, &f->ledger, &f->signature);
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
    buf_fini(&f->ledger);
    buf_fini(&f->signature);
    free(f);
    return 0;
}

static int read_pair(const struct fixture *f, const struct buf *ledger, const struct buf *signature)
{
    const struct ledger_verifier verifier = {f->vendor.root.ca, FIXTURE_SERVER};
    struct arena *arena = arena_new(16384);
    struct ledger l;
    struct error err = {""};
    int r = ledger_read(&l, arena, &verifier, ledger, signature, &err);
    assert_true(r ? *err.text != '\0' : l.sequence == 7 && l.records_len == BORROWS);
    arena_free(&arena);
    return r;
}

// All alterations of one of the two files.
static void alter(const struct fixture *f, bool signature)
{
    const struct buf *file = signature ? &f->signature : &f->ledger;
    struct buf copy BUF_CLEANUP = {0};
    buf_add(&copy, file->data, file->len);
    buf_reserve(&copy, 1);
    const struct buf *ledger = signature ? &f->ledger : &copy;
    const struct buf *sig = signature ? &copy : &f->signature;
    size_t refused = 0;
    for (size_t i = 0; i < file->len; i++) {
        // One bit, and the case of a letter, which encodings like to take for the same.
        for (int flip = 1; flip <= 0x20; flip += 0x1f, refused++) {
            copy.data[i] = (char)(file->data[i] ^ (char)flip);
            assert_int_not_equal(read_pair(f, ledger, sig), 0);
        }
        copy.data[i] = file->data[i];
    }
    for (copy.len = 0; copy.len < file->len; copy.len++, refused++)
        assert_int_not_equal(read_pair(f, ledger, sig), 0);
    assert_int_equal(read_pair(f, ledger, sig), 0);
    copy.len = file->len + 1;
    for (int c = 0; c < 256; c++, refused++) {
        copy.data[file->len] = (char)c;
        assert_int_not_equal(read_pair(f, ledger, sig), 0);
    }
    copy.len = file->len;
    print_message("# %zu alterations of %s refused\n", refused,
                  signature ? "borrowed.ledger.sig" : "borrowed.ledger");
    assert_int_equal(refused, 3 * file->len + 256);
}

static void test_every_alteration_of_the_ledger(void **state)
{
    alter(*state, false);
}

static void test_every_alteration_of_the_signature(void **state)
{
    alter(*state, true);
}

static int read_signed_by(const struct fixture *f, const struct borrow_server *by,
                          const char *label, const struct buf *ledger)
{
    struct buf signature BUF_CLEANUP = {0};
    sign_ledger(by, label, ledger, &signature);
    return read_pair(f, ledger, &signature);
}

static void test_who_may_have_signed(void **state)
{
    const struct fixture *f = *state;
    struct borrow_server s;
    assert_int_equal(read_signed_by(f, &f->server, LEDGER_SIGN_LABEL, &f->ledger), 0);
    // What was signed for another purpose is worth nothing.
    assert_int_not_equal(read_signed_by(f, &f->server, BORROW_SIGN_LABEL, &f->ledger), 0);
    assert_int_not_equal(read_signed_by(f, &f->server, "", &f->ledger), 0);
    // A certificate of the same server with another key, also one that has expired long ago.
    borrow_server_make(&s, &f->vendor, FIXTURE_SERVER, FIXTURE_NOW - FIXTURE_DAY / 2, NULL);
    assert_int_equal(read_signed_by(f, &s, LEDGER_SIGN_LABEL, &f->ledger), 0);
    borrow_server_drop(&s);
    borrow_server_make(&s, &f->vendor, "BERTH-TEST-2", FIXTURE_NOW + FIXTURE_DAY, NULL);
    assert_int_not_equal(read_signed_by(f, &s, LEDGER_SIGN_LABEL, &f->ledger), 0);
    borrow_server_drop(&s);
    borrow_server_make(&s, &f->stranger, FIXTURE_SERVER, FIXTURE_NOW + FIXTURE_DAY, NULL);
    assert_int_not_equal(read_signed_by(f, &s, LEDGER_SIGN_LABEL, &f->ledger), 0);
    borrow_server_drop(&s);
    // A ledger of another server, signed by this one.
    struct buf foreign BUF_CLEANUP = {0};
    make_ledger(&f->server, &f->license, "BERTH-TEST-2", &foreign);
    assert_int_not_equal(read_signed_by(f, &f->server, LEDGER_SIGN_LABEL, &foreign), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_alteration_of_the_ledger),
        cmocka_unit_test(test_every_alteration_of_the_signature),
        cmocka_unit_test(test_who_may_have_signed),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
