// X.509: reading, verifying with one of our usages, issuing (licenses.md, "Certificates").
#include "common/crypto_internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pemerr.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PEM_MAX_BYTES (256 * 1024)

struct crypto_cert {
    X509 *x509;
};

struct crypto_ca {
    STACK_OF(X509) *roots;
};

static int cert_wrap(struct crypto_cert **out, X509 *x509)
{
    if (!x509)
        return -EINVAL;
    *out = calloc(1, sizeof **out);
    if (!*out)
        abort();
    (*out)->x509 = x509;
    return 0;
}

int crypto_cert_load_pem(struct crypto_cert **out, const char *pem, size_t len, struct error *err)
{
    BIO *bio = len <= PEM_MAX_BYTES ? BIO_new_mem_buf(pem, (int)len) : NULL;
    X509 *x509 = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    return x509 ? cert_wrap(out, x509) : crypto_fail(err, "not a certificate in PEM");
}

int crypto_cert_load_file(struct crypto_cert **out, const char *path, struct error *err)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        int r = -errno;
        error_set(err, "%s: %s", path, strerror(-r));
        return r;
    }
    X509 *x509 = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    if (x509)
        return cert_wrap(out, x509);
    crypto_fail(err, "not a certificate in PEM");
    error_prefix(err, "%s", path);
    return -EINVAL;
}

int crypto_cert_load_der(struct crypto_cert **out, const uint8_t *der, size_t len,
                         struct error *err)
{
    const unsigned char *p = der;
    X509 *x509 = len <= PEM_MAX_BYTES ? d2i_X509(NULL, &p, (long)len) : NULL;
    if (x509 && p != der + len) {
        X509_free(x509);
        x509 = NULL;
    }
    return x509 ? cert_wrap(out, x509) : crypto_fail(err, "not a certificate in DER");
}

struct crypto_cert *crypto_cert_hold(const struct crypto_cert *cert)
{
    if (X509_up_ref(cert->x509) != 1)
        abort();
    return crypto_cert_from_x509(cert->x509);
}

void crypto_cert_free(struct crypto_cert **cert)
{
    if (!*cert)
        return;
    X509_free((*cert)->x509);
    free(*cert);
    *cert = NULL;
}

int crypto_cert_common_name(const struct crypto_cert *cert, char *out, size_t cap)
{
    X509_NAME *name = X509_get_subject_name(cert->x509);
    int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(name, NID_commonName, at) >= 0)
        return -EINVAL; // none, or not unambiguous
    unsigned char *text = NULL;
    int len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    bool good = len > 0 && (size_t)len < cap && !memchr(text, 0, (size_t)len);
    if (good) {
        memcpy(out, text, (size_t)len);
        out[len] = '\0';
    }
    OPENSSL_free(text);
    ERR_clear_error();
    return good ? 0 : -EINVAL;
}

static struct wall_time asn1_time(const ASN1_TIME *t, struct wall_time fallback)
{
    struct tm tm;
    if (!t || ASN1_TIME_to_tm(t, &tm) != 1)
        return fallback;
    return (struct wall_time){(int64_t)timegm(&tm)};
}

struct wall_time crypto_cert_not_before(const struct crypto_cert *cert)
{
    return asn1_time(X509_get0_notBefore(cert->x509), WALL_MAX);
}

struct wall_time crypto_cert_not_after(const struct crypto_cert *cert)
{
    return asn1_time(X509_get0_notAfter(cert->x509), WALL_MIN);
}

bool crypto_cert_matches_key(const struct crypto_cert *cert, const struct crypto_key *key)
{
    bool good = X509_check_private_key(cert->x509, key->pkey) == 1;
    ERR_clear_error();
    return good;
}

int crypto_cert_public_ed25519(const struct crypto_cert *cert, uint8_t out[static 32])
{
    size_t len = 32;
    EVP_PKEY *pkey = X509_get0_pubkey(cert->x509);
    bool good = pkey && EVP_PKEY_get_base_id(pkey) == EVP_PKEY_ED25519 &&
                EVP_PKEY_get_raw_public_key(pkey, out, &len) == 1 && len == 32;
    ERR_clear_error();
    return good ? 0 : -EINVAL;
}

char *crypto_cert_pem(const struct crypto_cert *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (!bio || PEM_write_bio_X509(bio, cert->x509) != 1)
        abort();
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    char *pem = strndup(data, (size_t)len);
    if (!pem)
        abort();
    BIO_free(bio);
    return pem;
}

// ---- trust ----

int crypto_ca_load_pem(struct crypto_ca **out, const char *pem, size_t len, struct error *err)
{
    BIO *bio = len <= PEM_MAX_BYTES ? BIO_new_mem_buf(pem, (int)len) : NULL;
    STACK_OF(X509) *roots = sk_X509_new_null();
    if (!roots)
        abort();
    X509 *x509;
    while (bio && (x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
        sk_X509_push(roots, x509);
    BIO_free(bio);
    // The end of the text is reported as an error too: no further start line.
    bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    if (!sk_X509_num(roots) || !at_end) {
        int r = crypto_fail(err, sk_X509_num(roots) ? "one of the certificates is damaged"
                                                    : "no certificate in PEM in it");
        sk_X509_pop_free(roots, X509_free);
        return r;
    }
    ERR_clear_error();
    *out = calloc(1, sizeof **out);
    if (!*out)
        abort();
    (*out)->roots = roots;
    return 0;
}

int crypto_ca_load_file(struct crypto_ca **out, const char *path, struct error *err)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        int r = -errno;
        error_set(err, "%s: %s", path, strerror(-r));
        return r;
    }
    char *pem = malloc(PEM_MAX_BYTES + 1);
    if (!pem)
        abort();
    size_t len = fread(pem, 1, PEM_MAX_BYTES + 1, f);
    fclose(f);
    int r = crypto_ca_load_pem(out, pem, len, err);
    free(pem);
    if (r)
        error_prefix(err, "%s", path);
    return r;
}

void crypto_ca_free(struct crypto_ca **ca)
{
    if (!*ca)
        return;
    sk_X509_pop_free((*ca)->roots, X509_free);
    free(*ca);
    *ca = NULL;
}

static bool has_extended_usage(X509 *x509, const char *wanted)
{
    EXTENDED_KEY_USAGE *usages = X509_get_ext_d2i(x509, NID_ext_key_usage, NULL, NULL);
    bool found = false;
    for (int i = 0; usages && i < sk_ASN1_OBJECT_num(usages) && !found; i++) {
        char oid[80];
        OBJ_obj2txt(oid, sizeof oid, sk_ASN1_OBJECT_value(usages, i), 1);
        found = !strcmp(oid, wanted);
    }
    EXTENDED_KEY_USAGE_free(usages);
    return found;
}

static const char *const usage_oids[] = {
    [USAGE_SERVER_LICENSE] = "1.3.6.1.5.5.7.3.2", // clientAuth
    [USAGE_BACKEND_TLS] = "1.3.6.1.5.5.7.3.1",    // serverAuth
    [USAGE_LICENSE_KEY] = OID_LICENSE_KEY_USAGE,
};

// At any time: signatures and extensions alone. Not X509_V_FLAG_X509_STRICT: it asks for
// identifiers and usages that plain CA tools leave out, and adds no proof.
static int verify_chain(X509 *x509, const struct crypto_ca *ca, const struct wall_time *at)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    if (!store || !ctx)
        abort();
    for (int i = 0; i < sk_X509_num(ca->roots); i++)
        X509_STORE_add_cert(store, sk_X509_value(ca->roots, i));
    int code = X509_V_ERR_UNSPECIFIED;
    if (X509_STORE_CTX_init(ctx, store, x509, NULL) == 1) {
        X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
        if (at)
            X509_VERIFY_PARAM_set_time(param, (time_t)at->s);
        else
            X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_NO_CHECK_TIME);
        code = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
    }
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    ERR_clear_error();
    return code;
}

bool crypto_cert_has_usage(const struct crypto_cert *cert, enum crypto_usage usage)
{
    // Without the key usage extension X509_get_key_usage has all bits set.
    bool good = X509_check_ca(cert->x509) == 0 &&
                (X509_get_key_usage(cert->x509) & KU_DIGITAL_SIGNATURE) != 0 &&
                has_extended_usage(cert->x509, usage_oids[usage]);
    ERR_clear_error();
    return good;
}

bool crypto_cert_is_ca(const struct crypto_cert *cert)
{
    bool ca = X509_check_ca(cert->x509) == 1;
    ERR_clear_error();
    return ca;
}

int crypto_cert_verify(const struct crypto_cert *cert, const struct crypto_ca *ca,
                       enum crypto_usage usage, struct wall_time now, struct error *err)
{
    struct wall_time from = crypto_cert_not_before(cert);
    struct wall_time until = crypto_cert_not_after(cert);
    // The chain at a moment at which the certificate is valid, so that "expired" and "forged" are
    // told apart; of one that is over, at any: it may have been over before the CA began.
    // To OpenSSL it has expired at the second of notAfter, to RFC 5280 behind it.
    struct wall_time at = now.s < from.s ? from : now;
    int code = verify_chain(cert->x509, ca, now.s >= until.s ? NULL : &at);
    if (code != X509_V_OK) {
        error_set(err, "not issued by the vendor's CA (%s)", X509_verify_cert_error_string(code));
        return -EACCES;
    }
    if (!crypto_cert_has_usage(cert, usage)) {
        error_set(err, "issued by the vendor's CA, but not for this use");
        return -EACCES;
    }
    char text[32];
    if (now.s > until.s) {
        error_set(err, "expired at %s", wall_format(until, text));
        return 1;
    }
    if (now.s < from.s) {
        error_set(err, "not valid before %s: is the clock right?", wall_format(from, text));
        return 2;
    }
    return 0;
}

int crypto_cert_extension(const struct crypto_cert *cert, const char *oid, char **json, size_t *len)
{
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    int at = X509_get_ext_by_OBJ(cert->x509, object, -1);
    bool twice = at >= 0 && X509_get_ext_by_OBJ(cert->x509, object, at) >= 0;
    ASN1_OBJECT_free(object);
    if (at < 0)
        return -ENOENT;
    if (twice)
        return -EINVAL;
    // The extension's value is the DER of an OCTET STRING that holds the JSON.
    const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(X509_get_ext(cert->x509, at));
    const unsigned char *p = ASN1_STRING_get0_data(value);
    const unsigned char *end = p + ASN1_STRING_length(value);
    ASN1_OCTET_STRING *inner = d2i_ASN1_OCTET_STRING(NULL, &p, end - p);
    if (!inner || p != end) {
        ASN1_OCTET_STRING_free(inner);
        ERR_clear_error();
        return -EINVAL;
    }
    *len = (size_t)ASN1_STRING_length(inner);
    *json = strndup((const char *)ASN1_STRING_get0_data(inner), *len);
    if (!*json)
        abort();
    *len = strlen(*json) == *len ? *len : 0; // a NUL in it: unacceptable, and 0 is no JSON
    ASN1_OCTET_STRING_free(inner);
    return 0;
}

X509 *crypto_cert_x509(const struct crypto_cert *cert)
{
    return cert->x509;
}

struct crypto_cert *crypto_cert_from_x509(X509 *x509)
{
    struct crypto_cert *cert = NULL;
    cert_wrap(&cert, x509);
    return cert;
}
