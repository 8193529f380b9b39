#include "services/gateway/health.h"

#include "services/gateway/access.h"
#include "services/gateway/results.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CLOCK_SKEW_SHOWN_S 300

void health_print_protection(struct buf *out, const Berth__Verdict *v)
{
    if (!v) {
        buf_add_str(out, "{\"valid_license\":false,\"state\":\"invalid\",\"variant\":null,"
                         "\"server_id\":null,\"reason\":\"trust unavailable\","
                         "\"grace_seconds_left\":null,\"addons\":null}");
        return;
    }
    bool grace = v->state == BERTH__STATE__GRACE;
    bool valid = v->state == BERTH__STATE__VALID;
    buf_printf(out, "{\"valid_license\":%s,\"state\":\"%s\",\"variant\":",
               valid || grace ? "true" : "false",
               valid   ? "valid"
               : grace ? "grace"
                       : "invalid");
    result_text(out, v->variant);
    buf_add_str(out, ",\"server_id\":");
    result_text(out, v->server_id);
    buf_add_str(out, ",\"reason\":");
    result_text(out, valid ? "" : v->reason);
    if (grace)
        buf_printf(out, ",\"grace_seconds_left\":%" PRIu32,
                   v->has_grace_seconds_left ? v->grace_seconds_left : 0);
    // Only when it is worth a warning, as trust does in its log.
    if (v->has_clock_skew_seconds && llabs(v->clock_skew_seconds) > CLOCK_SKEW_SHOWN_S)
        buf_printf(out, ",\"clock_skew_seconds\":%" PRId64, v->clock_skew_seconds);
    buf_add_str(out, ",\"addons\":[");
    for (size_t i = 0; i < v->n_addons; i++) {
        if (i)
            buf_add_char(out, ',');
        result_text(out, v->addons[i]);
    }
    buf_add_str(out, "]}");
}

void health_protection(struct http_request *r, void *gateway)
{
    struct gateway *g = gateway;
    struct buf body BUF_CLEANUP = {0};
    if (!access_origin(g, g->licenses, r))
        return;
    health_print_protection(&body, verdict_watch_fresh(g->verdict));
    http_respond(r, 200, "application/json", body.data, body.len, NULL);
}

static struct ops_condition condition(const char *name, bool ok, const char *reason)
{
    struct ops_condition c = {.name = name, .ok = ok};
    snprintf(c.reason, sizeof c.reason, "%s", ok ? "" : reason);
    return c;
}

size_t health_conditions(void *gateway, struct ops_condition *out, size_t max)
{
    const struct gateway *g = gateway;
    const struct ops_condition all[] = {
        condition("tls", g->licenses && !g->draining, "the listener for clients is not open"),
        condition("pool", rpc_client_answers(g->peers[PEER_POOL]),
                  rpc_client_connected(g->peers[PEER_POOL]) ? "pool does not answer"
                                                            : "pool is not reached"),
        condition("trust", verdict_watch_fresh(g->verdict) != NULL,
                  "there is no fresh verdict of trust"),
    };
    size_t n = 0;
    for (; n < max && n < sizeof all / sizeof *all; n++)
        out[n] = all[n];
    return n;
}
