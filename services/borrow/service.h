// The borrow service: what main.c hands to daemon_main (common/daemon.h says when each is called).
#pragma once

#include "common/config.h"
#include "common/loop.h"

int borrow_start(struct loop *loop, const struct config *config, void **service, struct error *err);
int borrow_reload(void *service, const struct config *config, struct error *err);
void borrow_free(void *service);
int borrow_health(const struct config *config, bool alive);
bool borrow_ready(void *service);
