// The On-Premises source: the server license is on a USB dongle. One thread owns libusb and the
// token: it looks for one while none is held, asks the held one whether it is still there, and lets
// it prove its key. What it finds goes to the loop; the loop never waits for it.
#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "services/trust/server.h"
#include "services/trust/source.h"
#include "services/trust/usb_reader.h"

#include <errno.h>
#include <libusb-1.0/libusb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POLL_MS 250
#define PROOF_MS 30000
#define START_MS 1500 // permissions of a device just plugged in come a little later than the device

struct trust_source {
    struct loop *loop;
    struct trust_events events;
    struct crypto_ca *vendor_ca;
    struct server_license license; // fixed at start
    char *pem;                     // its certificate

    // The thread's; at start, before there is one, the loop's.
    libusb_context *usb;
    struct usb_reader reader;
    struct dongle dongle;
    bool held;
    struct mono_time proof_due;
    enum dongle_outcome told;

    pthread_t thread;
    bool thread_runs;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t wake;
    bool quit, check_wanted;
    struct trust_signature *unsigned_ones, *signed_ones; // newest first
    struct trust_result result;
    struct loop_post checked, stopped, signed_post;
};

static void drop(struct trust_source *s)
{
    dongle_close(&s->dongle);
    usb_reader_close(&s->reader);
    s->held = false;
}

// Only the license that trust started with: its ID and its keys are known all over the server.
static bool same_license(const struct server_license *a, const struct server_license *b)
{
    return strcmp(a->server_id, b->server_id) == 0 && a->not_before.s == b->not_before.s &&
           a->not_after.s == b->not_after.s && a->license_keys_len == b->license_keys_len &&
           memcmp(a->license_keys, b->license_keys, sizeof a->license_keys) == 0;
}

static enum dongle_outcome try_device(struct trust_source *s, libusb_device *device,
                                      struct error *err)
{
    struct wall_time now = clock_wall();
    enum dongle_outcome outcome = usb_reader_open(&s->reader, device, err);
    if (outcome == DONGLE_PROVEN) {
        struct dongle_io io = usb_reader_io(&s->reader);
        outcome = dongle_open(&s->dongle, &io, &s->reader.reader, s->vendor_ca, now, err);
    }
    if (outcome == DONGLE_PROVEN && s->license.server_id[0] != '\0' &&
        !same_license(&s->license, &s->dongle.license)) {
        error_set(err, "this is the dongle %s with another server license than the %s that the "
                       "server was started with; to use it, restart the server",
                  s->dongle.license.server_id, s->license.server_id);
        outcome = DONGLE_CERTIFICATE;
    }
    if (outcome == DONGLE_PROVEN)
        outcome = dongle_prove(&s->dongle, now, err);
    s->held = outcome == DONGLE_PROVEN;
    if (!s->held)
        drop(s);
    return outcome;
}

static enum dongle_outcome try_all(struct trust_source *s, struct error *err)
{
    libusb_device **list = NULL;
    ssize_t n = libusb_get_device_list(s->usb, &list);
    enum dongle_outcome worst = DONGLE_ABSENT;
    error_set(err, "no USB smart card reader (interface class 0B) is plugged in");
    for (ssize_t i = 0; i < n && !s->held; i++) {
        struct error why = {""};
        if (!usb_reader_find(&s->reader, list[i]))
            continue;
        enum dongle_outcome outcome = try_device(s, list[i], &why);
        if (outcome == DONGLE_PROVEN || outcome >= worst) {
            worst = outcome;
            *err = why;
        }
    }
    if (n >= 0)
        libusb_free_device_list(list, 1);
    return s->held ? DONGLE_PROVEN : worst;
}

// libusb is begun anew for each look: where no hotplug events come, as in containers, it would
// never see another device.
static enum dongle_outcome look(struct trust_source *s, struct error *err)
{
    int e = libusb_init(&s->usb);
    if (e != 0) {
        s->usb = NULL;
        return error_set(err, "USB cannot be used: %s", libusb_strerror(e)), DONGLE_ABSENT;
    }
    enum dongle_outcome outcome = try_all(s, err);
    if (!s->held) {
        libusb_exit(s->usb);
        s->usb = NULL;
    }
    return outcome;
}

static void let_go(struct trust_source *s)
{
    drop(s);
    if (s->usb != NULL)
        libusb_exit(s->usb);
    s->usb = NULL;
}

static void result_fill(struct trust_result *out, enum dongle_outcome outcome, const char *text)
{
    memset(out, 0, sizeof *out);
    out->check = outcome == DONGLE_PROVEN ? CHECK_OK : CHECK_REFUSED;
    out->reason = dongle_reason(outcome);
    out->next_check_s = PROOF_MS / 1000;
    snprintf(out->text, sizeof out->text, "%s", text);
}

static void tell(struct trust_source *s, enum dongle_outcome outcome, const char *text)
{
    if (outcome != s->told && outcome == DONGLE_PROVEN)
        log_info("dongle.proven", LOG_S("server_id", s->license.server_id));
    else if (outcome != s->told)
        log_warn("dongle.refused", LOG_S("reason", dongle_reason(outcome)), LOG_S("found", text),
                 LOG_S("msg", dongle_advice(outcome)));
    s->told = outcome;
    pthread_mutex_lock(&s->mutex);
    result_fill(&s->result, outcome, text);
    pthread_mutex_unlock(&s->mutex);
    loop_post(s->loop, &s->checked);
}

static void turn(struct trust_source *s, bool check_wanted)
{
    struct error err = {""};
    enum dongle_outcome outcome;
    bool proven = false;
    if (s->held) {
        proven = check_wanted || clock_mono().ms >= s->proof_due.ms;
        outcome = proven ? dongle_prove(&s->dongle, clock_wall(), &err)
                         : dongle_present(&s->dongle, &err);
        if (outcome != DONGLE_PROVEN)
            let_go(s);
    } else {
        outcome = look(s, &err);
        proven = outcome == DONGLE_PROVEN;
    }
    if (proven)
        s->proof_due = mono_after(clock_mono(), PROOF_MS);
    if (proven || check_wanted || outcome != s->told)
        tell(s, outcome, err.text);
}

// ---- signatures ----

static struct trust_signature *take_all(struct trust_source *s, struct trust_signature **list)
{
    pthread_mutex_lock(&s->mutex);
    struct trust_signature *first = *list;
    *list = NULL;
    pthread_mutex_unlock(&s->mutex);
    return first;
}

static void sign_one(struct trust_source *s, struct trust_signature *signature)
{
    struct piv_command command;
    const uint8_t *bytes = NULL;
    struct error err = {""};
    enum dongle_outcome outcome = DONGLE_ABSENT;
    signature->len = 0;
    if (s->held)
        outcome = dongle_sign(&s->dongle, &command, signature->digest, &bytes, &signature->len,
                              &err);
    if (outcome != DONGLE_PROVEN || signature->len > sizeof signature->bytes)
        signature->len = 0;
    if (signature->len > 0)
        memcpy(signature->bytes, bytes, signature->len);
    if (!s->held || outcome == DONGLE_PROVEN)
        return;
    let_go(s);
    tell(s, outcome, err.text);
}

static void sign_all(struct trust_source *s)
{
    struct trust_signature *next, *signature = take_all(s, &s->unsigned_ones);
    bool any = signature != NULL;
    for (; signature != NULL; signature = next) {
        next = signature->next;
        sign_one(s, signature);
        pthread_mutex_lock(&s->mutex);
        signature->next = s->signed_ones;
        s->signed_ones = signature;
        pthread_mutex_unlock(&s->mutex);
    }
    if (any)
        loop_post(s->loop, &s->signed_post);
}

static void *worker(void *ctx)
{
    struct trust_source *s = ctx;
    for (;;) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += POLL_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_mutex_lock(&s->mutex);
        int r = 0;
        while (!s->quit && !s->check_wanted && s->unsigned_ones == NULL && r == 0)
            r = pthread_cond_timedwait(&s->wake, &s->mutex, &until);
        bool quit = s->quit, check_wanted = s->check_wanted;
        s->check_wanted = false;
        pthread_mutex_unlock(&s->mutex);
        if (quit)
            break;
        sign_all(s);
        turn(s, check_wanted);
    }
    let_go(s);
    loop_post(s->loop, &s->stopped);
    return NULL;
}

// ---- on the loop thread ----

static void on_checked(void *ctx)
{
    struct trust_source *s = ctx;
    static struct trust_result result;
    pthread_mutex_lock(&s->mutex);
    result = s->result;
    pthread_mutex_unlock(&s->mutex);
    s->events.checked(s->events.ctx, &result);
}

static void on_stopped(void *ctx)
{
    struct trust_source *s = ctx;
    s->events.stopped(s->events.ctx);
}

static void done_all(struct trust_signature *signature)
{
    struct trust_signature *next;
    for (; signature != NULL; signature = next) {
        next = signature->next;
        signature->done(signature);
    }
}

static void on_signed(void *ctx)
{
    struct trust_source *s = ctx;
    done_all(take_all(s, &s->signed_ones));
}

static void flag_set(struct trust_source *s, bool *flag)
{
    pthread_mutex_lock(&s->mutex);
    *flag = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->mutex);
}

static void dongle_usb_free(struct trust_source *s)
{
    if (s == NULL)
        return;
    if (s->thread_runs) {
        flag_set(s, &s->quit);
        pthread_join(s->thread, NULL);
        loop_post_cancel(s->loop, &s->checked);
        loop_post_cancel(s->loop, &s->stopped);
        loop_post_cancel(s->loop, &s->signed_post);
    }
    done_all(take_all(s, &s->signed_ones));
    done_all(take_all(s, &s->unsigned_ones));
    let_go(s);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->mutex);
    crypto_ca_free(&s->vendor_ca);
    free(s->pem);
    free(s);
}

// The dongle must be there and prove itself before anything else starts.
static int start(struct trust_source *s, struct error *err)
{
    struct mono_time deadline = mono_after(clock_mono(), START_MS);
    struct error why = {""};
    enum dongle_outcome outcome = look(s, &why);
    while (outcome == DONGLE_NO_PERMISSION && clock_mono().ms < deadline.ms) {
        const struct timespec pause = {0, POLL_MS * 1000000L};
        nanosleep(&pause, NULL);
        outcome = look(s, &why);
    }
    if (outcome != DONGLE_PROVEN) {
        error_set(err, "no valid server license: looked for a dongle (trust.dongle) on USB, a "
                       "smart card with PIV and a server license in slot 9E: %s: %s. %s",
                  dongle_reason(outcome), why.text, dongle_advice(outcome));
        return DAEMON_EXIT_FAULT;
    }
    s->license = s->dongle.license;
    s->pem = crypto_cert_pem(s->dongle.cert);
    s->proof_due = mono_after(clock_mono(), PROOF_MS);
    return 0;
}

static int dongle_usb_open(struct trust_source **out, struct loop *loop,
                           const struct config *config, const struct trust_events *events,
                           struct error *err)
{
    struct trust_source *s = calloc(1, sizeof *s);
    if (s == NULL)
        abort();
    s->loop = loop;
    s->events = *events;
    s->checked = (struct loop_post){.fn = on_checked, .ctx = s};
    s->stopped = (struct loop_post){.fn = on_stopped, .ctx = s};
    s->signed_post = (struct loop_post){.fn = on_signed, .ctx = s};
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&s->mutex, NULL);
    char *pem = NULL;
    int r = server_vendor_ca(&s->vendor_ca, &pem, config->trust.vendor_ca, err);
    free(pem);
    r = r < 0 ? DAEMON_EXIT_CONFIG : start(s, err);
    if (r == 0 && pthread_create(&s->thread, NULL, worker, s) != 0)
        r = (error_set(err, "no thread can be made: %s", strerror(EAGAIN)), DAEMON_EXIT_FAULT);
    s->thread_runs = r == 0;
    if (r != 0) {
        dongle_usb_free(s);
        s = NULL;
    }
    *out = s;
    return r;
}

static const struct server_license *dongle_usb_license(const struct trust_source *s)
{
    return &s->license;
}

static const char *dongle_usb_where(const struct trust_source *s)
{
    return "the dongle";
}

// open() has done it; the thread tells what changes from then on.
static void dongle_usb_first(struct trust_source *s, struct trust_result *out)
{
    result_fill(out, DONGLE_PROVEN, "");
}

static const char *dongle_usb_certificate(const struct trust_source *s)
{
    return s->pem;
}

static void dongle_usb_sign(struct trust_source *s, struct trust_signature *signature)
{
    signature->len = 0;
    pthread_mutex_lock(&s->mutex);
    signature->next = s->unsigned_ones;
    s->unsigned_ones = signature;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->mutex);
}

// No backend, and no borrowing: there is nobody to tell of a ledger.
static void dongle_usb_check(struct trust_source *s, const struct trust_ledger *ledger)
{
    flag_set(s, &s->check_wanted);
}

static int dongle_usb_reload(struct trust_source *s, const struct config *config,
                             struct error *err)
{
    return 0;
}

static void dongle_usb_stop(struct trust_source *s)
{
    flag_set(s, &s->quit);
}

const struct trust_source_def trust_source_dongle = {
    .variant = "on-premises",
    .lease_ms = 2 * PROOF_MS,
    .open = dongle_usb_open,
    .license = dongle_usb_license,
    .certificate = dongle_usb_certificate,
    .where = dongle_usb_where,
    .first = dongle_usb_first,
    .check = dongle_usb_check,
    .sign = dongle_usb_sign,
    .reload = dongle_usb_reload,
    .stop = dongle_usb_stop,
    .free = dongle_usb_free,
};
