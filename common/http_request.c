// Requests: routing, bodies, answers now or later.
#include "common/http_internal.h"

#include "common/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SPARE_MAX 256
#define SPARE_BYTES_MAX 16384 // of one that is kept

// ---- life ----

static void request_free(struct http_request *r)
{
    buf_fini(&r->path);
    buf_fini(&r->body);
    buf_fini(&r->answer);
    free(r);
}

// s: the server that may use it again; NULL: it is gone.
static void request_unref(struct http_request *r, struct http_server *s)
{
    if (--r->refs)
        return;
    if (!s || s->spare_len >= SPARE_MAX ||
        r->path.cap + r->body.cap + r->answer.cap > SPARE_BYTES_MAX) {
        request_free(r);
        return;
    }
    r->spare_next = s->spare;
    s->spare = r;
    s->spare_len++;
}

void http_request_free_spare(struct http_server *s)
{
    while (s->spare) {
        struct http_request *r = s->spare;
        s->spare = r->spare_next;
        request_free(r);
    }
}

static struct http_conn *conn_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static struct http_request *request_new(struct http_conn *c, const char *method, const char *url)
{
    struct http_server *s = c->server;
    struct http_request *r = s->spare;
    if (r) {
        s->spare = r->spare_next;
        s->spare_len--;
        buf_clear(&r->path);
        buf_clear(&r->body);
        buf_clear(&r->answer);
    } else if (!(r = calloc(1, sizeof *r))) {
        abort();
    }
    *r = (struct http_request){.path = r->path,
                               .body = r->body,
                               .answer = r->answer,
                               .refs = 1,
                               .server = s,
                               .conn = c};
    buf_add_str(&r->path, url);
    size_t len = strlen(method);
    memcpy(r->method, method, len < sizeof r->method ? len : sizeof r->method - 1);
    memcpy(r->address, c->address, sizeof r->address);
    c->current = r;
    return r;
}

// ---- answers ----

// A value that could split the answer is left out.
static void add_field(struct buf *out, const char *name, const char *value)
{
    if (strpbrk(value, "\r\n"))
        return;
    buf_add_str(out, name);
    buf_add_str(out, ": ");
    buf_add_str(out, value);
    buf_add_str(out, "\r\n");
}

static const char *date_field(struct http_server *s)
{
    struct mono_time now = loop_now(s->loop);
    if (!*s->date || now.ms - s->date_at.ms >= 1000) {
        static const char days[] = "SunMonTueWedThuFriSat";
        static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
        time_t seconds = clock_wall().s;
        struct tm tm;
        gmtime_r(&seconds, &tm);
        snprintf(s->date, sizeof s->date, "Date: %.3s, %02d %.3s %04d %02d:%02d:%02d GMT\r\n",
                 days + 3 * tm.tm_wday, tm.tm_mday, months + 3 * tm.tm_mon, tm.tm_year + 1900,
                 tm.tm_hour, tm.tm_min, tm.tm_sec);
        s->date_at = now;
    }
    return s->date;
}

static void answer(struct http_request *r, int status, const char *content_type, const char *body,
                   size_t len, const struct http_header *headers)
{
    struct buf *out = &r->answer;
    buf_add_str(out, date_field(r->server));
    buf_add_str(out, "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
    if (content_type)
        add_field(out, "Content-Type", content_type);
    for (; headers && headers->name; headers++)
        add_field(out, headers->name, headers->value);
    if (status != 204) {
        buf_add_str(out, "Content-Length: ");
        buf_add_u64(out, len);
        buf_add_str(out, "\r\n");
    }
    buf_add_str(out, "\r\n");
    if (strcmp(r->method, "HEAD"))
        buf_add(out, body, len);
    r->status = status;
    r->answered = true;
}

void http_respond(struct http_request *r, int status, const char *content_type, const char *body,
                  size_t len, const struct http_header *headers)
{
    if (!r->owes_answer)
        abort(); // answered twice: the request may be gone
    r->owes_answer = false;
    if (r->conn && !r->answered) {
        answer(r, status, content_type, body, len, headers);
        http_server_kick(r->server);
    }
    request_unref(r, r->server);
}

static void answer_text(struct http_request *r, int status, const char *text,
                        const struct http_header *headers)
{
    answer(r, status, "text/plain; charset=utf-8", text, strlen(text), headers);
}

void http_request_give_up(struct http_request *r)
{
    if (r->answered)
        return;
    http_server_refused(r->server, "no-answer", r->address);
    answer_text(r, 503, "Service Unavailable\n", NULL);
    http_server_kick(r->server);
}

// ---- routing ----

static bool path_matches(const char *pattern, const char *path)
{
    size_t len = strlen(pattern);
    if (len && pattern[len - 1] == '*')
        return !strncmp(pattern, path, len - 1);
    return !strcmp(pattern, path);
}

static bool method_matches(const char *served, const char *method)
{
    return !strcmp(served, method) || (!strcmp(served, "GET") && !strcmp(method, "HEAD"));
}

static void allow_add(char *allow, size_t size, const char *method)
{
    size_t len = strlen(allow);
    snprintf(allow + len, size - len, "%s%s%s", len ? ", " : "", method,
             strcmp(method, "GET") ? "" : ", HEAD");
}

static void dispatch(struct http_request *r)
{
    char allow[128] = "";
    r->dispatched = true;
    r->received = loop_now(r->server->loop);
    const struct http_route *routes = r->server->options.routes;
    for (const struct http_route *route = routes; route->method; route++) {
        if (!path_matches(route->path, r->path.data))
            continue;
        if (!method_matches(route->method, r->method)) {
            allow_add(allow, sizeof allow, route->method);
            continue;
        }
        r->route = route;
        r->owes_answer = true;
        r->refs++;
        route->fn(r, r->server->options.ctx);
        return;
    }
    http_server_refused(r->server, *allow ? "method" : "not-found", r->address);
    if (*allow)
        answer_text(r, 405, "Method Not Allowed\n",
                    (struct http_header[]){{"Allow", allow}, {NULL, NULL}});
    else
        answer_text(r, 404, "Not Found\n", NULL);
}

// ---- called by libmicrohttpd ----

static enum MHD_Result queue(struct http_request *r, struct MHD_Connection *mhd)
{
    bool last = r->server->draining || r->conn->ended;
    r->queued = true;
    r->conn->answering = true;
    r->server->answers++;
    r->conn->answer_began = loop_now(r->server->loop);
    r->server->progress++;
    return MHD_queue_response(mhd, (unsigned)r->status,
                              last ? r->server->empty_last : r->server->empty);
}

// Called for the header, for each piece of the body, and then, as long as there is no answer, once
// in every pass. Nothing is suspended: that is dearer, and stopping with suspended ones aborts.
enum MHD_Result http_request_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                    const char *method, const char *version, const char *data,
                                    size_t *data_len, void **context)
{
    struct http_request *r = *context;
    if (!r) {
        struct http_conn *c = conn_of(mhd);
        if (!c || c->current)
            return MHD_NO;
        *context = request_new(c, method, url);
        return MHD_YES;
    }
    if (*data_len) {
        // The guard has held it to the limit.
        buf_add(&r->body, data, *data_len);
        *data_len = 0;
        r->server->progress++;
        return MHD_YES;
    }
    if (!r->dispatched)
        dispatch(r);
    return r->answered && !r->queued ? queue(r, mhd) : MHD_YES;
}

void http_request_completed(void *cls, struct MHD_Connection *mhd, void **context,
                            enum MHD_RequestTerminationCode code)
{
    struct http_request *r = *context;
    if (!r)
        return;
    *context = NULL;
    struct http_conn *c = r->conn;
    struct mono_time now = loop_now(c->server->loop);
    c->server->progress++;
    c->completed++;
    c->current = NULL;
    if (c->answering)
        c->server->answers--;
    c->answering = false;
    c->since = now;
    if (c->framing.phase != HTTP_PHASE_IDLE)
        c->header_began = now; // what followed was not read while this one waited
    struct http_server *s = r->server;
    r->conn = NULL;
    r->server = NULL;
    request_unref(r, s);
}

// ---- for handlers ----

const char *http_request_path(const struct http_request *r)
{
    return r->path.data;
}

const char *http_request_header(const struct http_request *r, const char *name)
{
    return r->conn ? MHD_lookup_connection_value(r->conn->mhd, MHD_HEADER_KIND, name) : NULL;
}

const char *http_request_body(const struct http_request *r, size_t *len)
{
    *len = r->body.len;
    return r->body.data ? r->body.data : "";
}

const char *http_request_address(const struct http_request *r)
{
    return r->address;
}

const uint8_t *http_request_client_cert(const struct http_request *r, size_t *len)
{
    *len = 0;
    if (!r->conn || !r->conn->session || !r->conn->credentials->client_ca)
        return NULL;
    unsigned n = 0;
    const gnutls_datum_t *peers = gnutls_certificate_get_peers(r->conn->session, &n);
    if (!peers || !n)
        return NULL;
    *len = peers[0].size;
    return peers[0].data;
}
