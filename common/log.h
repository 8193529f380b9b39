// One event a line to stdout (operations.md, "Logs"): time, level, process, event name, key=value;
// as text for people or JSON for machines. The event name is stable and documented
// ("license.refused"); a field with key "msg" is the sentence for people. Thread-safe.
// Never log a secret: session IDs and tokens through LOG_ID, which shows the first 6 characters.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_field {
    const char *key;
    enum { LOG_FIELD_STR, LOG_FIELD_INT, LOG_FIELD_ID } kind;
    const char *str;
    int64_t num;
};
#define LOG_S(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_STR, .str = (v)})
#define LOG_I(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_INT, .num = (v)})
#define LOG_ID(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_ID, .str = (v)})

// Before the first call: text, info, stdout, process "berth". path NULL: stdout.
// Returns 0 or -errno when the file cannot be opened.
int log_init(const char *process, enum log_level level, enum log_format format, const char *path);
int log_reopen(void); // after rotation (SIGHUP)

void log_write(enum log_level level, const char *event, const struct log_field *fields);

#define log_at(level, event, ...)                                                                  \
    log_write((level), (event), (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){.key = NULL}})
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
