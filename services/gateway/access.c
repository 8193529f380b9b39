#include "services/gateway/access.h"

#include "common/log.h"
#include "services/gateway/core/http_rules.h"

#include <string.h>

#define LOGGED_PER_SECOND 10

static struct refusal_kind *kind_get(struct gateway *g, const char *name)
{
    size_t i = 0;
    while (i < REFUSAL_KINDS - 1 && g->refusals[i].name && strcmp(g->refusals[i].name, name) != 0)
        i++;
    if (!g->refusals[i].name)
        g->refusals[i].name = name;
    return &g->refusals[i];
}

void access_log(struct gateway *g, const char *kind, const char *method, const char *address)
{
    struct refusal_kind *k = kind_get(g, kind);
    struct mono_time now = loop_now(g->loop);
    if (now.ms - k->second.ms >= 1000) {
        if (k->held_back)
            log_info("request.refused-more", LOG_S("reason", kind), LOG_I("times", k->held_back));
        *k = (struct refusal_kind){.name = k->name, .second = now};
    }
    if (k->logged >= LOGGED_PER_SECOND) {
        k->held_back++;
        return;
    }
    k->logged++;
    log_info("request.refused", LOG_S("reason", kind), LOG_S("method", method ? method : ""),
             LOG_S("client", address ? address : ""));
}

void access_refused(void *gateway, const char *reason, const char *address)
{
    struct gateway *g = gateway;
    metric_add(g->metrics, M_HTTP_REFUSED, 1, reason);
    access_log(g, reason, NULL, address);
}

static void refuse(struct gateway *g, struct http_request *r, int status, const char *reason,
                   const char *text)
{
    access_refused(g, reason, http_request_address(r));
    http_respond(r, status, "text/plain; charset=utf-8", text, strlen(text), NULL);
}

static bool origin_good(const struct gateway *g, const struct http_server *server,
                        const char *origin)
{
    const struct config_strings *allowed = &g->config->serve.licenses.allowed_origins;
    for (size_t i = 0; i < allowed->len; i++) {
        if (origin_is(origin, allowed->items[i]))
            return true;
    }
    const char *host;
    size_t len;
    return origin_host(origin, &host, &len) && http_server_names_host(server, host, len);
}

bool access_origin(struct gateway *g, const struct http_server *server, struct http_request *r)
{
    const char *origin = http_request_header(r, "Origin");
    if (!origin || origin_good(g, server, origin))
        return true;
    refuse(g, r, 403, "origin",
           "Web pages of this origin may not call the server. Its administrator can allow them: "
           "serve.licenses.allowed_origins.\n");
    return false;
}

bool access_content_type(struct gateway *g, struct http_request *r)
{
    if (content_type_is_json(http_request_header(r, "Content-Type")))
        return true;
    refuse(g, r, 415, "content-type", "Send JSON-RPC with Content-Type: application/json.\n");
    return false;
}

bool access_is_admin(const struct gateway *g, const struct http_request *r)
{
    size_t len;
    // Only the admin listener asks for certificates of serve.admin.client_ca.
    if (g->config->serve.admin.client_ca && http_request_client_cert(r, &len))
        return true;
    return token_matches(&g->admin_token, bearer_token(http_request_header(r, "Authorization")));
}

bool access_may_borrow(const struct gateway *g, const struct http_request *r)
{
    return token_matches(&g->borrow_token, bearer_token(http_request_header(r, "Authorization")));
}
