// The Cloud-Ready source: asks the vendor's backend over mutual TLS. Requests block, so they run
// on a thread of their own; the loop never waits for them.
#include "common/clock.h"
#include "common/daemon.h"
#include "common/https.h"
#include "common/log.h"
#include "services/trust/cloud_request.h"
#include "services/trust/place.h"
#include "services/trust/server.h"
#include "services/trust/source.h"
#include "services/trust/token_store.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_TIMEOUT_MS 10000
#define GOODBYE_TIMEOUT_MS 2000
#define LOOK_MS 2000 // at the files of the server license

enum job { JOB_NONE, JOB_CHECK, JOB_STOP, JOB_QUIT };

struct trust_source {
    struct loop *loop;
    struct trust_events events;
    struct server_files files;
    char *vendor_pem;
    struct token_store *tokens;
    struct place place;
    struct mono_time started;
    char *license_dir, server_id[65];
    struct server_stamp seen; // at the last look
    struct loop_timer look_timer;

    pthread_t thread;
    bool thread_runs;
    atomic_bool cancel;    // ends the request under way
    pthread_mutex_t mutex; // guards job, proxy, base_url and the handles in files
    pthread_cond_t wake;
    enum job job;
    char *proxy; // NULL: the environment's
    char base_url[512];
    struct trust_ledger ledger; // the worker's while a check runs, else the loop's; as is
    struct trust_result result;
    struct loop_post checked, stopped;
};

// What libcurl or a peer wrote ends up in logs and JSON: keep it plain.
static void text_set(struct trust_result *out, const char *prefix, const char *text)
{
    snprintf(out->text, sizeof out->text, "%s%s", prefix, text);
    for (char *p = out->text; *p != '\0'; p++) {
        if (*p < ' ' || *p > '~')
            *p = '?';
    }
}

static int post(struct trust_source *s, const char *path, const struct buf *body,
                int64_t timeout_ms, const atomic_bool *cancel, struct https_answer *answer,
                struct error *err)
{
    char url[600];
    pthread_mutex_lock(&s->mutex);
    snprintf(url, sizeof url, "%s%s", s->base_url, path);
    char *proxy = s->proxy != NULL ? strdup(s->proxy) : NULL;
    struct crypto_cert *cert = crypto_cert_hold(s->files.cert);
    struct crypto_key *key = crypto_key_hold(s->files.key);
    pthread_mutex_unlock(&s->mutex);
    const char *const headers[] = {"Content-Type: application/json", "Accept: application/json",
                                   NULL};
    struct https_request request = {
        .url = url,
        .method = "POST",
        .body = body->data,
        .body_len = body->len,
        .headers = headers,
        .ca_pem = s->vendor_pem,
        .cert = cert,
        .key = key,
        .tolerate_clock = true,
        .proxy = proxy,
        .timeout_ms = timeout_ms,
        .max_answer_bytes = CLOUD_ANSWER_BYTES_MAX,
        .cancel = cancel,
    };
    int r = https_perform(&request, answer, err);
    crypto_cert_free(&cert);
    crypto_key_free(&key);
    free(proxy);
    return r;
}

static void request_body(const struct trust_source *s, struct buf *out)
{
    struct mono_time now = clock_mono();
    const struct cloud_request request = {.server_id = s->server_id,
                                          .token = token_store_get(s->tokens),
                                          .uptime_s = (now.ms - s->started.ms) / 1000,
                                          .ledger = &s->ledger,
                                          .place = &s->place,
                                          .boot_age_s = now.ms / 1000};
    cloud_request_write(out, &request);
}

static void answer_read(struct trust_source *s, const struct https_answer *http,
                        struct trust_result *out)
{
    struct error err = {""};
    struct cloud_answer answer;
    char status[64];
    out->check = CHECK_FAILED;
    if (http->status != 200) {
        snprintf(status, sizeof status, "the backend answered HTTP status %d", http->status);
        return text_set(out, status, "");
    }
    if (cloud_answer_parse(&answer, http->body.data, http->body.len, &err) < 0)
        return text_set(out, "the backend's answer is not as it must be: ", err.text);
    // A token that is lost in a crash may lock us out for ten minutes: on disk first.
    if (answer.ok && token_store_set(s->tokens, answer.token, &err) < 0)
        return text_set(out, "", err.text);
    out->check = answer.ok ? CHECK_OK : CHECK_REFUSED;
    out->reason = answer.reason;
    out->next_check_s = answer.next_check_s;
    out->date_known = http->date_s > 0;
    out->date = (struct wall_time){http->date_s};
    out->ledger = answer.ledger;
    memcpy(out->revoked_key_ids, answer.revoked_key_ids, sizeof out->revoked_key_ids);
    out->revoked_key_ids_len = answer.revoked_key_ids_len;
}

static void check_perform(struct trust_source *s, struct trust_result *out)
{
    memset(out, 0, sizeof *out);
    out->check = CHECK_FAILED;
    out->reason = "";
    struct buf body BUF_CLEANUP = {0};
    struct https_answer answer;
    struct error err = {""};
    request_body(s, &body);
    struct mono_time before = clock_mono();
    int r = post(s, "/v1/validate", &body, CHECK_TIMEOUT_MS, &s->cancel, &answer, &err);
    out->took_ms = clock_mono().ms - before.ms;
    if (r < 0)
        return text_set(out, "", err.text);
    answer_read(s, &answer, out);
    https_answer_fini(&answer);
}

static void goodbye(struct trust_source *s)
{
    struct buf body BUF_CLEANUP = {0};
    struct https_answer answer;
    struct error err = {""};
    request_body(s, &body);
    int r = post(s, "/v1/goodbye", &body, GOODBYE_TIMEOUT_MS, NULL, &answer, &err);
    if (r < 0)
        log_info("cloud.goodbye-failed", LOG_S("msg", err.text));
    else
        https_answer_fini(&answer);
}

static void *worker(void *ctx)
{
    struct trust_source *s = ctx;
    for (;;) {
        pthread_mutex_lock(&s->mutex);
        while (s->job == JOB_NONE)
            pthread_cond_wait(&s->wake, &s->mutex);
        enum job job = s->job;
        s->job = JOB_NONE;
        pthread_mutex_unlock(&s->mutex);
        if (job == JOB_QUIT)
            return NULL;
        if (job == JOB_CHECK) {
            check_perform(s, &s->result);
            loop_post(s->loop, &s->checked);
        } else {
            goodbye(s);
            loop_post(s->loop, &s->stopped);
        }
    }
}

static void job_give(struct trust_source *s, enum job job)
{
    pthread_mutex_lock(&s->mutex);
    s->job = job;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->mutex);
}

static void on_checked(void *ctx)
{
    struct trust_source *s = ctx;
    s->events.checked(s->events.ctx, &s->result);
}

static void on_stopped(void *ctx)
{
    struct trust_source *s = ctx;
    s->events.stopped(s->events.ctx);
}

static void cloud_free(struct trust_source *s)
{
    if (s == NULL)
        return;
    if (s->thread_runs) {
        atomic_store(&s->cancel, true);
        job_give(s, JOB_QUIT);
        pthread_join(s->thread, NULL);
    }
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->mutex);
    loop_timer_cancel(s->loop, &s->look_timer);
    token_store_free(&s->tokens);
    free(s->license_dir);
    server_files_fini(&s->files);
    free(s->vendor_pem);
    free(s->proxy);
    free(s);
}

static void url_set(struct trust_source *s)
{
    const char *url = s->files.license.cloud_url;
    size_t len = strlen(url);
    while (len > 0 && url[len - 1] == '/')
        len--;
    snprintf(s->base_url, sizeof s->base_url, "%.*s", (int)len, url);
}

// ---- a renewed server license ----

// Takes over what is in the files now. 0 or negative: everything stays as it was.
static int renew(struct trust_source *s, struct error *err)
{
    struct crypto_ca *ca = NULL;
    struct server_files fresh;
    int r = crypto_ca_load_pem(&ca, s->vendor_pem, strlen(s->vendor_pem), err);
    if (r == 0)
        r = server_files_load(&fresh, s->license_dir, ca, clock_wall(), err);
    crypto_ca_free(&ca);
    if (r < 0)
        return r;
    if (strcmp(fresh.license.server_id, s->server_id) != 0) {
        error_set(err,
                  "%s: this is the server license %s, and this server is %s: to use it, restart "
                  "the server",
                  fresh.cert_path, fresh.license.server_id, s->server_id);
        server_files_fini(&fresh);
        return -EINVAL;
    }
    bool news = strcmp(fresh.pem, s->files.pem) != 0;
    pthread_mutex_lock(&s->mutex);
    struct server_files old = s->files;
    s->files = fresh;
    url_set(s);
    pthread_mutex_unlock(&s->mutex);
    server_files_fini(&old);
    if (news)
        s->events.renewed(s->events.ctx);
    return 0;
}

// Once the files have been the same for two looks, so that the pair is not read half way.
static void on_look(void *ctx)
{
    struct trust_source *s = ctx;
    struct server_stamp now;
    struct error err = {""};
    loop_timer_arm(s->loop, &s->look_timer, mono_after(clock_mono(), LOOK_MS));
    bool changed = server_files_changed(&s->files, &now);
    bool settled = memcmp(&now, &s->seen, sizeof now) == 0;
    s->seen = now;
    if (!changed || !settled)
        return;
    if (renew(s, &err) < 0) {
        s->files.stamp = now; // what is refused once is not tried again until it changes
        log_warn("license.not-renewed", LOG_S("msg", err.text));
    }
}

static int load(struct trust_source *s, const struct config *config, struct error *err)
{
    struct crypto_ca *ca = NULL;
    if (server_vendor_ca(&ca, &s->vendor_pem, config->trust.vendor_ca, err) < 0)
        return DAEMON_EXIT_CONFIG;
    int r = server_files_load(&s->files, config->trust.server_license, ca, clock_wall(), err);
    crypto_ca_free(&ca);
    if (r < 0) {
        error_prefix(err, "no valid server license in the folder %s (trust.server_license)",
                     config->trust.server_license);
        return DAEMON_EXIT_FAULT;
    }
    s->seen = s->files.stamp;
    url_set(s);
    snprintf(s->server_id, sizeof s->server_id, "%s", s->files.license.server_id);
    s->license_dir = strdup(config->trust.server_license);
    if (s->license_dir == NULL)
        abort();
    bool ignored = false;
    if (token_store_new(&s->tokens, config->trust.state_dir, s->files.license.server_id, &ignored,
                        err) < 0)
        return DAEMON_EXIT_CONFIG;
    place_read(&s->place, config->trust.state_dir);
    if (ignored)
        log_warn("cloud.token-ignored",
                 LOG_S("msg", "the continuation token in trust.state_dir is damaged or of another "
                              "server, and is not used"));
    return 0;
}

static int cloud_open(struct trust_source **out, struct loop *loop, const struct config *config,
                      const struct trust_events *events, struct error *err)
{
    struct trust_source *s = calloc(1, sizeof *s);
    if (s == NULL)
        abort();
    s->loop = loop;
    s->events = *events;
    s->started = clock_mono();
    s->checked = (struct loop_post){.fn = on_checked, .ctx = s};
    s->stopped = (struct loop_post){.fn = on_stopped, .ctx = s};
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->wake, NULL);
    if (config->trust.cloud.proxy != NULL)
        s->proxy = strdup(config->trust.cloud.proxy);
    int r = load(s, config, err);
    if (r == 0 && pthread_create(&s->thread, NULL, worker, s) != 0)
        r = (error_set(err, "no thread can be made: %s", strerror(EAGAIN)), DAEMON_EXIT_FAULT);
    s->thread_runs = r == 0;
    loop_timer_init(&s->look_timer, on_look, s);
    if (r == 0)
        loop_timer_arm(loop, &s->look_timer, mono_after(clock_mono(), LOOK_MS));
    if (r != 0) {
        cloud_free(s);
        s = NULL;
    }
    *out = s;
    return r;
}

static const struct server_license *cloud_license(const struct trust_source *s)
{
    return &s->files.license;
}

static const char *cloud_where(const struct trust_source *s)
{
    return s->base_url;
}

static const char *cloud_certificate(const struct trust_source *s)
{
    return s->files.pem;
}

static void cloud_sign(struct trust_source *s, struct trust_signature *signature)
{
    signature->len = sizeof signature->bytes;
    if (crypto_sign_digest(s->files.key, signature->digest, signature->bytes, &signature->len) < 0)
        signature->len = 0;
    signature->done(signature);
}

static void cloud_check(struct trust_source *s, const struct trust_ledger *ledger)
{
    s->ledger = *ledger;
    job_give(s, JOB_CHECK);
}

static int cloud_reload(struct trust_source *s, const struct config *config, struct error *err)
{
    int r = renew(s, err);
    if (r < 0)
        return r;
    char *proxy = config->trust.cloud.proxy != NULL ? strdup(config->trust.cloud.proxy) : NULL;
    pthread_mutex_lock(&s->mutex);
    char *old = s->proxy;
    s->proxy = proxy;
    pthread_mutex_unlock(&s->mutex);
    free(old);
    return 0;
}

static void cloud_stop(struct trust_source *s)
{
    loop_timer_cancel(s->loop, &s->look_timer);
    atomic_store(&s->cancel, true);
    job_give(s, JOB_STOP);
}

const struct trust_source_def trust_source_cloud = {
    .variant = "cloud-ready",
    .lapse_reason = "grace-over",
    .open = cloud_open,
    .license = cloud_license,
    .certificate = cloud_certificate,
    .where = cloud_where,
    .first = check_perform,
    .check = cloud_check,
    .sign = cloud_sign,
    .reload = cloud_reload,
    .stop = cloud_stop,
    .free = cloud_free,
};
