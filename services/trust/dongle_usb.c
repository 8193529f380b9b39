// The On-Premises source: the server license is on a USB dongle. What the thread that holds it
// finds is the truth for as long as that thread is heard of; USB may hang, in libusb or in the
// kernel.
#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "services/trust/dongle_thread.h"
#include "services/trust/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A token is asked every DONGLE_POLL_MS and given up after DONGLE_TRANSFER_MS: what is silent for
// longer than that, and for less than the 2 s of [S3], is the thread itself. Counted in turns of
// the loop, so that a process that was stopped does not suspect its token when it goes on.
#define WATCHDOG_MS 200
#define WATCHDOG_TURNS 7
#define HANG_MS 1500 // at the end, for a thread that hangs

struct trust_source {
    struct loop *loop;
    struct trust_events events;
    struct crypto_ca *vendor_ca;
    struct dongle_thread *thread;
    struct server_license license; // of the token that was proven last
    char *pem;                     // its certificate
    struct loop_timer watchdog, hang;
    bool believed; // the last finding was a good one
    unsigned heard, silent_turns;
};

static void result_fill(struct trust_result *out, enum dongle_outcome outcome, const char *text)
{
    memset(out, 0, sizeof *out);
    out->check = outcome == DONGLE_PROVEN ? CHECK_OK : CHECK_REFUSED;
    out->reason = dongle_reason(outcome);
    out->next_check_s = DONGLE_PROOF_MS / 1000;
    snprintf(out->text, sizeof out->text, "%s", text);
}

// True if it is another one than before: of another token, or renewed.
static bool take_license(struct trust_source *s, const struct dongle_finding *finding)
{
    bool changed = s->pem == NULL || strcmp(s->pem, finding->pem) != 0;
    s->license = finding->license;
    free(s->pem);
    s->pem = finding->pem;
    return changed;
}

static void report(struct trust_source *s, const struct trust_result *result)
{
    s->believed = result->check == CHECK_OK;
    s->events.checked(s->events.ctx, result);
}

static void on_found(void *ctx, struct dongle_finding *finding)
{
    struct trust_source *s = ctx;
    static struct trust_result result;
    result_fill(&result, finding->outcome, finding->text);
    if (finding->pem != NULL && take_license(s, finding))
        s->events.renewed(s->events.ctx);
    report(s, &result);
}

static void on_watchdog(void *ctx)
{
    struct trust_source *s = ctx;
    unsigned heard = dongle_thread_heard(s->thread);
    s->silent_turns = heard == s->heard ? s->silent_turns + 1 : 0;
    s->heard = heard;
    loop_timer_arm(s->loop, &s->watchdog, mono_after(clock_mono(), WATCHDOG_MS));
    if (!s->believed || s->silent_turns < WATCHDOG_TURNS)
        return;
    log_warn("dongle.hangs", LOG_S("server_id", s->license.server_id),
             LOG_S("msg", "USB does not return; unplug the dongle and plug it in again"));
    dongle_thread_check(s->thread); // it tells when it goes on
    dongle_thread_give_up(s->thread);
    static struct trust_result result;
    result_fill(&result, DONGLE_ABSENT, "nothing is heard of the token, and USB does not return");
    report(s, &result);
}

static void on_ended(void *ctx)
{
    struct trust_source *s = ctx;
    loop_timer_cancel(s->loop, &s->hang);
    s->events.stopped(s->events.ctx);
}

static void dongle_usb_stop(struct trust_source *s)
{
    loop_timer_cancel(s->loop, &s->watchdog);
    loop_timer_arm(s->loop, &s->hang, mono_after(clock_mono(), HANG_MS));
    dongle_thread_stop(s->thread);
}

static void dongle_usb_free(struct trust_source *s)
{
    if (s == NULL)
        return;
    loop_timer_cancel(s->loop, &s->watchdog);
    loop_timer_cancel(s->loop, &s->hang);
    if (dongle_thread_free(&s->thread))
        crypto_ca_free(&s->vendor_ca);
    free(s->pem);
    free(s);
}

// The dongle must be there and prove itself before anything else starts.
static int start(struct trust_source *s, struct error *err)
{
    const struct dongle_thread_events events = {on_found, on_ended, s};
    struct dongle_finding first;
    int r = dongle_thread_new(&s->thread, s->loop, s->vendor_ca, &events, &first);
    if (first.pem != NULL)
        take_license(s, &first);
    s->believed = first.outcome == DONGLE_PROVEN;
    if (r < 0)
        return error_set(err, "no thread can be made: %s", strerror(-r)), DAEMON_EXIT_FAULT;
    if (s->believed)
        return 0;
    error_set(err,
              "no valid server license: looked for a dongle (trust.dongle) on USB, a smart "
              "card with PIV and a server license in slot 9E: %s: %s. %s",
              dongle_reason(first.outcome), first.text, dongle_advice(first.outcome));
    return DAEMON_EXIT_FAULT;
}

static int dongle_usb_open(struct trust_source **out, struct loop *loop,
                           const struct config *config, const struct trust_events *events,
                           struct error *err)
{
    struct trust_source *s = calloc(1, sizeof *s);
    char *pem = NULL;
    if (s == NULL)
        abort();
    s->loop = loop;
    s->events = *events;
    loop_timer_init(&s->watchdog, on_watchdog, s);
    loop_timer_init(&s->hang, on_ended, s);
    int r = server_vendor_ca(&s->vendor_ca, &pem, config->trust.vendor_ca, err);
    free(pem);
    r = r < 0 ? DAEMON_EXIT_CONFIG : start(s, err);
    if (r == 0) {
        loop_timer_arm(loop, &s->watchdog, mono_after(clock_mono(), WATCHDOG_MS));
    } else {
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

static const char *dongle_usb_certificate(const struct trust_source *s)
{
    return s->pem;
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

// No backend, and no borrowing: there is nobody to tell of a ledger.
static void dongle_usb_check(struct trust_source *s, const struct trust_ledger *ledger)
{
    dongle_thread_check(s->thread);
}

static void dongle_usb_sign(struct trust_source *s, struct trust_signature *signature)
{
    dongle_thread_sign(s->thread, signature);
}

static int dongle_usb_reload(struct trust_source *s, const struct config *config, struct error *err)
{
    return 0;
}

const struct trust_source_def trust_source_dongle = {
    .variant = "on-premises",
    .lease_ms = 4 * DONGLE_PROOF_MS, // a proof each DONGLE_PROOF_MS comes before a quarter of it
    .lapse_reason = "dongle-absent",
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
