// `berth-cloud serve`: the backend's HTTPS service.
#pragma once

#include <stdint.h>

struct serve_options {
    const char *dir;    // cloud.pem, cloud.key, vendor-ca.pem
    const char *listen; // HOST:PORT
    const char *state;  // SQLite file
    const char *ops;    // HOST:PORT of health and metrics, or NULL
    int64_t silence_s;
    unsigned next_check_s;
};

// Until SIGTERM or SIGINT. Returns the exit code.
int serve_run(const struct serve_options *options);
