// Is this text JSON that we accept? RFC 8259 to the letter, and stricter where parsers differ:
// UTF-8 only, no NUL, no byte order mark, no duplicate key in an object, no lone surrogate escape,
// no text behind the value, limited depth. cJSON's parser lets all of these through.
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct json_span {
    const char *p; // NULL: there is none
    size_t len;
};

// The raw bytes of the member "id" of the top-level object, or of each element of a top-level array
// (p NULL if the element is no object or has no "id"), so that JSON-RPC can echo them byte for
// byte.
struct json_ids {
    struct json_span *items; // the caller's
    size_t cap;
    size_t len; // elements seen; may exceed cap, those are not stored
    bool batch; // the top level is an array
};

// The inside of a string of checked text with its escapes undone, as UTF-8; out holds len bytes at
// least. Returns the length.
size_t json_unescape(const char *p, size_t len, char *out);

// 0, or -EINVAL with *why (a constant text) and *at (offset of the fault). ids may be NULL.
int json_check(const char *text, size_t len, unsigned max_depth, struct json_ids *ids,
               const char **why, size_t *at);
