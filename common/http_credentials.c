// Certificates of the server, and what is asked of those of clients.
#include "common/http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void credentials_free(struct http_credentials *c)
{
    if (c->certificate)
        gnutls_x509_crt_deinit(c->certificate);
    if (c->x509)
        gnutls_certificate_free_credentials(c->x509);
    free(c);
}

struct http_credentials *http_credentials_ref(struct http_credentials *c)
{
    c->refs++;
    return c;
}

void http_credentials_unref(struct http_credentials **c)
{
    if (*c && --(*c)->refs == 0)
        credentials_free(*c);
    *c = NULL;
}

static int certificate_load(struct http_credentials *c, const char *path, struct error *err)
{
    gnutls_datum_t pem = {0};
    int r = gnutls_load_file(path, &pem);
    if (r < 0)
        return error_set(err, "cannot read the certificate %s: %s", path, gnutls_strerror(r)),
               -EINVAL;
    gnutls_x509_crt_t *list = NULL;
    unsigned n = 0;
    r = gnutls_x509_crt_list_import2(&list, &n, &pem, GNUTLS_X509_FMT_PEM, 0);
    gnutls_free(pem.data);
    if (r < 0 || !n)
        return error_set(err, "no certificate in %s", path), -EINVAL;
    c->certificate = list[0];
    c->until = WALL_MAX;
    for (unsigned i = 0; i < n; i++) {
        time_t end = gnutls_x509_crt_get_expiration_time(list[i]);
        if (end != (time_t)-1 && end < c->until.s)
            c->until.s = end;
        if (i)
            gnutls_x509_crt_deinit(list[i]);
    }
    gnutls_free(list);
    return 0;
}

static int credentials_load(struct http_credentials *c, const struct http_tls *tls,
                            struct error *err)
{
    int r = gnutls_certificate_allocate_credentials(&c->x509);
    if (r < 0)
        abort();
    r = certificate_load(c, tls->certificate_file, err);
    if (r)
        return r;
    r = gnutls_certificate_set_x509_key_file(c->x509, tls->certificate_file, tls->key_file,
                                             GNUTLS_X509_FMT_PEM);
    if (r < 0)
        return error_set(err, "certificate %s and key %s: %s", tls->certificate_file, tls->key_file,
                         gnutls_strerror(r)),
               -EINVAL;
    if (tls->client_ca_file) {
        r = gnutls_certificate_set_x509_trust_file(c->x509, tls->client_ca_file,
                                                   GNUTLS_X509_FMT_PEM);
        if (r <= 0)
            return error_set(err, "no CA certificate in %s", tls->client_ca_file), -EINVAL;
        c->client_ca = true;
        c->client_required = tls->client_required;
    } else if (tls->client_required) {
        return error_set(err, "client certificates are required, but there is no CA for them"),
               -EINVAL;
    }
    return 0;
}

int http_credentials_new(struct http_credentials **out, const struct http_tls *tls,
                         struct error *err)
{
    struct http_credentials *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    c->refs = 1;
    int r = credentials_load(c, tls, err);
    if (r) {
        credentials_free(c);
        return r;
    }
    *out = c;
    return 0;
}

bool http_credentials_name(const struct http_credentials *c, const char *host, size_t len)
{
    char name[256];
    if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    }
    if (!len || len >= sizeof name || memchr(host, 0, len))
        return false;
    memcpy(name, host, len);
    name[len] = 0;
    return gnutls_x509_crt_check_hostname2(c->certificate, name, 0) != 0;
}

bool http_credentials_verify(const struct http_credentials *c, gnutls_session_t session)
{
    if (!c->client_ca)
        return true;
    unsigned n = 0;
    if (!gnutls_certificate_get_peers(session, &n) || !n)
        return !c->client_required;
    gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                     .data = (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT};
    unsigned status = 0;
    return gnutls_certificate_verify_peers(session, &purpose, 1, &status) == 0 && !status;
}
