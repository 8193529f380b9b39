// A loop that turns until a condition holds.
#pragma once

#include "common/loop.h"

#define LOOP_WAIT_MS 10000

// Asks after each turn, and every 20 ms, until done says true. Fails the test after LOOP_WAIT_MS.
void loop_wait(struct loop *loop, bool (*done)(void *ctx), void *ctx);
