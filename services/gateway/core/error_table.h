// The table "Errors" of api.md: what belongs to each code.
#pragma once

#include <stddef.h>

// Members of error.data besides the name.
enum error_data {
    ERROR_DATA_FIELD = 1,
    ERROR_DATA_REASON = 2,
    ERROR_DATA_CONSIDERED = 4, // with the number of those left out
    ERROR_DATA_RETRY_AFTER = 8,
    ERROR_DATA_SERVICE = 16,
    ERROR_DATA_LIMIT = 32,
    ERROR_DATA_PERIOD = 64, // from, until
};

struct error_kind {
    int code;
    const char *name;    // error.data.name; NULL: the code is JSON-RPC's own and has none
    const char *label;   // of metrics
    unsigned data;       // enum error_data
    int http_status;     // of a single call
    const char *message; // when whoever refused gave none
};

#define ERROR_KINDS 16

// Never NULL: a code that is not in the table is an internal error.
const struct error_kind *error_kind_of(int code);
