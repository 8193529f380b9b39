// The backend's answer, strictly: anything that is not exactly as trust.md says is no answer.
#pragma once

#include "common/core/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLOUD_TOKEN_MAX 1024
#define CLOUD_REVOKED_KEYS_MAX 256
#define CLOUD_ANSWER_BYTES_MAX (64 * 1024)
#define CLOUD_SEQUENCE_MAX 9007199254740992 // the greatest integer that JSON numbers carry exactly

// A head of the borrow ledger.
struct cloud_ledger {
    bool present;
    uint64_t sequence; // at most CLOUD_SEQUENCE_MAX
    uint8_t hash[32];
    char epoch[33]; // 32 hex digits; "": the backend does not say (it is an extension of ours)
};

struct cloud_answer {
    bool ok;            // else refused
    const char *reason; // refused: a constant of api.md; ok: ""
    uint32_t next_check_s;
    char token[CLOUD_TOKEN_MAX + 1]; // never empty when ok
    struct cloud_ledger ledger; // as the backend knows it
    char revoked_key_ids[CLOUD_REVOKED_KEYS_MAX][17];
    size_t revoked_key_ids_len;
};

// 0, or -EINVAL with what is wrong.
int cloud_answer_parse(struct cloud_answer *out, const char *text, size_t len, struct error *err);
// Printable ASCII without blanks, 1 to CLOUD_TOKEN_MAX characters.
bool cloud_token_valid(const char *token, size_t len);
