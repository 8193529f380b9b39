// Bearer tokens for administration and for borrowing (api.md, "Who may borrow"). Only a digest
// stays in memory.
#pragma once

#include "common/core/error.h"

#include <stdbool.h>
#include <stdint.h>

struct token {
    bool set;
    uint8_t digest[32];
};

// Reads the token of a file. If there is no such file, one with a random token is made (mode 0600)
// and its path logged; `name` is the configuration key for messages. 0 or -errno with err set.
int token_load(struct token *out, const char *path, const char *name, struct error *err);
// Takes the same time whatever `given` is. False if given is NULL or the token is not set.
bool token_matches(const struct token *token, const char *given);
