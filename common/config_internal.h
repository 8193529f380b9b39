// Shared by config.c (the table and its types) and config_yaml.c (walking the file).
#pragma once

#include "common/config.h"
#include "common/core/buf.h"

enum config_type {
    CONFIG_STRING,
    CONFIG_PATH,
    CONFIG_BOOL,
    CONFIG_UINT,
    CONFIG_PORT,
    CONFIG_DURATION,
    CONFIG_STRINGS,
    CONFIG_PATHS,
    CONFIG_LEVEL,
    CONFIG_FORMAT,
    CONFIG_PRESENT,
    CONFIG_ADDRESS, // host:port
    CONFIG_URL,     // ipc:///path or tcp://host:port
};

struct config_key {
    const char *path;
    enum config_type type;
    size_t offset; // in struct config
    const char *fallback, *min, *max;
    bool reloadable;
    const char *description;
};

extern const struct config_key config_keys[];
extern const size_t config_keys_len;

struct config_reader {
    struct config *config;
    const char *file; // as given, for messages
    const char *base; // folder that written paths resolve against
    struct buf faults;
    unsigned faults_len;
    bool *seen;    // per key: written in the file or the environment
    size_t *lines; // per key: where in the file, or 0
    bool broken; // the file could not be read to its end
};

// line 0: not from a line of the file.
void config_fault(struct config_reader *r, size_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Sets one scalar (or one more item of a list) from its text. Faults are reported under `where`.
void config_set(struct config_reader *r, const struct config_key *key, const char *text,
                size_t line);
void config_append(struct config_strings *list, char *value); // takes value over
void config_clear_list(struct config_reader *r, const struct config_key *key);

bool config_is_text(enum config_type type); // its member is one char *
bool config_value_equal(const struct config_key *key, const struct config *a,
                        const struct config *b);
void *config_must(void *p); // memory is there, or the process ends

// Walks the text of the file. Faults go to the reader.
void config_yaml_read(struct config_reader *r, const char *text, size_t len);
