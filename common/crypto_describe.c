// What a certificate says, for people (berth-vendor inspect).
#include "common/crypto_internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#define HOST_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."
#define NAME_FLAGS (XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) // control characters stay escaped

static void add_bio(struct buf *out, const char *label, BIO *bio)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    buf_printf(out, "  %-12s %.*s\n", label, (int)len, data);
    BIO_reset(bio);
}

static void add_names(const X509 *x509, BIO *bio, struct buf *out)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        GENERAL_NAME_print(bio, sk_GENERAL_NAME_value(names, i));
        add_bio(out, "name:", bio);
    }
    GENERAL_NAMES_free(names);
}

int crypto_cert_dns_name(const struct crypto_cert *cert, char *out, size_t cap)
{
    GENERAL_NAMES *names =
        X509_get_ext_d2i(crypto_cert_x509(cert), NID_subject_alt_name, NULL, NULL);
    int r = -ENOENT;
    for (int i = 0; r && names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS)
            continue;
        const char *text = (const char *)ASN1_STRING_get0_data(name->d.dNSName);
        size_t len = (size_t)ASN1_STRING_length(name->d.dNSName);
        if (!len || len >= cap || strspn(text, HOST_CHARACTERS) != len)
            continue;
        memcpy(out, text, len);
        out[len] = '\0';
        r = 0;
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return r;
}

void crypto_cert_describe(const struct crypto_cert *cert, struct buf *out)
{
    X509 *x509 = crypto_cert_x509(cert);
    BIO *bio = BIO_new(BIO_s_mem());
    if (!bio)
        abort();
    X509_NAME_print_ex(bio, X509_get_subject_name(x509), 0, NAME_FLAGS);
    add_bio(out, "subject:", bio);
    X509_NAME_print_ex(bio, X509_get_issuer_name(x509), 0, NAME_FLAGS);
    add_bio(out, "issuer:", bio);
    i2a_ASN1_INTEGER(bio, X509_get0_serialNumber(x509));
    add_bio(out, "serial:", bio);
    char text[32];
    buf_printf(out, "  valid from:  %s\n", wall_format(crypto_cert_not_before(cert), text));
    buf_printf(out, "  valid until: %s\n", wall_format(crypto_cert_not_after(cert), text));
    EVP_PKEY *pkey = X509_get0_pubkey(x509);
    const char *type = pkey ? EVP_PKEY_get0_type_name(pkey) : NULL;
    buf_printf(out, "  key:         %s, %d bits\n", type ? type : "unknown",
               pkey ? EVP_PKEY_get_bits(pkey) : 0);
    add_names(x509, bio, out);
    BIO_free(bio);
    ERR_clear_error();
}

int crypto_cert_key(const struct crypto_cert *cert, struct crypto_key **out)
{
    EVP_PKEY *pkey = X509_get_pubkey(crypto_cert_x509(cert));
    if (!pkey) {
        ERR_clear_error();
        return -EINVAL;
    }
    *out = calloc(1, sizeof **out);
    if (!*out)
        abort();
    (*out)->pkey = pkey;
    return 0;
}
