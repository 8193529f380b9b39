// A CA with a real key: of the vendor in a test, or of a stranger.
#pragma once

#include "common/crypto.h"

struct test_ca {
    struct crypto_key *key;
    struct crypto_cert *cert;
    struct crypto_ca *ca; // that trusts cert
};

// From ten days before `now` to ten years after it.
void test_ca_make(struct test_ca *ca, struct wall_time now);
void test_ca_drop(struct test_ca *ca);
