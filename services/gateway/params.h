// Parameters of a call: from a JSON object into the protobuf message that carries the call, by
// table.
#pragma once

#include "common/core/arena.h"

#include <cjson/cJSON.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

enum param_type {
    PARAM_STRING,     // char *; min and max in characters
    PARAM_EDITION,    // char *; Steady or Progress
    PARAM_VERSION,    // char *
    PARAM_MODULES,    // char *
    PARAM_NONCE,      // ProtobufCBinaryData with has_; base64 of min to max bytes
    PARAM_TIME_FROM,  // int64_t, seconds; has_ if optional
    PARAM_TIME_UNTIL, // int64_t
    PARAM_CLIENT,     // Berth__ClientInfo *
};

#define PARAM_NO_HAS ((size_t)-1)

struct param_def {
    const char *name;
    enum param_type type;
    bool required;
    unsigned min, max;
    size_t offset; // of the member in the message
    size_t has;    // of its has_ member, or PARAM_NO_HAS
};

// Of -32602.
struct param_fault {
    const char *field;
    const char *reason;
};

// object NULL: no parameters were given. message is initialised; strings point into the tree and
// the arena. 0, or -EINVAL with *fault (in the arena).
int params_read(struct arena *arena, const struct param_def *defs, size_t len, const cJSON *object,
                void *message, struct param_fault *fault);
