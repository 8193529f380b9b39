// The rules of the JSON-RPC 2.0 envelope (api.md): what is a call, what a notification, what is
// neither, and how answers look. Works on a tree that passed the strict check (common/json.h).
#pragma once

#include "common/core/buf.h"
#include "common/core/json_check.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#define JSONRPC_BATCH_MAX 64

#define JSONRPC_PARSE_ERROR (-32700)
#define JSONRPC_INVALID_REQUEST (-32600)
#define JSONRPC_METHOD_NOT_FOUND (-32601)
#define JSONRPC_INVALID_PARAMS (-32602)
#define JSONRPC_INTERNAL_ERROR (-32603)

struct jsonrpc_call {
    struct json_span id; // to be echoed byte for byte; "null" if the call has none that is usable
    const char *method;  // NULL if the envelope is bad
    const cJSON *params; // an object; NULL: absent
    const char *why;     // what is wrong, when code is not 0
    int code;            // 0, JSONRPC_INVALID_REQUEST, JSONRPC_INVALID_PARAMS
    bool notification;   // gets no answer (a bad envelope always gets one)
};

// Judges one call. raw_id are the bytes of its member "id" (p NULL: it has none). Pointers into the
// tree and into raw_id's text.
void jsonrpc_read(struct jsonrpc_call *out, const cJSON *item, struct json_span raw_id);

// How many calls a text holds: 1 for a single one; for a batch 1 … JSONRPC_BATCH_MAX. 0: the text
// as a whole is an invalid request, *why says so.
size_t jsonrpc_count(const struct json_ids *ids, const char **why);

// {"jsonrpc":"2.0","id":…,"result": or "error": – the value and a closing brace are the caller's.
void jsonrpc_begin_result(struct buf *out, struct json_span id);
void jsonrpc_begin_error(struct buf *out, struct json_span id);
