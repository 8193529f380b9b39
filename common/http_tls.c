#include "common/http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

// TLS 1.2 with forward secrecy and AEAD only, and TLS 1.3. libmicrohttpd's own default would let
// TLS 1.0 and CBC in.
const char http_tls_priorities[] =
    "NONE:+VERS-TLS1.3:+VERS-TLS1.2:+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:+AEAD:+SHA256:"
    "+SHA384:+ECDHE-ECDSA:+ECDHE-RSA:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:"
    "+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SECP384R1-SHA384:+SIGN-ECDSA-SHA256:"
    "+SIGN-ECDSA-SHA384:+SIGN-EDDSA-ED25519:+SIGN-RSA-PSS-RSAE-SHA256:"
    "+SIGN-RSA-PSS-RSAE-SHA384:+SIGN-RSA-SHA256:+SIGN-RSA-SHA384:+CTYPE-X509:"
    "%SERVER_PRECEDENCE:%SAFE_RENEGOTIATION";

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

// Never asked: each connection gets the server's credentials before its handshake. Without a
// certificate or such a function libmicrohttpd does not start.
int http_tls_refuse_own(gnutls_session_t session, const gnutls_datum_t *ca, int n,
                        const gnutls_pk_algorithm_t *algos, int algos_n, gnutls_pcert_st **pcert,
                        unsigned *pcert_n, gnutls_privkey_t *key)
{
    return -1;
}

// ---- client certificates ----

static bool client_verified(gnutls_session_t session, const struct http_credentials *c)
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

static int verify_in_handshake(gnutls_session_t session)
{
    struct http_conn *c = gnutls_db_get_ptr(session);
    return c && client_verified(session, c->credentials) ? 0 : GNUTLS_E_CERTIFICATE_ERROR;
}

// A resumed session brings the certificate in its ticket, and GnuTLS does not verify it again: the
// CA may have changed meanwhile.
bool http_tls_verified(struct http_conn *c)
{
    if (!c->verified)
        c->verified = client_verified(c->session, c->credentials);
    return c->verified;
}

// ---- transport ----
// GnuTLS reads the five bytes of a record header first and then the record. One recv for both.

static ssize_t pull(gnutls_transport_ptr_t ptr, void *data, size_t len)
{
    struct http_conn *c = ptr;
    if (c->pull_at == c->pull_len) {
        c->pull_at = c->pull_len = 0;
        if (len >= sizeof c->pull)
            return recv(c->fd, data, len, 0);
        ssize_t n = recv(c->fd, c->pull, sizeof c->pull, 0);
        if (n <= 0)
            return n;
        c->pull_len = (size_t)n;
    }
    size_t n = c->pull_len - c->pull_at;
    if (n > len)
        n = len;
    memcpy(data, c->pull + c->pull_at, n);
    c->pull_at += n;
    c->server->progress++;
    return (ssize_t)n;
}

static int pull_timeout(gnutls_transport_ptr_t ptr, unsigned ms)
{
    struct http_conn *c = ptr;
    if (c->pull_at < c->pull_len)
        return 1;
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    // Never waits: this is the only thread.
    return poll(&p, 1, 0);
}

int http_tls_begin(struct http_conn *c)
{
    gnutls_session_t session = c->session;
    gnutls_db_set_ptr(session, c);
    if (gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, c->credentials->x509) < 0)
        return -EIO;
    // A key of our own for tickets, of which GnuTLS derives a new one each few hours.
    if (gnutls_session_ticket_enable_server(session, &c->server->ticket_key) < 0)
        return -EIO;
    if (c->credentials->client_ca) {
        gnutls_certificate_server_set_request(
            session, c->credentials->client_required ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_REQUEST);
        gnutls_session_set_verify_function(session, verify_in_handshake);
    }
    gnutls_transport_set_ptr2(session, c, (gnutls_transport_ptr_t)(intptr_t)c->fd);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_pull_timeout_function(session, pull_timeout);
    return 0;
}
