#include "services/trust/service.h"

#include "common/clock.h"
#include "common/daemon.h"
#include "common/ops.h"
#include "services/trust/dongle.h"
#include "services/trust/message.h"
#include "services/trust/source.h"
#include "services/trust/watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_MS 1000

#define METRIC(id, type, name, labels, help) M_##id,
enum trust_metric {
#include "services/trust/metrics.def"
    M_COUNT
};
#undef METRIC

#define METRIC(id, type, name, labels, help) {type, name, labels, help},
static const struct metric_def metric_defs[] = {
#include "services/trust/metrics.def"
};
#undef METRIC

struct trust {
    struct ops ops;
    struct metrics *metrics;
    struct loop *loop;
    const struct trust_source_def *def;
    struct trust_source *source;
    struct watch *watch;
    struct http_server *listener;
    struct verdict_core core;
    struct loop_timer check_timer, tick_timer;
    bool checking, stopping, clock_warned;
    char last_error[512];

    // What is published; verdict points into this struct.
    Berth__Verdict verdict;
    char state_reason[32], message[1024];
    char revoked[CLOUD_REVOKED_KEYS_MAX][17];
    char *revoked_list[CLOUD_REVOKED_KEYS_MAX];
    char *addon_list[SERVER_LICENSE_ADDONS_MAX];
    ProtobufCBinaryData key_list[SERVER_LICENSE_KEYS_MAX];
};

// ---- the verdict, published ----

static void verdict_fill_license(struct trust *t)
{
    const struct server_license *l = t->def->license(t->source);
    Berth__Verdict *v = &t->verdict;
    berth__verdict__init(v);
    // Another process of trust should not happen to be at the generation that watchers know.
    crypto_random(&v->generation, sizeof v->generation);
    v->generation >>= 2;
    v->reason = t->state_reason;
    v->message = t->message;
    v->state = (Berth__State)0;
    v->variant = (char *)(uintptr_t)l->variant;
    v->server_id = (char *)(uintptr_t)l->server_id;
    for (size_t i = 0; i < l->addons_len; i++)
        t->addon_list[i] = (char *)(uintptr_t)l->addons[i];
    v->n_addons = l->addons_len;
    v->addons = t->addon_list;
    for (size_t i = 0; i < l->license_keys_len; i++)
        t->key_list[i] = (ProtobufCBinaryData){32, (uint8_t *)(uintptr_t)l->license_keys[i]};
    v->n_license_keys = l->license_keys_len;
    v->license_keys = t->key_list;
    v->revoked_key_ids = t->revoked_list;
    v->has_license_until_s = true;
    v->license_until_s = l->not_after.s;
}

static void log_change(const struct trust *t, const struct verdict_view *view)
{
    enum log_level level = view->state == VERDICT_VALID ? LOG_INFO : LOG_WARN;
    log_at(level, "verdict.changed", LOG_S("state", verdict_state_name(view->state)),
           LOG_S("reason", t->state_reason), LOG_S("server_id", t->verdict.server_id),
           LOG_S("msg", t->message));
}

// True if this is another state or reason than what is published.
static bool publish_state(struct trust *t, const struct verdict_view *view)
{
    static const Berth__State states[] = {BERTH__STATE__VALID, BERTH__STATE__GRACE,
                                          BERTH__STATE__INVALID};
    Berth__Verdict *v = &t->verdict;
    v->has_grace_seconds_left = view->state == VERDICT_GRACE;
    v->grace_seconds_left = (uint32_t)(view->grace_left_ms / 1000);
    if (v->state == states[view->state] && strcmp(t->state_reason, view->reason) == 0)
        return false;
    v->state = states[view->state];
    snprintf(t->state_reason, sizeof t->state_reason, "%s", view->reason);
    const struct message_facts facts = {v->server_id, t->def->where(t->source), t->last_error};
    message_write(t->message, sizeof t->message, view, &facts);
    log_change(t, view);
    return true;
}

// HTTP dates are whole seconds: a second more or less is no change.
static bool publish_skew(struct trust *t, const struct verdict_view *view)
{
    Berth__Verdict *v = &t->verdict;
    if (!view->skew_known)
        return false;
    bool warn = llabs(view->skew_s) > VERDICT_SKEW_WARN_S;
    if (warn != t->clock_warned) {
        t->clock_warned = warn;
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

static bool publish_revoked(struct trust *t, const struct trust_result *result)
{
    size_t n = result->revoked_key_ids_len;
    if (result->check != CHECK_OK ||
        (n == t->verdict.n_revoked_key_ids &&
         memcmp(t->revoked, result->revoked_key_ids, n * sizeof *t->revoked) == 0))
        return false;
    memcpy(t->revoked, result->revoked_key_ids, n * sizeof *t->revoked);
    for (size_t i = 0; i < n; i++)
        t->revoked_list[i] = t->revoked[i];
    t->verdict.n_revoked_key_ids = n;
    log_info("verdict.revoked-keys", LOG_I("count", (int64_t)n));
    return true;
}

static struct verdict_view view_now(const struct trust *t)
{
    return verdict_view(&t->core, clock_mono(), clock_wall());
}

static void publish(struct trust *t, bool changed)
{
    struct verdict_view view = view_now(t);
    changed |= publish_state(t, &view);
    changed |= publish_skew(t, &view);
    if (changed) {
        t->verdict.generation++;
        metric_add(t->metrics, M_VERDICT_CHANGES, 1);
        if (t->watch != NULL)
            watch_publish(t->watch, &t->verdict);
    }
    struct mono_time next = mono_after(clock_mono(), TICK_MS);
    if (view.changes_at.ms < next.ms)
        next = view.changes_at;
    if (!t->stopping)
        loop_timer_arm(t->loop, &t->tick_timer, next);
}

// ---- checks ----

static void apply(struct trust *t, const struct trust_result *result)
{
    static const char *const outcomes[] = {"", "ok", "refused", "failed"};
    struct verdict_input in = {.check = result->check,
                               .reason = result->reason,
                               .next_check_s = result->next_check_s,
                               .date_known = result->date_known,
                               .date = result->date};
    crypto_random(&in.random, sizeof in.random);
    verdict_apply(&t->core, &in, clock_mono());
    if (t->def == &trust_source_cloud) {
        metric_add(t->metrics, M_CLOUD_CHECKS, 1, outcomes[result->check]);
        metric_observe_s(metric_histogram(t->metrics, M_CLOUD_CHECK_DURATION),
                         (double)result->took_ms / 1000);
    }
    if (result->check != CHECK_FAILED) {
        t->last_error[0] = '\0';
    } else if (strcmp(t->last_error, result->text) != 0) {
        snprintf(t->last_error, sizeof t->last_error, "%s", result->text);
        log_warn("cloud.check-failed", LOG_S("backend", t->def->where(t->source)),
                 LOG_S("msg", t->last_error));
    }
}

static void on_check_due(void *ctx)
{
    struct trust *t = ctx;
    t->checking = true;
    t->def->check(t->source);
}

static void on_checked(void *ctx, const struct trust_result *result)
{
    struct trust *t = ctx;
    t->checking = false;
    if (t->stopping)
        return;
    apply(t, result);
    loop_timer_arm(t->loop, &t->check_timer, t->core.next_check);
    publish(t, publish_revoked(t, result));
}

static void on_tick(void *ctx)
{
    publish(ctx, false);
}

static void on_stopped(void *ctx)
{
    struct trust *t = ctx;
    daemon_stopped(t->loop);
}

// ---- operations ----

static void collect(void *ctx)
{
    struct trust *t = ctx;
    struct verdict_view view = view_now(t);
    for (enum verdict_state s = VERDICT_VALID; s <= VERDICT_INVALID; s++)
        metric_set(t->metrics, M_VERDICT_STATE, view.state == s, verdict_state_name(s));
    metric_set(t->metrics, M_GRACE_SECONDS_LEFT, (double)view.grace_left_ms / 1000);
    metric_set(t->metrics, M_CLOCK_SKEW, (double)view.skew_s);
    metric_set(t->metrics, M_SERVER_LICENSE_EXPIRY,
               (double)(t->core.config.license_not_after.s - clock_wall().s));
    if (t->def == &trust_source_dongle)
        metric_set(t->metrics, M_DONGLE_PRESENT,
                   strcmp(view.reason, dongle_reason(DONGLE_ABSENT)) != 0);
    metric_set(t->metrics, M_WATCHERS, t->watch != NULL ? (double)watch_waiting(t->watch) : 0);
}

static size_t conditions(void *ctx, struct ops_condition *out, size_t max)
{
    const struct trust *t = ctx;
    if (max == 0)
        return 0;
    // An invalid verdict is an answer too: the process serves, the server does not issue.
    *out = (struct ops_condition){.name = "verdict", .ok = t->core.last != CHECK_NONE};
    if (!out->ok)
        snprintf(out->reason, sizeof out->reason, "the server license has not been checked yet");
    return 1;
}

// ---- life ----

static int64_t grace_ms(const struct trust *t, const struct config *config)
{
    return t->def->lease_ms > 0 ? t->def->lease_ms : config->trust.cloud.grace_ms;
}

static int first_check(struct trust *t, const struct config *config, struct error *err)
{
    const struct server_license *l = t->def->license(t->source);
    const struct verdict_config vc = {.grace_ms = grace_ms(t, config),
                                      .check_interval_ms = config->trust.cloud.check_interval_ms,
                                      .license_not_before = l->not_before,
                                      .license_not_after = l->not_after};
    verdict_init(&t->core, &vc, clock_mono());
    struct trust_result *result = calloc(1, sizeof *result);
    if (result == NULL)
        abort();
    t->def->first(t->source, result);
    apply(t, result);
    struct verdict_view view = view_now(t);
    verdict_fill_license(t);
    publish_revoked(t, result);
    free(result);
    if (view.state == VERDICT_VALID)
        return 0;
    const struct message_facts facts = {l->server_id, t->def->where(t->source), t->last_error};
    char why[1024];
    message_write(why, sizeof why, &view, &facts);
    // At start nothing was ever valid, so there is no grace that could be over.
    if (t->core.last == CHECK_NONE)
        snprintf(why, sizeof why, "the backend %s did not confirm it: %s", facts.where,
                 t->last_error);
    error_set(err, "no valid server license: looked for %s in %s, to be confirmed by %s: %s",
              l->server_id, config->trust.server_license, facts.where, why);
    return DAEMON_EXIT_FAULT;
}

static int serve(struct trust *t, const struct config *config, struct error *err)
{
    const struct rpc_metrics rpc = {
        .frames_sent = metric_cell(t->metrics, M_RPC_FRAMES_SENT),
        .frames_received = metric_cell(t->metrics, M_RPC_FRAMES_RECEIVED),
        .calls = metric_cell(t->metrics, M_RPC_CALLS),
        .errors = metric_cell(t->metrics, M_RPC_ERRORS),
    };
    t->ops = (struct ops){.metrics = t->metrics, .conditions = conditions, .ctx = t};
    metrics_on_collect(t->metrics, collect, t);
    if (config->rpc.trust == NULL)
        return error_set(err, "rpc.trust is not set"), DAEMON_EXIT_CONFIG;
    int r = watch_new(&t->watch, t->loop, config->rpc.trust, &rpc);
    if (r < 0)
        return error_set(err, "rpc.trust: %s: %s", config->rpc.trust, strerror(-r)),
               DAEMON_EXIT_FAULT;
    if (config->ops.trust != NULL &&
        ops_listen(&t->listener, t->loop, config->ops.trust, &t->ops, err) < 0)
        return error_prefix(err, "ops.trust"), DAEMON_EXIT_FAULT;
    publish(t, true);
    loop_timer_arm(t->loop, &t->check_timer, t->core.next_check);
    return 0;
}

int trust_start(struct loop *loop, const struct config *config, void **service, struct error *err)
{
    *service = NULL;
    if (!config->trust.dongle && config->trust.server_license == NULL)
        return error_set(err, "neither trust.server_license is set, the folder with "
                              "server-license.pem and server-license.key, nor trust.dongle"),
               DAEMON_EXIT_CONFIG;
    struct trust *t = calloc(1, sizeof *t);
    if (t == NULL)
        abort();
    t->loop = loop;
    t->def = config->trust.dongle ? &trust_source_dongle : &trust_source_cloud;
    t->metrics = metrics_new(metric_defs, M_COUNT);
    loop_timer_init(&t->check_timer, on_check_due, t);
    loop_timer_init(&t->tick_timer, on_tick, t);
    const struct trust_events events = {on_checked, on_stopped, t};
    int r = t->def->open(&t->source, loop, config, &events, err);
    if (r == 0)
        r = first_check(t, config, err);
    if (r == 0)
        r = serve(t, config, err);
    if (r != 0)
        return trust_free(t), r;
    *service = t;
    return 0;
}

int trust_reload(void *service, const struct config *config, struct error *err)
{
    struct trust *t = service;
    int r = t->def->reload(t->source, config, err);
    if (r < 0)
        return r;
    verdict_configure(&t->core, grace_ms(t, config), config->trust.cloud.check_interval_ms,
                      clock_mono());
    if (!t->checking)
        loop_timer_arm(t->loop, &t->check_timer, t->core.next_check);
    publish(t, false);
    return 0;
}

void trust_stop(void *service)
{
    struct trust *t = service;
    t->stopping = true;
    loop_timer_cancel(t->loop, &t->check_timer);
    loop_timer_cancel(t->loop, &t->tick_timer);
    // Once goodbye is said another host may hold the license: nobody must hear "valid" from here.
    watch_free(&t->watch);
    t->def->stop(t->source);
}

void trust_free(void *service)
{
    struct trust *t = service;
    if (t == NULL)
        return;
    loop_timer_cancel(t->loop, &t->check_timer);
    loop_timer_cancel(t->loop, &t->tick_timer);
    watch_free(&t->watch);
    http_server_free(&t->listener);
    t->def->free(t->source);
    metrics_free(&t->metrics);
    free(t);
}

int trust_health(const struct config *config, bool alive)
{
    return ops_health_check(config->ops.trust, alive);
}

bool trust_ready(void *service)
{
    const struct trust *t = service;
    return t->core.last != CHECK_NONE;
}
