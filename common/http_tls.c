// TLS sessions: set up, handshake, and the two directions of bytes.
//
// GnuTLS reads the five bytes of a record's header first and then the record; here one recv fetches
// all there is, into a buffer that all connections share, as they take turns. What a turn leaves in
// it (libmicrohttpd had no more room) is kept with the connection until it is asked for.
#include "common/http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_BYTES 16384
#define IN_BYTES (RECORD_BYTES + 1024) // a whole record at least

// TLS 1.2 with forward secrecy and AEAD only, and TLS 1.3. The default would let TLS 1.0 and CBC
// in.
static const char priorities[] =
    "NONE:+VERS-TLS1.3:+VERS-TLS1.2:+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:+AEAD:+SHA256:"
    "+SHA384:+ECDHE-ECDSA:+ECDHE-RSA:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:"
    "+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SECP384R1-SHA384:+SIGN-ECDSA-SHA256:"
    "+SIGN-ECDSA-SHA384:+SIGN-EDDSA-ED25519:+SIGN-RSA-PSS-RSAE-SHA256:"
    "+SIGN-RSA-PSS-RSAE-SHA384:+SIGN-RSA-SHA256:+SIGN-RSA-SHA384:+CTYPE-X509:"
    "%SERVER_PRECEDENCE:%SAFE_RENEGOTIATION";

// Of the connection that is at work; empty between the functions below.
static struct {
    size_t at, len;
    uint8_t bytes[IN_BYTES];
} in;
static uint8_t out[RECORD_BYTES];

// ---- transport ----

static size_t hand_over(void *data, size_t len, const uint8_t *bytes, size_t *at, size_t end)
{
    size_t n = end - *at < len ? end - *at : len;
    memcpy(data, bytes + *at, n);
    *at += n;
    return n;
}

static ssize_t pull(gnutls_transport_ptr_t ptr, void *data, size_t len)
{
    struct http_conn *c = ptr;
    if (c->rest) {
        size_t n = hand_over(data, len, c->rest, &c->rest_at, c->rest_len);
        if (c->rest_at == c->rest_len) {
            free(c->rest);
            c->rest = NULL;
        }
        return (ssize_t)n;
    }
    if (in.at == in.len) {
        ssize_t n = http_raw_recv(c->fd, in.bytes, sizeof in.bytes, 0);
        c->drained = n < (ssize_t)sizeof in.bytes;
        in.at = 0;
        in.len = n > 0 ? (size_t)n : 0;
        // An end without close_notify stays with us: GnuTLS would send no more, and the answer to
        // what came before it is owed. Requests tell their own length.
        if (n == 0) {
            c->received_end = true;
            errno = EAGAIN;
        }
        if (n <= 0)
            return -1;
    }
    return (ssize_t)hand_over(data, len, in.bytes, &in.at, in.len);
}

// Ends what began with the first pull: the shared buffer is free for others.
static void pull_end(struct http_conn *c)
{
    if (in.at < in.len) { // c->rest was used up before anything came in
        c->rest_at = 0;
        c->rest_len = in.len - in.at;
        c->rest = malloc(c->rest_len);
        if (!c->rest)
            abort();
        memcpy(c->rest, in.bytes + in.at, c->rest_len);
    }
    in.at = in.len = 0;
}

static int pull_timeout(gnutls_transport_ptr_t ptr, unsigned ms)
{
    return 1; // never waits, this is the only thread: pull says EAGAIN
}

static ssize_t push(gnutls_transport_ptr_t ptr, const giovec_t *iov, int n)
{
    const struct http_conn *c = ptr;
    const struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n};
    return http_raw_sendmsg(c->fd, &msg, MSG_NOSIGNAL);
}

// ---- sessions ----

int http_tls_setup(struct http_server *s, struct error *err)
{
    if (gnutls_session_ticket_key_generate(&s->ticket_key) < 0 ||
        gnutls_priority_init(&s->priorities, priorities, NULL) < 0)
        abort();
    return http_credentials_new(&s->credentials, s->options.tls, err);
}

void http_tls_teardown(struct http_server *s)
{
    http_credentials_unref(&s->credentials);
    if (s->priorities)
        gnutls_priority_deinit(s->priorities);
    if (s->ticket_key.data)
        gnutls_free(s->ticket_key.data);
}

static int verify_in_handshake(gnutls_session_t session)
{
    const struct http_conn *c = gnutls_session_get_ptr(session);
    return http_credentials_verify(c->credentials, session) ? 0 : GNUTLS_E_CERTIFICATE_ERROR;
}

int http_tls_begin(struct http_conn *c)
{
    struct http_server *s = c->server;
    if (gnutls_init(&c->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0)
        return -EIO;
    c->credentials = http_credentials_ref(s->credentials);
    gnutls_session_set_ptr(c->session, c);
    if (gnutls_priority_set(c->session, s->priorities) < 0 ||
        gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, c->credentials->x509) < 0)
        return -EIO;
    // A key of our own for tickets, of which GnuTLS derives a new one each few hours.
    if (gnutls_session_ticket_enable_server(c->session, &s->ticket_key) < 0)
        return -EIO;
    if (c->credentials->client_ca) {
        gnutls_certificate_server_set_request(c->session, c->credentials->client_required
                                                              ? GNUTLS_CERT_REQUIRE
                                                              : GNUTLS_CERT_REQUEST);
        gnutls_session_set_verify_function(c->session, verify_in_handshake);
    }
    gnutls_transport_set_ptr(c->session, c);
    gnutls_transport_set_pull_function(c->session, pull);
    gnutls_transport_set_pull_timeout_function(c->session, pull_timeout);
    gnutls_transport_set_vec_push_function(c->session, push);
    return 0;
}

void http_tls_end(struct http_conn *c)
{
    if (c->session)
        gnutls_deinit(c->session);
    http_credentials_unref(&c->credentials);
    free(c->rest);
}

int http_tls_handshake(struct http_conn *c)
{
    int r;
    do
        r = gnutls_handshake(c->session);
    while (r < 0 && r != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(r));
    pull_end(c);
    if (r == GNUTLS_E_AGAIN) {
        c->watch_out = gnutls_record_get_direction(c->session) == 1;
        return c->received_end && !c->watch_out ? -EIO : -EAGAIN;
    }
    if (r < 0) {
        gnutls_alert_send_appropriate(c->session, r);
        return -EIO;
    }
    return 0;
}

void http_tls_bye(struct http_conn *c)
{
    (void)gnutls_bye(c->session, GNUTLS_SHUT_WR); // a client that does not take it goes without
}

// ---- records ----

bool http_tls_has_rest(const struct http_conn *c)
{
    return c->session && (c->rest || gnutls_record_check_pending(c->session));
}

static bool more_to_read(const struct http_conn *c)
{
    return in.at < in.len || !c->drained || http_tls_has_rest(c);
}

ssize_t http_tls_recv(struct http_conn *c, void *data, size_t len)
{
    size_t got = 0;
    int error = EAGAIN;
    // What an earlier call saw says nothing: with less than it asked for libmicrohttpd takes the
    // socket for empty, and it may have been told of new bytes meanwhile, once.
    c->drained = false;
    while (got < len && !c->ended) {
        ssize_t n = gnutls_record_recv(c->session, (uint8_t *)data + got, len - got);
        if (n > 0)
            got += (size_t)n;
        else if (n == 0)
            c->ended = true;
        else if (n != GNUTLS_E_AGAIN && n != GNUTLS_E_INTERRUPTED)
            c->ended = true, error = ECONNRESET;
        else if (c->received_end)
            c->ended = true;
        // A message that is not data, as a key update, ends a call too although more is there.
        if (!more_to_read(c))
            break;
    }
    pull_end(c);
    if (got || (c->ended && error == EAGAIN))
        return (ssize_t)got;
    errno = error;
    return -1;
}

// The next bytes of iov from `skip` on, as one piece of at most a record.
static size_t gather(const struct iovec *iov, size_t n, size_t skip, const uint8_t **piece)
{
    size_t len = 0;
    for (size_t i = 0; i < n && len < sizeof out; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        const uint8_t *from = (const uint8_t *)iov[i].iov_base + skip;
        size_t part = iov[i].iov_len - skip;
        skip = 0;
        if (!len && (i + 1 == n || part >= sizeof out)) {
            *piece = from;
            return part;
        }
        part = part < sizeof out - len ? part : sizeof out - len;
        memcpy(out + len, from, part);
        len += part;
    }
    *piece = out;
    return len;
}

// What does not fit into the socket GnuTLS keeps, and says how much that was when it has gone.
// Until then the caller is told that nothing was taken, so that it offers the same bytes again.
ssize_t http_tls_send(struct http_conn *c, const struct iovec *iov, size_t n)
{
    size_t total = 0;
    ssize_t r = 0;
    for (size_t i = 0; i < n; i++)
        total += iov[i].iov_len;
    if (c->unsent && (r = gnutls_record_send(c->session, NULL, 0)) >= 0) {
        c->unsent = false;
        c->taken += (size_t)r;
    }
    size_t sent = c->taken < total ? c->taken : total;
    c->taken -= sent;
    while (r >= 0 && sent < total) {
        const uint8_t *piece;
        size_t len = gather(iov, n, sent, &piece);
        r = gnutls_record_send(c->session, piece, len);
        if (r > 0)
            sent += (size_t)r;
        c->unsent = r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED;
    }
    if (sent || !total)
        return (ssize_t)sent;
    errno = c->unsent ? EAGAIN : ECONNRESET;
    return -1;
}
