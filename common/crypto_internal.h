// Shared by crypto.c and crypto_cert.c only.
#pragma once

#include "common/crypto.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

struct crypto_key {
    EVP_PKEY *pkey;
};

// Writes "what: <OpenSSL's reason>" and empties OpenSSL's error queue. Returns -EINVAL.
int crypto_fail(struct error *err, const char *what);

X509 *crypto_cert_x509(const struct crypto_cert *cert);      // stays the certificate's
struct crypto_cert *crypto_cert_from_x509(X509 *x509);       // takes it over
enum crypto_key_kind crypto_pkey_kind(const EVP_PKEY *pkey); // KEY_OTHER of NULL
