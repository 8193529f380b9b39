#include "services/gateway/listeners.h"

#include "common/log.h"
#include "services/gateway/access.h"
#include "services/gateway/exchange.h"
#include "services/gateway/health.h"
#include "services/gateway/ui.h"

#include <sys/resource.h>

#define CONNECTIONS_MAX 20000
#define DESCRIPTORS_SPARE 64 // not for connections
#define ADMIN_CONNECTIONS 256
#define BODY_MAX (64 * 1024)

// ---- routes ----

static void licenses_rpc(struct http_request *r, void *ctx)
{
    struct gateway *g = ctx;
    if (access_origin(g, g->licenses, r) && access_content_type(g, r))
        exchange_start(g, r, &methods_licenses, true);
}

static void admin_rpc(struct http_request *r, void *ctx)
{
    struct gateway *g = ctx;
    if (access_origin(g, g->admin, r) && access_content_type(g, r))
        exchange_start(g, r, &methods_admin, access_is_admin(g, r));
}

static void admin_alive(struct http_request *r, void *ctx)
{
    struct gateway *g = ctx;
    if (access_origin(g, g->admin, r))
        ops_alive(r, ctx);
}

static void admin_ready(struct http_request *r, void *ctx)
{
    struct gateway *g = ctx;
    if (access_origin(g, g->admin, r))
        ops_ready_handler(r, ctx);
}

static void admin_metrics(struct http_request *r, void *ctx)
{
    struct gateway *g = ctx;
    if (access_origin(g, g->admin, r))
        ops_metrics(r, ctx);
}

#define ASSET(path, file) {"GET", path, ui_asset},
static const struct http_route licenses_routes[] = {
    {"POST", "/licenses", licenses_rpc},
    {"GET", "/health/protection", health_protection},
#include "services/gateway/ui/assets.def"
    {"GET", "/ui/limits.json", ui_limits},
    {NULL},
};
#undef ASSET

static const struct http_route admin_routes[] = {
    {"GET", "/health/alive", admin_alive},
    {"GET", "/health/ready", admin_ready},
    {"GET", "/metrics", admin_metrics},
    {"POST", "/admin", admin_rpc},
    {NULL},
};

// ---- opening ----

static struct http_tls licenses_tls(const struct config *config)
{
    const struct config_tls *tls = &config->serve.licenses.tls;
    return (struct http_tls){tls->certificate, tls->key, tls->client_ca, tls->client_ca != NULL};
}

// The client CA is only ever serve.admin.client_ca: a certificate of it gives admin rights, one of
// serve.licenses.tls.client_ca does not.
static struct http_tls admin_tls(const struct config *config)
{
    const struct config_tls *own = &config->serve.admin.tls;
    const struct config_tls *tls = own->certificate ? own : &config->serve.licenses.tls;
    return (struct http_tls){tls->certificate, tls->key, config->serve.admin.client_ca, false};
}

// As many connections as there are descriptors for, after asking for all that we may have.
static unsigned connections_max(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return 512;
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit more = {limit.rlim_max, limit.rlim_max};
        if (!setrlimit(RLIMIT_NOFILE, &more))
            limit = more;
    }
    if (limit.rlim_cur >= CONNECTIONS_MAX + ADMIN_CONNECTIONS + DESCRIPTORS_SPARE)
        return CONNECTIONS_MAX;
    rlim_t taken = ADMIN_CONNECTIONS + DESCRIPTORS_SPARE;
    return limit.rlim_cur > 2 * taken ? (unsigned)(limit.rlim_cur - taken)
                                      : (unsigned)(limit.rlim_cur / 2);
}

static int listen_on(struct gateway *g, struct http_server **out, const char *host, uint16_t port,
                     const struct http_tls *tls, const struct http_route *routes,
                     unsigned connections, struct error *err)
{
    const struct http_server_options options = {
        .host = host,
        .port = port,
        .tls = tls,
        .limits = {.max_body_bytes = BODY_MAX,
                   .connections = connections,
                   .connections_per_address = g->config->limits.connections_per_address,
                   .header_deadline_ms = 10000,
                   .request_deadline_ms = 15000,
                   .idle_ms = 60000},
        .routes = routes,
        .ctx = g,
        .refused = access_refused,
    };
    return http_server_new(out, g->loop, &options, err);
}

int listeners_start(struct gateway *g, struct error *err)
{
    const struct config *c = g->config;
    struct http_tls tls = licenses_tls(c);
    int r = listen_on(g, &g->licenses, c->serve.licenses.host, c->serve.licenses.port, &tls,
                      licenses_routes, connections_max(), err);
    if (r) {
        error_prefix(err, "serve.licenses");
        return r;
    }
    log_info("http.listening", LOG_S("listener", "licenses"), LOG_S("host", c->serve.licenses.host),
             LOG_I("port", http_server_port(g->licenses)));
    if (!c->serve.admin.enabled)
        return 0;
    tls = admin_tls(c);
    r = listen_on(g, &g->admin, c->serve.admin.host, c->serve.admin.port, &tls, admin_routes,
                  ADMIN_CONNECTIONS, err);
    if (r) {
        error_prefix(err, "serve.admin");
        return r;
    }
    log_info("http.listening", LOG_S("listener", "admin"), LOG_S("host", c->serve.admin.host),
             LOG_I("port", http_server_port(g->admin)));
    return 0;
}

static void restore_licenses_tls(struct gateway *g)
{
    struct error err;
    struct http_tls tls = licenses_tls(g->config);
    if (http_server_reload_tls(g->licenses, &tls, &err))
        log_error("tls.not-restored", LOG_S("msg", err.text));
}

int listeners_reload(struct gateway *g, const struct config *config, struct error *err)
{
    unsigned per_address = config->limits.connections_per_address;
    struct http_tls tls = licenses_tls(config);
    int r = http_server_reload_tls(g->licenses, &tls, err);
    if (!r && g->admin) {
        tls = admin_tls(config);
        r = http_server_reload_tls(g->admin, &tls, err);
        if (r)
            restore_licenses_tls(g);
    }
    if (r)
        return r;
    http_server_limit_address(g->licenses, per_address);
    if (g->admin)
        http_server_limit_address(g->admin, per_address);
    return 0;
}
