// Looks after the files of certificates, keys and tokens, and takes new ones over without a signal:
// where they are mounted (Kubernetes, a certificate agent) nobody can send one.
#pragma once

#include "common/config.h"
#include "common/loop.h"

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#define SECRETS_FILES 8 // of both listeners, and the two tokens

struct secrets_stamp { // what is known of the files without reading them
    struct secrets_file {
        dev_t device;
        ino_t inode;
        off_t bytes;
        struct timespec modified, changed;
    } files[SECRETS_FILES];
};

struct secrets {
    struct loop *loop;
    struct loop_timer timer;
    struct secrets_stamp seen, used;
    // Takes over what is in the files now, or refuses it as a whole (and says why in the log).
    void (*changed)(void *ctx);
    const struct config *(*config)(void *ctx); // which files these are
    void *ctx;
};

// All on the loop thread. Files are looked at every 2 s; changed() is called once they have been
// the same for two looks, so that a certificate and its key are not read half way. After
// secrets_start() the files are taken as known; `loop`, `changed`, `config` and `ctx` are set
// before.
void secrets_start(struct secrets *secrets);
// Somebody else has just read the files (a reload by signal).
void secrets_known(struct secrets *secrets);
void secrets_stop(struct secrets *secrets); // harmless if it was never started
