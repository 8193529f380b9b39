// The trust service: the verdict, from the checks of a source to those who watch it.
#pragma once

#include "common/config.h"
#include "common/loop.h"

struct error;

// For struct daemon_def (common/daemon.h); the service is a struct trust.
int trust_start(struct loop *loop, const struct config *config, void **service, struct error *err);
int trust_reload(void *service, const struct config *config, struct error *err);
void trust_stop(void *service);
void trust_free(void *service);
int trust_health(const struct config *config, bool alive);
bool trust_ready(void *service);
