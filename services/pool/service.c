#include "services/pool/service.h"

#include "common/daemon.h"
#include "common/log.h"
#include "common/vendor_ca.h"
#include "services/pool/internal.h"

#include <stdlib.h>
#include <string.h>

#define TICK_BUDGET 2000 // sessions looked at before calls are served again
#define PROLONG_MS 400   // less than the shortest interval

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

// ---- expiry ----

static void arm_tick(struct pool_service *s)
{
    if (!s->open)
        return; // the timer prolongs: tick()
    struct mono_time next = pool_next_event(s->pool, service_now(s));
    if (next.ms == MONO_NEVER.ms)
        loop_timer_cancel(s->loop, &s->tick);
    else if (!s->tick.heap_index || next.ms != s->tick.when.ms)
        loop_timer_arm(s->loop, &s->tick, next);
}

static void tick(void *ctx)
{
    struct pool_service *s = ctx;
    if (!s->open) { // nobody can be served yet, so nobody can be late
        pool_prolong_all(s->pool, service_now(s));
        loop_timer_arm(s->loop, &s->tick, mono_after(loop_now(s->loop), PROLONG_MS));
        return;
    }
    bool more = pool_tick(s->pool, service_now(s), TICK_BUDGET);
    (void)journal_flush(s->journal);
    if (more) {
        loop_timer_arm(s->loop, &s->tick, mono_after(loop_now(s->loop), 1));
        return;
    }
    arm_tick(s);
    // An event of this very millisecond must not keep the loop from its other work.
    if (s->tick.heap_index && s->tick.when.ms <= loop_now(s->loop).ms)
        loop_timer_arm(s->loop, &s->tick, mono_after(loop_now(s->loop), 1));
}

// What a turn of the loop changed is on disk before anybody hears of it.
static void batch_end(void *ctx)
{
    struct pool_service *s = ctx;
    bool written = journal_flush(s->journal) == 0;
    if (s->granted_len)
        requests_answer(s, written);
    arm_tick(s); // a new session may be due before what the timer waits for
}

// ---- sessions that may be missing, or cannot be written ----

static void hold(struct pool_service *s)
{
    pool_hold(s->pool, s->unwritable ? MONO_NEVER : s->held_until);
}

static void settled(void *ctx)
{
    struct pool_service *s = ctx;
    journal_settle(s->journal);
    log_info("sessions.settled", LOG_S("msg", "seats are given out again"));
}

static void journal_changed(void *ctx, bool usable)
{
    struct pool_service *s = ctx;
    s->unwritable = !usable;
    hold(s);
}

// From now on clients are served: intervals begin.
static void open_once(struct pool_service *s)
{
    if (s->open || !s->loaded || !s->borrows_known)
        return;
    s->open = true;
    pool_prolong_all(s->pool, service_now(s));
    if (!journal_is_doubtful(s->journal))
        return;
    s->held_until = mono_after(loop_now(s->loop), s->settings.revalidation_interval_ms);
    hold(s);
    loop_timer_arm(s->loop, &s->settle, s->held_until);
}

void borrows_known(struct pool_service *s)
{
    s->borrows_known = true;
    open_once(s);
}

// Calls are taken from the moment on when they can be answered: who is connected to pool may rely
// on its licenses being there.
static void listen_once(struct pool_service *s)
{
    if (s->server)
        return;
    int r = rpc_server_new(&s->server, s->loop, s->rpc_url, &s->rpc.base, &s->rpc_metrics);
    if (r < 0) {
        struct error err;
        error_set(&err, "rpc.pool: %s: %s", s->rpc_url, strerror(-r));
        daemon_fail(s->loop, DAEMON_EXIT_FAULT, err.text);
        return;
    }
    rpc_server_set_batch_end(s->server, batch_end, s);
}

// ---- license files ----

static void files_changed(void *ctx, const struct scan *scan)
{
    struct pool_service *s = ctx;
    struct wall_time issued = WALL_MIN;
    size_t max = 0, len = 0;
    for (size_t i = 0; i < scan->files_len; i++)
        max += scan->files[i].set ? scan->files[i].set->records_len : 0;
    struct pool_record *records = must(calloc(max + 1, sizeof *records));
    license_texts_clear(s);
    s->texts = must(calloc(max + 1, sizeof *s->texts));
    memset(s->refused, 0, sizeof s->refused);
    for (size_t i = 0; i < scan->files_len; i++) {
        struct license_set *set = scan->files[i].set;
        for (size_t j = 0; set && j < set->records_len; j++) {
            const struct license_record *r = &set->records[j];
            s->refused[r->refusal]++;
            if (r->refusal && r->refusal != LICENSE_SERVER_ID)
                continue;
            if (!r->refusal && r->fields.issued.s > issued.s)
                issued = r->fields.issued;
            s->texts[len] = (struct license_text){license_set_share(set), r};
            records[len] = (struct pool_record){.fields = &r->fields,
                                                .signature = r->signature,
                                                .tag = (uint32_t)len,
                                                .foreign = r->refusal == LICENSE_SERVER_ID};
            len++;
        }
    }
    s->texts_len = len;
    if (issued.s != WALL_MIN.s)
        verdict_watch_set_issued(s->verdict, issued);
    pool_load(s->pool, records, len, service_now(s));
    free(records);
    for (int i = LICENSE_OK + 1; i < LICENSE_REFUSALS; i++)
        metric_add(s->metrics, M_LICENSE_REFUSALS, scan->refusals[i],
                   license_refusal_name((enum license_refusal)i));
    s->loaded = true;
    open_once(s);
    report_catalog(s);
    arm_tick(s);
    listen_once(s);
}

// Everything that decides which license files are believed, in one digest.
static void keys_digest(const Berth__Verdict *v, uint8_t out[static 32])
{
    BUF_CLEANUP struct buf b = {0};
    buf_printf(&b, "%s\n%zu\n", v->server_id, v->n_license_keys);
    for (size_t i = 0; i < v->n_license_keys; i++)
        buf_add(&b, v->license_keys[i].data, v->license_keys[i].len);
    for (size_t i = 0; i < v->n_revoked_key_ids; i++)
        buf_printf(&b, "\n%s", v->revoked_key_ids[i]);
    crypto_sha256(b.data, b.len, out);
}

// The last verdict's keys are kept when it goes stale: listing goes on, only issuing stops.
static void verdict_changed(void *ctx)
{
    struct pool_service *s = ctx;
    const Berth__Verdict *v = verdict_watch_last(s->verdict);
    if (!v)
        return;
    grantor_wake(s->grantor, v->server_id);
    uint8_t digest[32];
    keys_digest(v, digest);
    if (!memcmp(digest, s->keys_digest, sizeof digest))
        return;
    memcpy(s->keys_digest, digest, sizeof digest);
    uint8_t(*trusted)[ED25519_PUBLIC_BYTES] = must(calloc(v->n_license_keys + 1, sizeof *trusted));
    size_t len = 0;
    for (size_t i = 0; i < v->n_license_keys; i++) {
        if (v->license_keys[i].len == ED25519_PUBLIC_BYTES)
            memcpy(trusted[len++], v->license_keys[i].data, ED25519_PUBLIC_BYTES);
    }
    const struct license_keys keys = {
        .trusted = (const uint8_t(*)[ED25519_PUBLIC_BYTES])trusted,
        .trusted_len = len,
        .revoked = (const char *const *)v->revoked_key_ids,
        .revoked_len = v->n_revoked_key_ids,
        .server_id = v->server_id,
    };
    watcher_set_keys(s->watcher, &keys);
    free(trusted);
}

// ---- life ----

// Without the vendor's CA only certificates inside license files lose their meaning, so its absence
// (in a container that need not have it) is no fault.
static int load_vendor_ca(struct pool_service *s, const struct config *config, struct error *err)
{
    const char *pem = vendor_ca_compiled_in;
    if (pem)
        return crypto_ca_load_pem(&s->vendor_ca, pem, strlen(pem), err);
    if (!config->trust.vendor_ca)
        return 0;
    struct error why = {{0}};
    if (crypto_ca_load_file(&s->vendor_ca, config->trust.vendor_ca, &why))
        log_warn("vendor_ca.unreadable", LOG_S("file", config->trust.vendor_ca),
                 LOG_S("msg", "license-key certificates in license files will not be trusted"),
                 LOG_S("error", why.text));
    return 0;
}

static struct pool_settings settings_of(const struct config *config)
{
    return (struct pool_settings){
        .revalidation_interval_ms = config->sessions.revalidation_interval_ms,
        .max_per_client = config->sessions.max_per_client,
    };
}

static int restore(struct pool_service *s, const struct config *config, struct error *err)
{
    const struct journal_options options = {
        .loop = s->loop,
        .pool = s->pool,
        .folder = config->sessions.state_dir,
        .interval_s = s->settings.revalidation_interval_ms / 1000,
        .changed = journal_changed,
        .ctx = s,
    };
    const struct pool_now now = {clock_wall(), clock_mono()}; // the loop does not run yet
    if (journal_open(&s->journal, &options, now, err))
        return DAEMON_EXIT_CONFIG;
    loop_timer_arm(s->loop, &s->tick, now.mono);
    return 0;
}

static int serve(struct pool_service *s, const struct config *config, struct error *err)
{
    const struct rpc_metrics rpc = {
        .frames_sent = metric_cell(s->metrics, M_RPC_FRAMES_SENT),
        .frames_received = metric_cell(s->metrics, M_RPC_FRAMES_RECEIVED),
        .calls = metric_cell(s->metrics, M_RPC_CALLS),
        .errors = metric_cell(s->metrics, M_RPC_ERRORS),
        .reconnects = metric_cell(s->metrics, M_RPC_RECONNECTS),
    };
    if (!config->rpc.pool || !config->rpc.trust)
        return error_set(err, "rpc.pool and rpc.trust must be set"), DAEMON_EXIT_CONFIG;
    if (load_vendor_ca(s, config, err) < 0)
        return DAEMON_EXIT_CONFIG;
    int r = watcher_new(&s->watcher, s->loop, config->licenses.search_paths.items,
                        config->licenses.search_paths.len, s->vendor_ca, files_changed, s);
    if (r < 0)
        return error_set(err, "licenses.search_paths: %s", strerror(-r)), DAEMON_EXIT_FAULT;
    r = verdict_watch_new(&s->verdict, s->loop, config->rpc.trust, BERTH__ROLE__POOL, &rpc,
                          verdict_changed, s);
    if (r < 0)
        return error_set(err, "rpc.trust: %s: %s", config->rpc.trust, strerror(-r)),
               DAEMON_EXIT_FAULT;
    r = grantor_new(&s->grantor, s->loop, config->rpc.trust, &rpc);
    if (r < 0)
        return error_set(err, "rpc.trust: %s: %s", config->rpc.trust, strerror(-r)),
               DAEMON_EXIT_FAULT;
    handlers_init(s);
    s->rpc_metrics = rpc;
    s->rpc_url = must(strdup(config->rpc.pool));
    s->ops = (struct ops){.metrics = s->metrics, .conditions = report_conditions, .ctx = s};
    metrics_on_collect(s->metrics, report_collect, s);
    if (config->ops.pool && ops_listen(&s->listener, s->loop, config->ops.pool, &s->ops, err) < 0)
        return error_prefix(err, "ops.pool"), DAEMON_EXIT_FAULT;
    return 0;
}

int pool_service_start(struct loop *loop, const struct config *config, void **service,
                       struct error *err)
{
    struct pool_service *s = must(calloc(1, sizeof *s));
    s->loop = loop;
    s->metrics = metrics_new(pool_metric_defs, M_COUNT);
    loop_timer_init(&s->tick, tick, s);
    loop_timer_init(&s->settle, settled, s);
    uint8_t key[16];
    crypto_random(key, sizeof key);
    s->settings = settings_of(config);
    s->pool = pool_new(&s->settings, key);
    int r = restore(s, config, err);
    if (!r)
        r = serve(s, config, err);
    if (r) {
        pool_service_free(s);
        return r;
    }
    *service = s;
    return 0;
}

int pool_service_reload(void *service, const struct config *config, struct error *err)
{
    struct pool_service *s = service;
    (void)err;
    s->settings = settings_of(config);
    pool_set_settings(s->pool, &s->settings);
    arm_tick(s);
    return 0;
}

void pool_service_free(void *service)
{
    struct pool_service *s = service;
    if (!s)
        return;
    loop_timer_cancel(s->loop, &s->tick);
    loop_timer_cancel(s->loop, &s->settle);
    http_server_free(&s->listener);
    rpc_server_free(&s->server);
    verdict_watch_free(&s->verdict);
    grantor_free(&s->grantor);
    watcher_free(&s->watcher);
    crypto_ca_free(&s->vendor_ca);
    journal_free(&s->journal);
    borrows_fini(s);
    pool_free(&s->pool);
    metrics_free(&s->metrics);
    free(s->rpc_url);
    free(s->granted);
    free(s);
}

int pool_service_health(const struct config *config, bool alive)
{
    return ops_health_check(config->ops.pool, alive);
}

bool pool_service_ready(void *service)
{
    const struct pool_service *s = service;
    return ops_ready(&s->ops);
}
