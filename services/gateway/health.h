// /health/protection, what makes the gateway ready, and the `health` argument of the binary.
#pragma once

#include "common/http_server.h"
#include "services/gateway/gateway.h"

// {valid_license, state, …} of a verdict; NULL: none is fresh.
void health_print_protection(struct buf *out, const Berth__Verdict *verdict);
void health_protection(struct http_request *r, void *gateway);
size_t health_conditions(void *gateway, struct ops_condition *out, size_t max);

// Asks the running gateway over TLS, on its own port of this host. 0: ready (alive), 1: not.
int health_command(const struct config *config, bool alive);
