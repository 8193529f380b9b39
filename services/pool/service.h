// The pool service: what connects license files, the verdict and the RPC calls to the core.
#pragma once

#include "common/config.h"
#include "common/loop.h"

// For struct daemon_def (common/daemon.h); the service is a struct pool_service.
int pool_service_start(struct loop *loop, const struct config *config, void **service,
                       struct error *err);
int pool_service_reload(void *service, const struct config *config, struct error *err);
void pool_service_free(void *service);
int pool_service_health(const struct config *config, bool alive);
bool pool_service_ready(void *service);
