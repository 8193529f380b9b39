// The gateway as a daemon: see daemon_def in common/daemon.h for what each of these is.
#pragma once

#include "common/config.h"
#include "common/loop.h"

int gateway_start(struct loop *loop, const struct config *config, void **service,
                  struct error *err);
int gateway_reload(void *service, const struct config *config, struct error *err);
void gateway_stop(void *service);
void gateway_free(void *service);
bool gateway_ready(void *service);
