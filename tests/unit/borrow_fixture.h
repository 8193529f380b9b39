// A vendor, a server and a license with real keys, and files that the server lends: what the tests
// of borrowing share.
#pragma once

#include "common/borrow_file.h"
#include "common/crypto.h"
#include "tests/unit/ca_fixture.h"

#define FIXTURE_NOW 1795510800 // 2026-11-24T09:00:00Z
#define FIXTURE_DAY 86400
#define FIXTURE_SERVER "BERTH-TEST-1"
#define FIXTURE_UUID "3c2d8f6e-0b7a-4f1e-9a52-6f0f4c1f3a77"
#define FIXTURE_HOST "00:1a:2b:3c:4d:5e"
#define FIXTURE_BORROW_ID "00112233445566778899aabbccddeeff"

struct borrow_vendor {
    struct test_ca root;
    struct crypto_key *license_key;
    char license_key_id[17];
};
void borrow_vendor_make(struct borrow_vendor *v);
void borrow_vendor_drop(struct borrow_vendor *v);

struct borrow_server {
    struct crypto_key *key;
    struct crypto_cert *cert;
    char *pem; // of the server license
};
// Valid from FIXTURE_NOW - 1 day on, until `until`. key NULL: a new one; else it is taken.
void borrow_server_make(struct borrow_server *s, const struct borrow_vendor *v,
                        const char *server_id, int64_t until, struct crypto_key *key);
void borrow_server_drop(struct borrow_server *s);

// Appends a signed license block for server_id, from BEGIN to the signature line.
void borrow_license(const struct borrow_vendor *v, const struct crypto_key *license_key,
                    const char *server_id, struct buf *out);
// A day from FIXTURE_NOW for FIXTURE_HOST of the license of borrow_license.
struct borrow_fields borrow_fields_any(void);
// Appends the borrowed license file: vendor text, borrow block, server license.
void borrow_lend(const struct borrow_server *s, const char *vendor_text,
                 const struct borrow_fields *fields, struct buf *out);
