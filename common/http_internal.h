// What the files of the HTTP server share; not for others. http_server: life, passes, drain.
// http_listen: the listening socket, addresses and how many connections each may have. http_conn:
// life and deadlines of connections. http_request: routing and answers. http_credentials and
// http_tls: certificates; sessions and transport. http_guard: what libmicrohttpd reads and writes.
//
// A connection is ours: its descriptor, its TLS session, its handshake. libmicrohttpd gets it, as a
// plain one, when the first byte of a request may have come, and gives it back when it has been
// silent for a while (HTTP_PARK_MS), because its memory for a connection is as large as all else
// together. It reaches the descriptor only through functions that this program defines
// (http_guard.c).
#pragma once

#include "common/core/http_framing.h"
#include "common/http_server.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

// libmicrohttpd's memory for one connection: it clears the rest of it after every request, so that
// a large one costs time. The cost limit of a header leaves room for the header of the answer.
#define HTTP_POOL_BYTES 10240
#define HTTP_HEADER_COST_BYTES 8832
#define HTTP_FIELD_COST_BYTES 64
#define HTTP_HEADER_BYTES 16384
#define HTTP_FIELDS 100
#define HTTP_ANSWER_MS 6000 // a handler that has not answered by then is answered for: 503
#define HTTP_LINGER_MS 1000 // a refused client may go on sending, so that it can read the refusal
#define HTTP_PARK_MS 1000   // silent for that long between requests: taken from libmicrohttpd
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
    struct MHD_Connection *mhd; // NULL: not with libmicrohttpd, but watched
    struct loop_fd watch;
    gnutls_session_t session; // NULL: plain
    struct http_credentials *credentials;
    int fd;
    char address[INET6_ADDRSTRLEN];
    struct http_peer *peer; // NULL: not counted any more

    struct http_framing framing;
    uint64_t completed; // answers
    struct http_request *current;
    bool handshaken, watch_out;
    bool closing;           // shut down by us
    bool parking;           // asked back from libmicrohttpd
    bool refusal_sent;      // the answer to a refused request was written
    bool answering;         // a response is queued in libmicrohttpd
    struct mono_time since; // accepted, or last change between phases
    struct mono_time header_began;
    struct mono_time answer_began;
    struct mono_time refused_at;

    // Of http_tls.c.
    bool ended;        // nothing more will come
    bool received_end; // the client's half of the connection is shut
    bool drained;      // the last recv took all there was
    bool unsent;       // GnuTLS holds bytes that the socket had no room for
    size_t taken;      // bytes that have gone, and libmicrohttpd was not told so yet
    uint8_t *rest;     // records that were received and not asked for yet; mostly NULL
    size_t rest_at, rest_len;
};

struct http_request {
    struct http_server *server; // NULL: it is gone
    struct http_conn *conn;     // NULL: the client is gone or was answered
    unsigned refs;              // libmicrohttpd's and the handler's
    const struct http_route *route;
    int status;
    bool dispatched, owes_answer, answered, queued;
    size_t sent; // of the answer, with what libmicrohttpd put before it
    struct mono_time received;
    char address[INET6_ADDRSTRLEN];
    char method[32];
    struct buf path, body;
    struct buf answer; // from the first field that is not libmicrohttpd's to the end of the body
    struct http_request *spare_next;
};

struct http_server {
    struct loop *loop;
    struct MHD_Daemon *daemon;
    // What libmicrohttpd is given to send: nothing, and nothing before it closes. http_guard.c puts
    // the answer in its place.
    struct MHD_Response *empty, *empty_last;
    struct http_server_options options;
    struct http_framing_limits framing_limits;
    struct http_credentials *credentials;
    gnutls_priority_t priorities;
    gnutls_datum_t ticket_key;
    uint16_t port;
    struct http_conn *conns;
    unsigned connections; // not counting those that are closing
    struct http_peer *peers[HTTP_PEER_BUCKETS];

    struct loop_fd listener;
    struct loop_timer listen_again; // there were no descriptors left
    struct loop_fd epoll;           // of libmicrohttpd
    struct loop_hook turn;
    struct loop_timer kick;  // now: a pass outside of a turn was asked for
    struct loop_timer sweep; // deadlines
    bool run, in_pass, refusals_waiting, stopping;
    unsigned answers;           // queued and not completed
    struct http_request *spare; // their memory is used again
    unsigned spare_len;
    char date[48]; // field of answers
    struct mono_time date_at;
    uint64_t progress; // whatever moved; a pass that moves nothing is the last

    bool draining, drained;
    struct mono_time drain_deadline;
    void (*drain_done)(void *ctx);
    void *drain_ctx;
};

// http_server.c
void http_server_kick(struct http_server *s); // a pass is needed
void http_server_refused(struct http_server *s, const char *reason, const char *address);

// http_listen.c
int http_listen_start(struct http_server *s, struct error *err);
void http_listen_stop(struct http_server *s);
void http_peer_count(struct http_conn *c, const struct in6_addr *key);
void http_peer_uncount(struct http_conn *c);
void http_peer_format(const struct in6_addr *key, char out[static INET6_ADDRSTRLEN]);

// http_conn.c
void http_conn_new(struct http_server *s, int fd, const struct in6_addr *address); // takes fd
void http_conn_notify(void *cls, struct MHD_Connection *mhd, void **context,
                      enum MHD_ConnectionNotificationCode code);
void http_conn_released(struct http_conn *c); // libmicrohttpd has closed it, as it thinks
void http_conn_close(struct http_conn *c);    // shuts it down; it is freed when that is noticed
void http_conn_free(struct http_conn *c);     // one that is not with libmicrohttpd
void http_conn_sweep(struct http_server *s);  // deadlines
void http_conn_refuse_waiting(struct http_server *s);

// http_request.c
enum MHD_Result http_request_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                    const char *method, const char *version, const char *data,
                                    size_t *data_len, void **context);
void http_request_completed(void *cls, struct MHD_Connection *mhd, void **context,
                            enum MHD_RequestTerminationCode code);
void http_request_give_up(struct http_request *r); // 503 for a handler that does not answer
void http_request_free_spare(struct http_server *s);

// http_credentials.c
int http_credentials_new(struct http_credentials **out, const struct http_tls *tls,
                         struct error *err);
struct http_credentials *http_credentials_ref(struct http_credentials *c);
void http_credentials_unref(struct http_credentials **c);
bool http_credentials_name(const struct http_credentials *c, const char *host, size_t len);
// The client's certificate is what it must be.
bool http_credentials_verify(const struct http_credentials *c, gnutls_session_t session);

// http_tls.c
int http_tls_setup(struct http_server *s, struct error *err);
void http_tls_teardown(struct http_server *s);
int http_tls_begin(struct http_conn *c); // 0 or -EIO
void http_tls_end(struct http_conn *c);
int http_tls_handshake(struct http_conn *c); // 0: done; -EAGAIN: watch_out says for what; -EIO
bool http_tls_has_rest(const struct http_conn *c); // bytes for which no event will come
// As recv and sendmsg; -1 with EAGAIN or ECONNRESET. A recv that returns less than len has left
// nothing behind, which is what libmicrohttpd takes it to mean.
ssize_t http_tls_recv(struct http_conn *c, void *data, size_t len);
ssize_t http_tls_send(struct http_conn *c, const struct iovec *iov, size_t n);
void http_tls_bye(struct http_conn *c);

// http_guard.c
ssize_t http_raw_recv(int fd, void *data, size_t len, int flags);
ssize_t http_raw_sendmsg(int fd, const struct msghdr *msg, int flags);
void http_guard_pass(bool begins);           // calls into libmicrohttpd begin or end on this thread
bool http_guard_attach(struct http_conn *c); // false: the descriptor is too large to be watched
void http_guard_detach(struct http_conn *c);
struct http_conn *http_guard_find(int fd);
void http_guard_answer_refused(struct http_conn *c); // writes the refusal once nothing is owed
