// What the gateway reads from HTTP headers (api.md, "HTTP rules"), as pure functions of their text.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// application/json, alone or with charset=utf-8. NULL: absent, so false.
bool content_type_is_json(const char *value);

// The host of an origin "scheme://host[:port]", without the brackets of an IPv6 address, as a part
// of value. False if it is none ("null" above all).
bool origin_host(const char *value, const char **host, size_t *len);
// Is the origin the one that an entry of allowed_origins means: a host, or a whole origin?
bool origin_is(const char *value, const char *allowed);

// The token of "Bearer TOKEN", or NULL.
const char *bearer_token(const char *value);
