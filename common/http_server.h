// HTTP/1.1 server on libmicrohttpd inside our loop; TLS by GnuTLS. The only caller of both. Used by
// gateway (22022, 22023), by the operations listeners of the others (plain HTTP), by berth-cloud.
// What libmicrohttpd lets through and must not (security.md) is stopped here: smuggling forms, bare
// LF, NUL, slow headers and bodies, too many connections of one address.
#pragma once

#include "common/core/buf.h"
#include "common/core/error.h"
#include "common/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_server;
struct http_request;

struct http_tls {
    const char *certificate_file; // PEM chain; ECDSA or RSA
    const char *key_file;
    const char *client_ca_file; // NULL: no client certificate is asked for
    bool client_required;       // else a client certificate is optional
};

struct http_limits {
    size_t max_body_bytes;          // 413 above
    unsigned connections;           // in all
    unsigned connections_per_address;
    int64_t header_deadline_ms;     // 10 s
    int64_t request_deadline_ms;    // 15 s: whole request received
    int64_t idle_ms;                // keep-alive
};

// The handler answers exactly once, now or later (within its own deadline), by http_respond().
typedef void (*http_handler)(struct http_request *r, void *ctx);

struct http_route {
    const char *method; // "GET" serves HEAD too
    const char *path;   // exact; a final '*' matches the rest
    http_handler fn;
};

struct http_server_options {
    const char *host;
    uint16_t port; // 0: any (http_server_port tells)
    const struct http_tls *tls; // NULL: plain HTTP
    struct http_limits limits;
    const struct http_route *routes; // static table, ended by {NULL}
    void *ctx;
    // Each refused or broken request or connection, by reason (stable names): counter and log.
    void (*refused)(void *ctx, const char *reason, const char *address);
};

int http_server_new(struct http_server **out, struct loop *loop,
                    const struct http_server_options *options, struct error *err);
uint16_t http_server_port(const struct http_server *s);
// Reads certificate, key and client CA again; open connections go on, new ones see the new one. On
// error nothing changes.
int http_server_reload_tls(struct http_server *s, const struct http_tls *tls, struct error *err);
// The limit for one address from now on; connections that are open stay.
void http_server_limit_address(struct http_server *s, unsigned connections);
// When the first certificate of the server's chain expires; WALL_MAX without TLS.
struct wall_time http_server_certificate_until(const struct http_server *s);
// True if host is a DNS name or an address in the server's certificate.
bool http_server_names_host(const struct http_server *s, const char *host, size_t len);
unsigned http_server_connections(const struct http_server *s);
// Of those, silent ones, which cost little more than their TLS session. Walks through all.
unsigned http_server_idle_connections(const struct http_server *s);
// Stops accepting; done(ctx) runs when all that was in flight is answered, or at the deadline.
void http_server_drain(struct http_server *s, struct mono_time deadline, void (*done)(void *ctx),
                       void *ctx);
void http_server_free(struct http_server **s);

const char *http_request_path(const struct http_request *r);
const char *http_request_header(const struct http_request *r, const char *name); // NULL: absent
const char *http_request_body(const struct http_request *r, size_t *len);
const char *http_request_address(const struct http_request *r); // of the peer, without port
// DER of the client's verified certificate; NULL: none was presented.
const uint8_t *http_request_client_cert(const struct http_request *r, size_t *len);

struct http_header {
    const char *name, *value;
};
// body is copied. Cache-Control: no-store and X-Content-Type-Options: nosniff are added to every
// answer; headers (may be NULL) ends with {NULL}. If the client has gone, nothing is sent.
void http_respond(struct http_request *r, int status, const char *content_type, const char *body,
                  size_t len, const struct http_header *headers);
