// The two HTTPS listeners: for clients (22022) and for administrators (22023), with their routes.
#pragma once

#include "services/gateway/gateway.h"

// 0 or -errno with err set; what was opened is in g and is closed by whoever frees g.
int listeners_start(struct gateway *g, struct error *err);
// Certificates and limits of a new configuration; g->config is still the old one. Both listeners,
// or neither: on error nothing has changed.
int listeners_reload(struct gateway *g, const struct config *config, struct error *err);
