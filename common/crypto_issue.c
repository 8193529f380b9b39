// Issuing certificates: the vendor's CA and what it signs (berth-vendor).
#include "common/crypto_internal.h"

#include "common/core/buf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool add_extension(X509 *x509, X509V3_CTX *ctx, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
    bool good = ext && X509_add_ext(x509, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return good;
}

static bool add_json(X509 *x509, const char *json)
{
    ASN1_OCTET_STRING *inner = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING *outer = ASN1_OCTET_STRING_new();
    ASN1_OBJECT *oid = OBJ_txt2obj(OID_SERVER_LICENSE_EXTENSION, 1);
    unsigned char *der = NULL;
    bool good = inner && outer && oid &&
                ASN1_OCTET_STRING_set(inner, (const unsigned char *)json, (int)strlen(json)) == 1;
    int len = good ? i2d_ASN1_OCTET_STRING(inner, &der) : -1;
    good = len > 0 && ASN1_OCTET_STRING_set(outer, der, len) == 1;
    X509_EXTENSION *ext = good ? X509_EXTENSION_create_by_OBJ(NULL, oid, 0, outer) : NULL;
    good = ext && X509_add_ext(x509, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    OPENSSL_free(der);
    ASN1_OBJECT_free(oid);
    ASN1_OCTET_STRING_free(outer);
    ASN1_OCTET_STRING_free(inner);
    return good;
}

static bool add_names(X509 *x509, X509V3_CTX *ctx, const char *const *names)
{
    BUF_CLEANUP struct buf value = {0};
    for (; *names; names++) {
        struct in6_addr address;
        bool ip = inet_pton(AF_INET, *names, &address) == 1 ||
                  inet_pton(AF_INET6, *names, &address) == 1;
        // The value is a small language of OpenSSL's: a name with its separators would say more
        // than one thing.
        if (strpbrk(*names, ",;= \t\n"))
            return false;
        buf_printf(&value, "%s%s:%s", value.len ? "," : "", ip ? "IP" : "DNS", *names);
    }
    return add_extension(x509, ctx, NID_subject_alt_name, value.data);
}

static const char *const usages[] = {
    [USAGE_SERVER_LICENSE] = "clientAuth",
    [USAGE_BACKEND_TLS] = "serverAuth",
    [USAGE_LICENSE_KEY] = OID_LICENSE_KEY_USAGE,
    [USAGE_RPC] = "serverAuth,clientAuth",
};

static bool add_extensions(X509 *x509, X509 *issuer, const struct crypto_issue *what)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x509, NULL, NULL, 0);
    bool good = add_extension(x509, &ctx, NID_basic_constraints,
                              what->ca ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE") &&
                add_extension(x509, &ctx, NID_key_usage,
                              what->ca ? "critical,keyCertSign,cRLSign"
                                       : "critical,digitalSignature") &&
                add_extension(x509, &ctx, NID_subject_key_identifier, "hash") &&
                add_extension(x509, &ctx, NID_authority_key_identifier, "keyid:always");
    if (good && !what->ca)
        good = add_extension(x509, &ctx, NID_ext_key_usage, usages[what->usage]);
    if (good && what->names)
        good = add_names(x509, &ctx, what->names);
    if (good && what->extension_json)
        good = add_json(x509, what->extension_json);
    return good;
}

static bool set_serial(X509 *x509)
{
    uint8_t bytes[16];
    crypto_random(bytes, sizeof bytes);
    bytes[0] &= 0x7f; // positive
    bytes[0] |= 0x40; // and always of the same length
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool good = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509));
    BN_free(number);
    return good;
}

static bool set_time(ASN1_TIME *t, struct wall_time when)
{
    return ASN1_TIME_set(t, (time_t)when.s) != NULL;
}

int crypto_cert_issue(struct crypto_cert **out, const struct crypto_issue *what,
                      const struct crypto_key *subject, const struct crypto_cert *issuer,
                      const struct crypto_key *issuer_key, struct error *err)
{
    X509 *x509 = X509_new();
    if (!x509)
        abort();
    X509 *parent = issuer ? crypto_cert_x509(issuer) : x509;
    const struct crypto_key *signer = issuer ? issuer_key : subject;
    X509_NAME *name = X509_get_subject_name(x509);
    bool ed25519 = EVP_PKEY_get_base_id(signer->pkey) == EVP_PKEY_ED25519;
    bool good =
        X509_set_version(x509, X509_VERSION_3) == 1 && set_serial(x509) &&
        X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                   (const unsigned char *)what->common_name, -1, -1, 0) == 1 &&
        X509_set_issuer_name(x509, X509_get_subject_name(parent)) == 1 &&
        set_time(X509_getm_notBefore(x509), what->not_before) &&
        set_time(X509_getm_notAfter(x509), what->not_after) &&
        X509_set_pubkey(x509, subject->pkey) == 1 && add_extensions(x509, parent, what) &&
        X509_sign(x509, signer->pkey, ed25519 ? NULL : EVP_sha256()) > 0;
    if (!good) {
        X509_free(x509);
        return crypto_fail(err, "the certificate cannot be made");
    }
    *out = crypto_cert_from_x509(x509);
    return 0;
}
