// Starts the four processes, gateway last, waits until each has been ready once, restarts what dies
// later, stops them in order. One thread, one loop; what the children say comes by the protocol of
// sd_notify.
#pragma once

#include "common/config.h"

#include <stdbool.h>

struct supervisor_options {
    const struct config *config;
    const char *folder; // of the executables berth-trust, …
};

// Runs until stopped by a signal or until the start failed. Returns the exit code.
int supervisor_run(const struct supervisor_options *options);
