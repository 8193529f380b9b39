// Many servers, each with a server license of its own, that check in at a backend as trust does:
// TLS with the client certificate, the token of the answer before, a borrow ledger that grows. An
// answer that does not come is asked for again with the same token, as after a crash. Prints one
// line of JSON; exit 1 if a server was refused, or its ledger is not what it said.
//   cloud_servers KEYS URL SERVERS ROUNDS THREADS
#include "common/clock.h"
#include "common/crypto.h"
#include "common/https.h"
#include "services/trust/cloud_request.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXTENSION                                                                                  \
    "{\"format\":1,\"variant\":\"cloud-ready\",\"addons\":[\"borrow\"],\"licenseKeys\":["          \
    "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"],\"cloudUrl\":\"https://localhost\"}"
#define PATIENCE_MS 60000
#define EPOCH "0123456789abcdef0123456789abcdef"

struct server {
    pthread_mutex_t mutex; // one check after the other
    char id[32], token[CLOUD_TOKEN_MAX + 1];
    struct place place;
    struct crypto_cert *cert;
    struct crypto_key *key;
    struct trust_ledger ledger;
};

static char ca_path[4096], url[512];
static struct server *servers;
static int server_count, round_count;
static int64_t *took_us; // one for each check
static atomic_int next_server, checks, retries, failures;

static void fail(const struct server *s, const char *what)
{
    if (atomic_fetch_add(&failures, 1) < 20)
        fprintf(stderr, "%s: %s\n", s->id, what);
}

static struct trust_ledger grown(const struct trust_ledger *old)
{
    struct trust_ledger l = {.head = {.present = true, .epoch = EPOCH}};
    l.head.sequence = old->head.sequence + 1;
    l.has_previous = old->head.present;
    memcpy(l.previous, old->head.hash, sizeof l.previous);
    crypto_random(l.head.hash, sizeof l.head.hash);
    return l;
}

// 0, or -errno: no answer.
static int ask(const struct server *s, const struct trust_ledger *ledger,
               struct cloud_answer *answer)
{
    struct buf body BUF_CLEANUP = {0};
    struct https_answer http;
    struct error err = {""};
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    const struct cloud_request what = {
        .server_id = s->id, .token = s->token, .ledger = ledger, .place = &s->place};
    cloud_request_write(&body, &what);
    const struct https_request request = {.url = url,
                                          .method = "POST",
                                          .body = body.data,
                                          .body_len = body.len,
                                          .headers = headers,
                                          .ca_file = ca_path,
                                          .cert = s->cert,
                                          .key = s->key,
                                          .timeout_ms = 20000,
                                          .max_answer_bytes = CLOUD_ANSWER_BYTES_MAX};
    int r = https_perform(&request, &http, &err);
    if (r == 0 &&
        (http.status != 200 || cloud_answer_parse(answer, http.body.data, http.body.len, &err) < 0))
        r = -EPROTO;
    if (r == 0 || r == -EPROTO)
        https_answer_fini(&http);
    return r;
}

static bool check(struct server *s)
{
    static _Thread_local struct cloud_answer answer;
    struct trust_ledger ledger = grown(&s->ledger);
    struct mono_time end = mono_after(clock_mono(), PATIENCE_MS);
    int64_t begin_us = clock_mono_us();
    while (ask(s, &ledger, &answer) < 0) {
        const struct timespec pause = {0, 20000000};
        atomic_fetch_add(&retries, 1);
        if (clock_mono().ms > end.ms)
            return fail(s, "no answer"), false;
        nanosleep(&pause, NULL);
        begin_us = clock_mono_us();
    }
    took_us[atomic_fetch_add(&checks, 1)] = clock_mono_us() - begin_us;
    if (!answer.ok)
        return fail(s, answer.reason), false;
    if (answer.ledger.sequence != ledger.head.sequence ||
        memcmp(answer.ledger.hash, ledger.head.hash, sizeof ledger.head.hash) != 0)
        return fail(s, "the backend has another ledger"), false;
    s->ledger = ledger;
    memcpy(s->token, answer.token, sizeof s->token);
    return true;
}

static void *worker(void *ctx)
{
    int i;
    while ((i = atomic_fetch_add(&next_server, 1)) < server_count * round_count) {
        struct server *s = &servers[i % server_count];
        pthread_mutex_lock(&s->mutex);
        check(s);
        pthread_mutex_unlock(&s->mutex);
    }
    return NULL;
}

static void issue(const char *keys)
{
    char path[4096];
    struct crypto_cert *ca = NULL;
    struct crypto_key *ca_key = NULL;
    struct error err = {""};
    snprintf(ca_path, sizeof ca_path, "%s/vendor-ca.pem", keys);
    snprintf(path, sizeof path, "%s/vendor-ca.key", keys);
    if (crypto_cert_load_file(&ca, ca_path, &err) < 0 || crypto_key_load(&ca_key, path, &err) < 0)
        abort();
    for (int i = 0; i < server_count; i++) {
        struct server *s = &servers[i];
        pthread_mutex_init(&s->mutex, NULL);
        snprintf(s->id, sizeof s->id, "MANY-%04d", i);
        s->place.known = true;
        snprintf(s->place.boot, sizeof s->place.boot, "%032d", 1);
        snprintf(s->place.folder, sizeof s->place.folder, "%032d", i);
        const struct crypto_issue what = {.common_name = s->id,
                                          .not_before = {clock_wall().s - 60},
                                          .not_after = {clock_wall().s + 3600},
                                          .usage = USAGE_SERVER_LICENSE,
                                          .extension_json = EXTENSION};
        if (crypto_key_new_p256(&s->key) < 0 ||
            crypto_cert_issue(&s->cert, &what, s->key, ca, ca_key, &err) < 0)
            abort();
    }
    crypto_cert_free(&ca);
    crypto_key_free(&ca_key);
}

static int compare(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

int main(int argc, char **argv)
{
    pthread_t threads[64];
    if (argc != 6)
        return 2;
    server_count = atoi(argv[3]);
    round_count = atoi(argv[4]);
    int n = atoi(argv[5]) > 64 ? 64 : atoi(argv[5]);
    snprintf(url, sizeof url, "%s/v1/validate", argv[2]);
    servers = calloc((size_t)server_count, sizeof *servers);
    took_us = calloc((size_t)(server_count * round_count), sizeof *took_us);
    if (servers == NULL || took_us == NULL)
        abort();
    issue(argv[1]);
    puts("ready");
    fflush(stdout);
    int64_t begin_us = clock_mono_us();
    for (int i = 0; i < n; i++) {
        if (pthread_create(&threads[i], NULL, worker, NULL) != 0)
            abort();
    }
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    int done = atomic_load(&checks);
    qsort(took_us, (size_t)done, sizeof *took_us, compare);
    printf("{\"checks\":%d,\"retries\":%d,\"failures\":%d,\"seconds\":%.2f,\"p50_ms\":%.1f,"
           "\"p99_ms\":%.1f}\n",
           done, atomic_load(&retries), atomic_load(&failures),
           (double)(clock_mono_us() - begin_us) / 1e6, (double)took_us[done / 2] / 1e3,
           (double)took_us[done * 99 / 100] / 1e3);
    for (int i = 0; i < server_count; i++) {
        pthread_mutex_destroy(&servers[i].mutex);
        crypto_cert_free(&servers[i].cert);
        crypto_key_free(&servers[i].key);
    }
    free(servers);
    free(took_us);
    return atomic_load(&failures) > 0;
}
