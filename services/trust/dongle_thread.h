// The thread that owns libusb and the token: it looks for a token while none is held, asks the held
// one whether it is still there, lets it prove its key, and sign. All functions are for the loop
// thread, and none waits for USB but dongle_thread_new(), which is for the start of the process.
#pragma once

#include "common/loop.h"
#include "services/trust/dongle.h"
#include "services/trust/source.h"

#define DONGLE_POLL_MS 250
#define DONGLE_PROOF_MS 30000

struct dongle_finding {
    enum dongle_outcome outcome;
    char text[512];                // what was found, for people
    struct server_license license; // when proven
    char *pem;                     // likewise: its certificate, malloc'd
};

struct dongle_thread_events {
    // Something else than before, or what dongle_thread_check() has asked for. The callee takes
    // pem.
    void (*found)(void *ctx, struct dongle_finding *finding);
    void (*ended)(void *ctx); // after dongle_thread_stop(), unless the thread hangs
    void *ctx;
};

struct dongle_thread;

// Looks for a token; *first is what was found, and *out NULL unless it is proven. 0, or -EAGAIN: no
// thread can be made. vendor_ca outlives the thread.
int dongle_thread_new(struct dongle_thread **out, struct loop *loop,
                      const struct crypto_ca *vendor_ca, const struct dongle_thread_events *events,
                      struct dongle_finding *first);
void dongle_thread_check(struct dongle_thread *t); // a proof, now
void dongle_thread_sign(struct dongle_thread *t, struct trust_signature *signature);
void dongle_thread_give_up(struct dongle_thread *t); // on the signatures that wait: they end
// Grows whenever a token sends something.
unsigned dongle_thread_heard(const struct dongle_thread *t);
void dongle_thread_stop(struct dongle_thread *t);
// True if it has ended. False: it hangs in the kernel, and keeps its memory and vendor_ca; the
// process is to end. Signatures that wait have ended in either case.
bool dongle_thread_free(struct dongle_thread **t);
