// The backend's HTTPS: OpenSSL in the event loop. Server licenses carry an extension whose OID has
// 128-bit parts (licenses.md), and GnuTLS, with which common/http_server.h speaks TLS, cannot read
// a certificate with such an OID at all; OpenSSL can.
//
// One request a connection, HTTP/1.1, Content-Length only. A client certificate is asked for, and
// the client proves that it has the key; whether it is a server license, and still one, is decided
// by the handler, so that an expired or revoked server gets an answer and no TLS alert.
#pragma once

#include "common/core/error.h"
#include "common/loop.h"

#include <stddef.h>
#include <stdint.h>

struct tls_server;
struct tls_request;

struct tls_options {
    const char *host;
    uint16_t port; // 0: any
    const char *certificate_file, *key_file, *client_ca_file;
    size_t max_body_bytes;
    unsigned connections;
    int64_t deadline_ms; // of a whole connection
    // Answers exactly once, now or later on the loop, by tls_respond().
    void (*handler)(struct tls_request *r, void *ctx);
    // Each connection that is closed without reaching the handler; a constant.
    void (*refused)(void *ctx, const char *reason, const char *address);
    void *ctx;
};

int tls_server_new(struct tls_server **out, struct loop *loop, const struct tls_options *options,
                   struct error *err);
int tls_server_reload(struct tls_server *s, struct error *err); // reads the files again
uint16_t tls_server_port(const struct tls_server *s);
unsigned tls_server_connections(const struct tls_server *s);
void tls_server_stop_accepting(struct tls_server *s);
void tls_server_free(struct tls_server **s);

const char *tls_request_method(const struct tls_request *r);
const char *tls_request_path(const struct tls_request *r);
const char *tls_request_content_type(const struct tls_request *r); // "" if there is none
const char *tls_request_body(const struct tls_request *r, size_t *len);
const char *tls_request_address(const struct tls_request *r);
struct mono_time tls_request_started(const struct tls_request *r);
// DER of the client's certificate, not verified; NULL if there is none.
const uint8_t *tls_request_client_cert(const struct tls_request *r, size_t *len);
void tls_respond(struct tls_request *r, int status, const char *content_type, const char *body,
                 size_t len);
