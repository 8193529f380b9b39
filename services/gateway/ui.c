#include "services/gateway/ui.h"

#include "common/clock.h"
#include "services/gateway/access.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// Everything comes from here and nothing is inline; and as no script may turn text into markup,
// names that contain markup stay text.
static const struct http_header page_headers[] = {
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
     "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
     "require-trusted-types-for 'script'; trusted-types 'none'"},
    {"X-Frame-Options", "DENY"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {NULL, NULL},
};

void ui_asset(struct http_request *r, void *gateway)
{
    struct gateway *g = gateway;
    const struct ui_asset *asset = ui_assets;
    if (!access_origin(g, g->licenses, r))
        return;
    while (asset->path && strcmp(asset->path, http_request_path(r)) != 0)
        asset++;
    if (!asset->path)
        abort(); // the route and this table are made from the same rows
    http_respond(r, 200, asset->type, (const char *)asset->data, asset->len, page_headers);
}

void ui_limits(struct http_request *r, void *gateway)
{
    struct gateway *g = gateway;
    struct buf body BUF_CLEANUP = {0};
    char now[32];
    if (!access_origin(g, g->licenses, r))
        return;
    // Whole seconds, rounded down: never more than the borrow service allows.
    buf_printf(&body,
               "{\"maxPeriodSeconds\":%" PRId64 ",\"maxAheadSeconds\":%" PRId64
               ",\"tokenNeeded\":%s,\"now\":\"%s\"}",
               g->config->borrow.max_period_ms / 1000, g->config->borrow.max_ahead_ms / 1000,
               g->config->borrow.open ? "false" : "true", wall_format(clock_wall(), now));
    http_respond(r, 200, "application/json", body.data, body.len, NULL);
}
