// Two classes of error (after dbus-broker): a function that can fail returns int; 0 is success,
// negative (-errno) is fatal to the caller's step and is forwarded, positive is an outcome that
// the direct caller handles (each such function names its own enum). The text for people travels
// beside it in a struct error.
#pragma once

#include <stdarg.h>

struct error {
    char text[4096]; // room for all faults of a configuration file
};

// Writes the text (truncated to fit). err may be NULL. Returns nothing, so that it composes:
//     return error_set(err, "…"), -EINVAL;
void error_set(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Puts "prefix: " before the text that is there. err may be NULL.
void error_prefix(struct error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
