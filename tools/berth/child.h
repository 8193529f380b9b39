// One process under the supervisor.
#pragma once

#include "common/loop.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct child {
    const char *name; // "trust"
    char program[4096];
    char notify_path[108];
    struct loop_fd notify; // socket on which the child says READY=1, STATUS=…
    pid_t pid;             // 0: does not run
    bool ready;            // since its last start
    bool ready_once;
    struct mono_time started;
    int64_t backoff_ms;
    struct loop_timer restart;
    char status[4096]; // last STATUS= of this life
    void *ctx;         // of the supervisor
};

// Makes the socket at <dir>/notify-<name>. 0 or -errno.
int child_open(struct child *c, struct loop *loop, const char *dir,
               void (*fn)(void *ctx, uint32_t events), void *ctx);
void child_close(struct child *c, struct loop *loop);
// Forks and executes `program -c config_file`. 0 or -errno.
int child_start(struct child *c, const char *config_file);
void child_signal(const struct child *c, int signo); // nothing if it does not run
// Reads what it said. Returns true if it became ready.
bool child_listen(struct child *c);
