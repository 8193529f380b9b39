// What the four processes have in common around their service: arguments, configuration, logs,
// loop, signals, readiness (sd_notify protocol), exit codes (0 stopped, 1 fault, 78 refused
// configuration or persistence).
#pragma once

#include "common/config.h"
#include "common/loop.h"

#define DAEMON_EXIT_FAULT 1
#define DAEMON_EXIT_CONFIG 78

struct daemon_def {
    const char *name;    // "berth-pool"
    const char *summary; // one line for -h
    // It holds keys that nobody else has: no core dump, and nobody of the same user looks inside.
    bool holds_keys;
    // rpc_keys_load, called before start if rpc.keys is set. NULL: no use for keys.
    int (*load_keys)(const char *folder, const char *process, struct error *err);
    // 0; or the exit code (1 or 78) with err->text for people.
    int (*start)(struct loop *loop, const struct config *config, void **service, struct error *err);
    // Re-reads what can be reloaded; the old one is valid until it returns. 0, or -errno: nothing
    // changed.
    int (*reload)(void *service, const struct config *config, struct error *err);
    // SIGTERM/SIGINT: begin to stop; call daemon_stopped() when done (at the latest after 5 s it is
    // over anyway). NULL: stop at once.
    void (*stop)(void *service);
    void (*free)(void *service);
    // The `health` argument. Returns the exit code.
    int (*health)(const struct config *config, bool alive);
    // Asked after each turn of the loop until true: then READY=1 is sent. NULL: at once.
    bool (*ready)(void *service);
};

int daemon_main(int argc, char **argv, const struct daemon_def *def);
void daemon_stopped(struct loop *loop);
// From inside a running service: end the process with this code; the reason is logged, and told to
// the supervisor (STATUS=).
void daemon_fail(struct loop *loop, int exit_code, const char *reason);
// Tells the supervisor (NOTIFY_SOCKET, the protocol of sd_notify) variable=value: READY, STATUS, …
// Does nothing without one.
void daemon_notify(const char *variable, const char *value);
