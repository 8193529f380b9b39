#include "services/trust/dongle_thread.h"

#include "common/clock.h"
#include "common/log.h"
#include "services/trust/usb_tokens.h"

#include <errno.h>
#include <libusb-1.0/libusb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define START_MS 1500 // permissions of a device just plugged in come a little later than the device
#define END_MS 1500   // for the thread to end; after that it hangs

struct dongle_thread {
    struct loop *loop;
    struct dongle_thread_events events;
    pthread_t thread;

    // The thread's; before there is one, the loop's.
    struct usb_tokens tokens;
    enum dongle_outcome told;

    atomic_bool woken;     // there is something new among what follows
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t wake;
    libusb_context *waits_in; // the thread waits for USB there, not for `wake`
    bool quit, check_wanted, abandoned;
    struct trust_signature *first, **last; // to be signed, the oldest first
    struct trust_signature *signed_ones;
    uint64_t signing; // grows when those that wait are given up
    struct dongle_finding found;
    struct loop_post found_post, signed_post, ended_post;
};

static struct timespec moment_in_ms(int64_t ms) // of CLOCK_MONOTONIC, as pthreads want it
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += ms % 1000 * 1000000;
    t.tv_sec += ms / 1000 + t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

// ---- the thread ----

// A thread that hung may go on when nobody is there any more.
static void post(struct dongle_thread *t, struct loop_post *what)
{
    pthread_mutex_lock(&t->mutex);
    if (!t->abandoned)
        loop_post(t->loop, what);
    pthread_mutex_unlock(&t->mutex);
}

static struct dongle_finding finding_of(const struct usb_tokens *tokens,
                                        enum dongle_outcome outcome, const char *text)
{
    struct dongle_finding f = {.outcome = outcome};
    snprintf(f.text, sizeof f.text, "%s", text);
    if (outcome == DONGLE_PROVEN) {
        f.license = tokens->dongle.license;
        f.pem = crypto_cert_pem(tokens->dongle.cert);
    }
    return f;
}

static void tell(struct dongle_thread *t, enum dongle_outcome outcome, const char *text)
{
    if (outcome != t->told && outcome == DONGLE_PROVEN)
        log_info("dongle.proven", LOG_S("server_id", t->tokens.dongle.license.server_id));
    else if (outcome != t->told)
        log_warn("dongle.refused", LOG_S("reason", dongle_reason(outcome)), LOG_S("found", text),
                 LOG_S("msg", dongle_advice(outcome)));
    t->told = outcome;
    struct dongle_finding f = finding_of(&t->tokens, outcome, text);
    pthread_mutex_lock(&t->mutex);
    free(t->found.pem);
    t->found = f;
    pthread_mutex_unlock(&t->mutex);
    post(t, &t->found_post);
}

// What another token has signed does not go with the certificate of the one found now.
static void drop_signed(struct dongle_thread *t)
{
    pthread_mutex_lock(&t->mutex);
    for (struct trust_signature *s = t->signed_ones; s != NULL; s = s->next)
        s->len = 0;
    pthread_mutex_unlock(&t->mutex);
}

static void turn(struct dongle_thread *t, bool check_wanted)
{
    struct error err = {""};
    enum dongle_outcome outcome;
    if (!t->tokens.held) {
        outcome = usb_tokens_look(&t->tokens, &err);
        drop_signed(t);
    } else if (check_wanted) {
        outcome = dongle_prove(&t->tokens.dongle, clock_wall(), &err);
    } else {
        outcome = dongle_present(&t->tokens.dongle, &err);
    }
    if (check_wanted || outcome != t->told)
        tell(t, outcome, err.text);
    if (outcome != DONGLE_PROVEN)
        usb_tokens_let_go(&t->tokens);
}

// The oldest that waits; false: none does.
static bool next_digest(struct dongle_thread *t, uint8_t digest[static 32], uint64_t *signing)
{
    pthread_mutex_lock(&t->mutex);
    bool any = t->first != NULL;
    if (any)
        memcpy(digest, t->first->digest, 32);
    *signing = t->signing;
    pthread_mutex_unlock(&t->mutex);
    return any;
}

static struct trust_signature *take_first(struct dongle_thread *t)
{
    struct trust_signature *signature = t->first;
    t->first = signature->next;
    if (t->first == NULL)
        t->last = &t->first;
    return signature;
}

static void sign_all(struct dongle_thread *t)
{
    uint8_t digest[32], bytes[DONGLE_SIGNATURE_BYTES_MAX];
    uint64_t signing;
    while (next_digest(t, digest, &signing)) {
        struct error err = {""};
        enum dongle_outcome outcome = DONGLE_ABSENT;
        size_t len = 0;
        if (t->tokens.held)
            outcome = dongle_sign(&t->tokens.dongle, digest, bytes, &len, &err);
        pthread_mutex_lock(&t->mutex);
        if (signing == t->signing) { // else its owner has given up, and it may be gone
            struct trust_signature *signature = take_first(t);
            signature->len = outcome == DONGLE_PROVEN ? len : 0;
            memcpy(signature->bytes, bytes, signature->len);
            signature->next = t->signed_ones;
            t->signed_ones = signature;
        }
        pthread_mutex_unlock(&t->mutex);
        post(t, &t->signed_post);
        if (t->tokens.held && outcome != DONGLE_PROVEN) {
            tell(t, outcome, err.text);
            usb_tokens_let_go(&t->tokens);
        }
    }
}

// Until there is something to do. With a token in hand USB itself is waited for: that is where its
// removal shows first.
static void wait_for_work(struct dongle_thread *t)
{
    struct timespec until = moment_in_ms(DONGLE_POLL_MS);
    pthread_mutex_lock(&t->mutex);
    if (t->tokens.held) {
        t->waits_in = t->tokens.usb;
        pthread_mutex_unlock(&t->mutex);
        usb_reader_wait(&t->tokens.reader, mono_after(clock_mono(), DONGLE_POLL_MS), &t->woken);
        pthread_mutex_lock(&t->mutex);
        t->waits_in = NULL;
    } else {
        int r = 0;
        while (!atomic_load(&t->woken) && r == 0)
            r = pthread_cond_timedwait(&t->wake, &t->mutex, &until);
    }
    pthread_mutex_unlock(&t->mutex);
}

static void *worker(void *ctx)
{
    struct dongle_thread *t = ctx;
    for (;;) {
        wait_for_work(t);
        pthread_mutex_lock(&t->mutex);
        bool quit = t->quit, check_wanted = t->check_wanted;
        t->check_wanted = false;
        atomic_store(&t->woken, false);
        pthread_mutex_unlock(&t->mutex);
        if (quit)
            break;
        sign_all(t);
        turn(t, check_wanted);
    }
    usb_tokens_let_go(&t->tokens);
    post(t, &t->ended_post);
    return NULL;
}

// ---- on the loop thread ----

static void on_found(void *ctx)
{
    struct dongle_thread *t = ctx;
    pthread_mutex_lock(&t->mutex);
    struct dongle_finding found = t->found;
    t->found.pem = NULL;
    pthread_mutex_unlock(&t->mutex);
    t->events.found(t->events.ctx, &found);
}

static void on_ended(void *ctx)
{
    struct dongle_thread *t = ctx;
    t->events.ended(t->events.ctx);
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
    struct dongle_thread *t = ctx;
    pthread_mutex_lock(&t->mutex);
    struct trust_signature *signature = t->signed_ones;
    t->signed_ones = NULL;
    pthread_mutex_unlock(&t->mutex);
    done_all(signature);
}

void dongle_thread_give_up(struct dongle_thread *t)
{
    pthread_mutex_lock(&t->mutex);
    struct trust_signature *signature = t->first;
    t->first = NULL;
    t->last = &t->first;
    t->signing++;
    pthread_mutex_unlock(&t->mutex);
    done_all(signature); // their len is 0
}

// With the mutex held.
static void wake(struct dongle_thread *t)
{
    atomic_store(&t->woken, true);
    pthread_cond_signal(&t->wake);
    if (t->waits_in != NULL)
        libusb_interrupt_event_handler(t->waits_in);
}

static void flag_set(struct dongle_thread *t, bool *flag)
{
    pthread_mutex_lock(&t->mutex);
    *flag = true;
    wake(t);
    pthread_mutex_unlock(&t->mutex);
}

void dongle_thread_check(struct dongle_thread *t)
{
    flag_set(t, &t->check_wanted);
}

void dongle_thread_stop(struct dongle_thread *t)
{
    flag_set(t, &t->quit);
}

unsigned dongle_thread_heard(const struct dongle_thread *t)
{
    return atomic_load(&t->tokens.heard);
}

void dongle_thread_sign(struct dongle_thread *t, struct trust_signature *signature)
{
    signature->len = 0;
    signature->next = NULL;
    pthread_mutex_lock(&t->mutex);
    *t->last = signature;
    t->last = &signature->next;
    wake(t);
    pthread_mutex_unlock(&t->mutex);
}

static struct dongle_thread *thread_make(struct loop *loop, const struct crypto_ca *vendor_ca,
                                         const struct dongle_thread_events *events)
{
    struct dongle_thread *t = calloc(1, sizeof *t);
    if (t == NULL)
        abort();
    t->loop = loop;
    t->events = *events;
    t->tokens.vendor_ca = vendor_ca;
    t->last = &t->first;
    t->found_post = (struct loop_post){.fn = on_found, .ctx = t};
    t->signed_post = (struct loop_post){.fn = on_signed, .ctx = t};
    t->ended_post = (struct loop_post){.fn = on_ended, .ctx = t};
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&t->mutex, NULL);
    return t;
}

static void thread_unmake(struct dongle_thread *t)
{
    usb_tokens_let_go(&t->tokens);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->mutex);
    free(t->found.pem);
    free(t);
}

static enum dongle_outcome look_at_start(struct dongle_thread *t, struct error *err)
{
    struct mono_time deadline = mono_after(clock_mono(), START_MS);
    enum dongle_outcome outcome = usb_tokens_look(&t->tokens, err);
    while (outcome == DONGLE_NO_PERMISSION && clock_mono().ms < deadline.ms) {
        const struct timespec pause = {0, DONGLE_POLL_MS * 1000000L};
        nanosleep(&pause, NULL);
        outcome = usb_tokens_look(&t->tokens, err);
    }
    return outcome;
}

int dongle_thread_new(struct dongle_thread **out, struct loop *loop,
                      const struct crypto_ca *vendor_ca, const struct dongle_thread_events *events,
                      struct dongle_finding *first)
{
    struct dongle_thread *t = thread_make(loop, vendor_ca, events);
    struct error err = {""};
    enum dongle_outcome outcome = look_at_start(t, &err);
    *first = finding_of(&t->tokens, outcome, err.text);
    int r = outcome == DONGLE_PROVEN ? -pthread_create(&t->thread, NULL, worker, t) : 0;
    if (r < 0 || outcome != DONGLE_PROVEN) {
        thread_unmake(t);
        t = NULL;
    }
    *out = t;
    return r;
}

bool dongle_thread_free(struct dongle_thread **thread)
{
    struct dongle_thread *t = *thread;
    if (t == NULL)
        return true;
    flag_set(t, &t->quit);
    struct timespec until = moment_in_ms(END_MS);
    bool ended = pthread_clockjoin_np(t->thread, NULL, CLOCK_MONOTONIC, &until) == 0;
    pthread_mutex_lock(&t->mutex);
    t->abandoned = true;
    pthread_mutex_unlock(&t->mutex);
    loop_post_cancel(t->loop, &t->found_post);
    loop_post_cancel(t->loop, &t->signed_post);
    loop_post_cancel(t->loop, &t->ended_post);
    on_signed(t);
    dongle_thread_give_up(t);
    if (ended)
        thread_unmake(t);
    *thread = NULL;
    return ended;
}
