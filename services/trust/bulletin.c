#include "services/trust/bulletin.h"

#include "common/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *text(const char *s)
{
    return (char *)(uintptr_t)s; // protobuf-c has no const
}

void bulletin_license(struct bulletin *b, const struct server_license *license)
{
    Berth__Verdict *v = &b->verdict;
    v->variant = text(license->variant);
    v->server_id = text(license->server_id);
    for (size_t i = 0; i < license->addons_len; i++)
        b->addon_list[i] = text(license->addons[i]);
    v->n_addons = license->addons_len;
    v->addons = b->addon_list;
    for (size_t i = 0; i < license->license_keys_len; i++)
        b->key_list[i] = (ProtobufCBinaryData){32, (uint8_t *)(uintptr_t)license->license_keys[i]};
    v->n_license_keys = license->license_keys_len;
    v->license_keys = b->key_list;
    v->has_license_until_s = true;
    v->license_until_s = license->not_after.s;
}

void bulletin_init(struct bulletin *b, const struct server_license *license)
{
    Berth__Verdict *v = &b->verdict;
    berth__verdict__init(v);
    // Another process of trust should not happen to be at the generation that watchers know.
    crypto_random(&v->generation, sizeof v->generation);
    v->generation >>= 2;
    v->reason = b->reason;
    v->message = b->message;
    v->state = (Berth__State)0;
    v->revoked_key_ids = b->revoked_list;
    bulletin_license(b, license);
}

static void log_change(const struct bulletin *b, const struct verdict_view *view)
{
    enum log_level level = view->state == VERDICT_VALID ? LOG_INFO : LOG_WARN;
    log_at(level, "verdict.changed", LOG_S("state", verdict_state_name(view->state)),
           LOG_S("reason", b->reason), LOG_S("server_id", b->verdict.server_id),
           LOG_S("msg", b->message));
}

bool bulletin_state(struct bulletin *b, const struct verdict_view *view, const char *where,
                    const char *last_error)
{
    static const Berth__State states[] = {BERTH__STATE__VALID, BERTH__STATE__GRACE,
                                          BERTH__STATE__INVALID};
    Berth__Verdict *v = &b->verdict;
    v->has_grace_seconds_left = view->state == VERDICT_GRACE;
    v->grace_seconds_left = (uint32_t)(view->grace_left_ms / 1000);
    if (v->state == states[view->state] && strcmp(b->reason, view->reason) == 0)
        return false;
    v->state = states[view->state];
    snprintf(b->reason, sizeof b->reason, "%s", view->reason);
    const struct message_facts facts = {v->server_id, where, last_error};
    message_write(b->message, sizeof b->message, view, &facts);
    log_change(b, view);
    return true;
}

// HTTP dates are whole seconds: a second more or less is no change.
bool bulletin_skew(struct bulletin *b, const struct verdict_view *view)
{
    Berth__Verdict *v = &b->verdict;
    if (!view->skew_known)
        return false;
    bool warn = llabs(view->skew_s) > VERDICT_SKEW_WARN_S;
    if (warn != b->clock_warned) {
        b->clock_warned = warn;
        log_at(
            warn ? LOG_WARN : LOG_INFO, warn ? "clock.skew" : "clock.right",
            LOG_I("seconds", view->skew_s),
            LOG_S("msg", warn ? "this host's clock and the backend's are more than 5 minutes apart"
                              : "this host's clock and the backend's agree again"));
    }
    if (v->has_clock_skew_seconds && llabs(v->clock_skew_seconds - view->skew_s) < 2)
        return false;
    v->has_clock_skew_seconds = true;
    v->clock_skew_seconds = view->skew_s;
    return true;
}

bool bulletin_revoked(struct bulletin *b, const struct trust_result *result)
{
    size_t n = result->revoked_key_ids_len;
    if (result->check != CHECK_OK ||
        (n == b->verdict.n_revoked_key_ids &&
         memcmp(b->revoked, result->revoked_key_ids, n * sizeof *b->revoked) == 0))
        return false;
    memcpy(b->revoked, result->revoked_key_ids, n * sizeof *b->revoked);
    for (size_t i = 0; i < n; i++)
        b->revoked_list[i] = b->revoked[i];
    b->verdict.n_revoked_key_ids = n;
    log_info("verdict.revoked-keys", LOG_I("count", (int64_t)n));
    return true;
}

bool bulletin_may_issue(const struct bulletin *b)
{
    return b->verdict.state == BERTH__STATE__VALID || b->verdict.state == BERTH__STATE__GRACE;
}

bool bulletin_has_addon(const struct bulletin *b, const char *addon)
{
    for (size_t i = 0; i < b->verdict.n_addons; i++) {
        if (strcmp(b->verdict.addons[i], addon) == 0)
            return true;
    }
    return false;
}
