#include "services/trust/service.h"

#include "common/clock.h"
#include "common/daemon.h"
#include "common/ops.h"
#include "services/trust/bulletin.h"
#include "services/trust/dongle.h"
#include "services/trust/endpoint.h"
#include "services/trust/timekeeper.h"

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
    struct head *head;
    struct signer signer;
    struct endpoint *endpoint;
    struct http_server *listener;
    struct verdict_core core;
    struct timekeeper timekeeper;
    struct bulletin bulletin;
    struct loop_timer check_timer, tick_timer;
    bool checking, stopping;
    char last_error[512];
};

// ---- the verdict, published ----

static struct verdict_view view_now(struct trust *t)
{
    timekeeper_tick(&t->timekeeper);
    verdict_mark(&t->core, t->timekeeper.mark.at);
    return verdict_view(&t->core, clock_mono(), clock_wall());
}

static void publish(struct trust *t, bool changed)
{
    struct verdict_view view = view_now(t);
    changed |= bulletin_state(&t->bulletin, &view, t->def->where(t->source), t->last_error);
    changed |= bulletin_skew(&t->bulletin, &view);
    if (changed) {
        t->bulletin.verdict.generation++;
        metric_add(t->metrics, M_VERDICT_CHANGES, 1);
        watch_publish(t->watch, &t->bulletin.verdict);
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
    loop_timer_cancel(t->loop, &t->check_timer);
    t->checking = true;
    t->def->check(t->source, head_presented(t->head));
}

// Somebody waits for the backend to hear of a ledger.
static void on_check_wanted(void *ctx)
{
    struct trust *t = ctx;
    if (!t->checking && !t->stopping)
        on_check_due(t);
}

static void on_checked(void *ctx, const struct trust_result *result)
{
    struct trust *t = ctx;
    t->checking = false;
    if (t->stopping)
        return;
    apply(t, result);
    publish(t, bulletin_revoked(&t->bulletin, result));
    head_checked(t->head, result);
    if (head_waits(t->head))
        on_check_due(t);
    else
        loop_timer_arm(t->loop, &t->check_timer, t->core.next_check);
}

static void on_tick(void *ctx)
{
    publish(ctx, false);
}

static void on_renewed(void *ctx)
{
    struct trust *t = ctx;
    char until[32];
    const struct server_license *l = t->def->license(t->source);
    verdict_license(&t->core, l->not_before, l->not_after);
    timekeeper_issued(&t->timekeeper, l->not_before);
    bulletin_license(&t->bulletin, l);
    log_info("license.renewed", LOG_S("server_id", l->server_id),
             LOG_S("until", wall_format(l->not_after, until)));
    publish(t, true);
    // A backend that called the old one expired says something else now.
    on_check_wanted(t);
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
    metric_clear(t->metrics, M_DONGLE_PRESENT); // its 0 would mean that one is missing
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
                                      .lapse_reason = t->def->lapse_reason,
                                      .license_not_before = l->not_before,
                                      .license_not_after = l->not_after};
    verdict_init(&t->core, &vc, clock_mono());
    timekeeper_init(&t->timekeeper, config->trust.state_dir, l->not_before);
    struct trust_result *result = calloc(1, sizeof *result);
    if (result == NULL)
        abort();
    t->def->first(t->source, result);
    apply(t, result);
    struct verdict_view view = view_now(t);
    bulletin_init(&t->bulletin, l);
    bulletin_revoked(&t->bulletin, result);
    head_new(&t->head, t->loop, &t->bulletin, on_check_wanted, t);
    head_checked(t->head, result);
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
              l->server_id,
              config->trust.dongle ? "a dongle (trust.dongle)" : config->trust.server_license,
              facts.where, why);
    return DAEMON_EXIT_FAULT;
}

static void on_refused(void *ctx, const char *method)
{
    struct trust *t = ctx;
    metric_add(t->metrics, M_REFUSED_CALLS, 1, method);
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
    watch_new(&t->watch, t->loop);
    publish(t, true);
    t->signer = (struct signer){t->def, t->source, &t->bulletin};
    const struct endpoint_parts parts = {t->watch, t->head, &t->signer, &t->timekeeper};
    int r = endpoint_new(&t->endpoint, t->loop, config->rpc.trust, &parts, &rpc, on_refused, t);
    if (r < 0)
        return error_set(err, "rpc.trust: %s: %s", config->rpc.trust, strerror(-r)),
               DAEMON_EXIT_FAULT;
    if (config->ops.trust != NULL &&
        ops_listen(&t->listener, t->loop, config->ops.trust, &t->ops, err) < 0)
        return error_prefix(err, "ops.trust"), DAEMON_EXIT_FAULT;
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
    if (!crypto_secrets_lock())
        log_warn("trust.memory-not-locked",
                 LOG_S("msg", "its key may be swapped out: allow 64 KiB of locked memory"));
    struct trust *t = calloc(1, sizeof *t);
    if (t == NULL)
        abort();
    t->loop = loop;
    t->def = config->trust.dongle ? &trust_source_dongle : &trust_source_cloud;
    t->metrics = metrics_new(metric_defs, M_COUNT);
    loop_timer_init(&t->check_timer, on_check_due, t);
    loop_timer_init(&t->tick_timer, on_tick, t);
    const struct trust_events events = {on_checked, on_renewed, on_stopped, t};
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

static void close_calls(struct trust *t)
{
    watch_free(&t->watch);
    head_free(&t->head);
    endpoint_free(&t->endpoint);
}

void trust_stop(void *service)
{
    struct trust *t = service;
    t->stopping = true;
    loop_timer_cancel(t->loop, &t->check_timer);
    loop_timer_cancel(t->loop, &t->tick_timer);
    // Once goodbye is said another host may hold the license: nobody must hear "valid" from here,
    // nor get a signature.
    close_calls(t);
    t->def->stop(t->source);
}

void trust_free(void *service)
{
    struct trust *t = service;
    if (t == NULL)
        return;
    loop_timer_cancel(t->loop, &t->check_timer);
    loop_timer_cancel(t->loop, &t->tick_timer);
    close_calls(t);
    http_server_free(&t->listener);
    t->def->free(t->source);
    timekeeper_fini(&t->timekeeper);
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
