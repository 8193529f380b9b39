// What the files of the HTTP server share; not for others. http_server: life, passes, drain.
// http_conn: connections, their limits and deadlines. http_request: routing and answers. http_tls:
// credentials and transport. http_guard: sees every byte before libmicrohttpd does.
#pragma once

#include "common/core/http_framing.h"
#include "common/http_server.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/types.h>

// libmicrohttpd's memory for one connection: it clears the rest of it after every request, so that
// a large one costs time. The cost limit of a header leaves room for the header of the answer.
#define HTTP_POOL_BYTES 10240
#define HTTP_HEADER_COST_BYTES 8832
#define HTTP_FIELD_COST_BYTES 64
#define HTTP_HEADER_BYTES 16384
#define HTTP_FIELDS 100
#define HTTP_PULL_BYTES 4096
#define HTTP_ANSWER_MS 6000 // a handler that has not answered by then is answered for: 503
#define HTTP_LINGER_MS 1000 // a refused client may go on sending, so that it can read the refusal
#define HTTP_ONE_RECORD_BYTES 15360 // bodies up to this go with their header in one TLS record
#define HTTP_PEER_BUCKETS 1024

struct http_peer { // one address
    struct in6_addr address;
    unsigned connections;
    struct http_peer *next;
};

struct http_credentials { // counted: the server holds one, each connection one
    unsigned refs;
    gnutls_certificate_credentials_t x509;
    gnutls_x509_crt_t certificate;
    struct wall_time until; // the first end of a certificate in the chain
    bool client_ca, client_required;
};

struct http_conn {
    struct http_server *server;
    struct http_conn *next, **prev;
    struct MHD_Connection *mhd;
    gnutls_session_t session; // NULL: plain
    struct http_credentials *credentials;
    int fd;
    char address[INET6_ADDRSTRLEN];
    struct http_peer *peer; // NULL: not counted any more

    struct http_framing framing;
    uint64_t completed; // answers
    struct http_request *current;
    bool handshaken, verified;
    bool closing;      // shut down by us
    bool refusal_sent; // the answer to a refused request was written
    bool answering;    // a response is queued in libmicrohttpd
    bool corked;       // the header of the answer waits for its body
    bool uncorking;      // the body was taken, but not all of it is sent
    bool flushing;       // inside GnuTLS
    struct mono_time since;        // accepted, or last change between phases
    struct mono_time header_began;
    struct mono_time answer_began;
    struct mono_time refused_at;

    size_t pull_at, pull_len;
    uint8_t pull[HTTP_PULL_BYTES];
};

struct http_request {
    struct http_server *server; // NULL: it is gone
    struct http_conn *conn;     // NULL: the client is gone or was answered
    unsigned refs;              // libmicrohttpd's and the handler's
    const struct http_route *route;
    struct MHD_Response *response;
    int status;
    bool dispatched, owes_answer, queued, has_body;
    struct mono_time started, received;
    struct buf body;
    void *data;
    void (*data_free)(void *data);
    char address[INET6_ADDRSTRLEN];
    char *path;
    char method[32];
    char text[]; // path
};

struct http_server {
    struct loop *loop;
    struct MHD_Daemon *daemon;
    struct http_server_options options;
    struct http_framing_limits framing_limits;
    struct http_credentials *credentials;
    gnutls_datum_t ticket_key;
    uint16_t port;
    struct http_conn *conns;
    unsigned connections; // not counting those that are closing
    struct http_peer *peers[HTTP_PEER_BUCKETS];

    struct loop_fd epoll;
    struct loop_hook turn;
    struct loop_timer kick;  // now: a pass outside of a turn was asked for
    struct loop_timer sweep; // deadlines
    bool run, in_pass, refusals_waiting;
    unsigned answers;  // queued and not completed
    uint64_t progress; // whatever moved; a pass that moves nothing is the last

    bool draining, drained;
    struct mono_time drain_deadline;
    void (*drain_done)(void *ctx);
    void *drain_ctx;
};

// http_server.c
void http_server_kick(struct http_server *s); // a pass is needed
void http_server_refused(struct http_server *s, const char *reason, const char *address);

// http_conn.c
enum MHD_Result http_conn_accept(void *cls, const struct sockaddr *addr, socklen_t len);
void http_conn_notify(void *cls, struct MHD_Connection *mhd, void **context,
                      enum MHD_ConnectionNotificationCode code);
void http_conn_close(struct http_conn *c); // shuts it down; libmicrohttpd notices and closes
void http_conn_sweep(struct http_server *s); // deadlines
void http_conn_refuse_waiting(struct http_server *s);

// http_request.c
enum MHD_Result http_request_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                    const char *method, const char *version, const char *data,
                                    size_t *data_len, void **context);
void http_request_completed(void *cls, struct MHD_Connection *mhd, void **context,
                            enum MHD_RequestTerminationCode code);
void http_request_give_up(struct http_request *r); // 503 for a handler that does not answer

// http_tls.c
extern const char http_tls_priorities[];
int http_credentials_new(struct http_credentials **out, const struct http_tls *tls,
                         struct error *err);
struct http_credentials *http_credentials_ref(struct http_credentials *c);
void http_credentials_unref(struct http_credentials **c);
bool http_credentials_name(const struct http_credentials *c, const char *host, size_t len);
int http_tls_begin(struct http_conn *c); // 0 or -EIO
bool http_tls_verified(struct http_conn *c); // the client's certificate is what it must be
int http_tls_refuse_own(gnutls_session_t session, const gnutls_datum_t *ca, int n,
                        const gnutls_pk_algorithm_t *algos, int algos_n, gnutls_pcert_st **pcert,
                        unsigned *pcert_n, gnutls_privkey_t *key);

// http_guard.c
void http_guard_pass(bool begins); // a pass of libmicrohttpd begins or ends on this thread
void http_guard_attach(struct http_conn *c);
void http_guard_detach(struct http_conn *c);
void http_guard_answer_refused(struct http_conn *c); // writes the refusal once nothing is owed
