// JSON from outside: strict check (common/core/json_check.h: UTF-8, no NUL, no duplicate keys, no
// lone surrogates, limited depth, nothing behind it), then a tree of cJSON's nodes in an arena.
// Nobody calls cJSON_Parse, which lets all of that through.
#pragma once

#include "common/core/arena.h"
#include "common/core/error.h"
#include "common/core/json_check.h"

#include <cjson/cJSON.h>

#define JSON_DEPTH_MAX 16

// NULL with err set if the text is not acceptable. The tree lives in the arena: never cJSON_Delete.
cJSON *json_parse(struct arena *arena, const char *text, size_t len, struct error *err);
// The same, and tells where the top-level ids stand (json_check.h). ids may be NULL.
cJSON *json_parse_ids(struct arena *arena, const char *text, size_t len, struct json_ids *ids,
                      struct error *err);
