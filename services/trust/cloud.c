// The Cloud-Ready source: asks the vendor's backend over mutual TLS. Requests block, so they run
// on a thread of their own; the loop never waits for them.
#include "common/clock.h"
#include "common/core/text.h"
#include "common/daemon.h"
#include "common/https.h"
#include "common/log.h"
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

enum job { JOB_NONE, JOB_CHECK, JOB_STOP, JOB_QUIT };

struct trust_source {
    struct loop *loop;
    struct trust_events events;
    struct server_files files;
    char *vendor_pem;
    struct token_store *tokens;
    struct place place;
    struct mono_time started;
    char base_url[512];

    pthread_t thread;
    bool thread_runs;
    atomic_bool cancel;    // ends the request under way
    pthread_mutex_t mutex; // guards job and proxy
    pthread_cond_t wake;
    enum job job;
    char *proxy;                // NULL: the environment's
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
    snprintf(url, sizeof url, "%s%s", s->base_url, path);
    pthread_mutex_lock(&s->mutex);
    char *proxy = s->proxy != NULL ? strdup(s->proxy) : NULL;
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
        .cert_file = s->files.cert_path,
        .key_file = s->files.key_path,
        .proxy = proxy,
        .timeout_ms = timeout_ms,
        .max_answer_bytes = CLOUD_ANSWER_BYTES_MAX,
        .cancel = cancel,
    };
    int r = https_perform(&request, answer, err);
    free(proxy);
    return r;
}

static void add_hex(struct buf *out, const char *name, const uint8_t hash[static 32])
{
    char hex[65];
    hex_encode(hash, 32, hex);
    buf_printf(out, ",\"%s\":\"%s\"", name, hex);
}

static void add_ledger(struct buf *out, const struct trust_ledger *ledger)
{
    if (!ledger->head.present) {
        buf_add_str(out, "null");
        return;
    }
    buf_printf(out, "{\"sequence\":%llu", (unsigned long long)ledger->head.sequence);
    add_hex(out, "hash", ledger->head.hash);
    buf_printf(out, ",\"epoch\":\"%s\"", ledger->head.epoch);
    if (ledger->has_previous)
        add_hex(out, "previous", ledger->previous);
    buf_add_char(out, '}');
}

static void request_body(const struct trust_source *s, struct buf *out)
{
    const char *id = s->files.license.server_id, *token = token_store_get(s->tokens);
    buf_add_str(out, "{\"format\":1,\"serverId\":");
    buf_add_json_string(out, id, strlen(id));
    buf_add_str(out, ",\"token\":");
    buf_add_json_string(out, token, strlen(token));
    buf_printf(out, ",\"version\":\"%s\",\"uptimeSeconds\":%lld,\"ledger\":", BERTH_VERSION,
               (long long)((clock_mono().ms - s->started.ms) / 1000));
    add_ledger(out, &s->ledger);
    if (s->place.known)
        buf_printf(out, ",\"place\":{\"boot\":\"%s\",\"folder\":\"%s\",\"bootAgeSeconds\":%lld}",
                   s->place.boot, s->place.folder, (long long)(clock_mono().ms / 1000));
    buf_add_char(out, '}');
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
    token_store_free(&s->tokens);
    server_files_fini(&s->files);
    free(s->vendor_pem);
    free(s->proxy);
    free(s);
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
    size_t len = strlen(s->files.license.cloud_url);
    while (len > 0 && s->files.license.cloud_url[len - 1] == '/')
        len--;
    snprintf(s->base_url, sizeof s->base_url, "%.*s", (int)len, s->files.license.cloud_url);
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
    atomic_store(&s->cancel, true);
    job_give(s, JOB_STOP);
}

const struct trust_source_def trust_source_cloud = {
    .variant = "cloud-ready",
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
