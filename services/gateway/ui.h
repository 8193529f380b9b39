// The web page /ui/borrow and its assets, which are part of the binary (ui/assets.def).
#pragma once

#include "common/http_server.h"

#include <stddef.h>

struct ui_asset {
    const char *path, *type;
    const unsigned char *data;
    size_t len;
};

// Generated from ui/assets.def; ends with an entry without a path.
extern const struct ui_asset ui_assets[];

// Handlers of the licenses listener; gateway is a struct gateway. Each obeys the rule about Origin.
// The asset of the request's path, which must be one of ui_assets.
void ui_asset(struct http_request *r, void *gateway);
// What the page must know of the configuration, as it is now: the limits of a borrow, whether it
// takes a token, and what time the server has.
void ui_limits(struct http_request *r, void *gateway);
