// Who may come in: the origin rule, tokens, and the record of everyone who was refused.
#pragma once

#include "common/http_server.h"
#include "services/gateway/gateway.h"

// Counts and logs a refusal at HTTP level; `reason` is a constant. Also http_server's `refused`.
void access_refused(void *gateway, const char *reason, const char *address);
// Logs only, at most ten lines a second of one kind. method may be NULL.
void access_log(struct gateway *g, const char *kind, const char *method, const char *address);

// The rule about Origin. False: 403 was answered.
bool access_origin(struct gateway *g, const struct http_server *server, struct http_request *r);
// application/json. False: 415 was answered.
bool access_content_type(struct gateway *g, struct http_request *r);

bool access_is_admin(const struct gateway *g, const struct http_request *r);
bool access_may_borrow(const struct gateway *g, const struct http_request *r);
