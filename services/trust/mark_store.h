// The clock's mark over restarts: a small text file in trust.state_dir. Whoever deletes it loses
// nothing but this protection.
#pragma once

#include "common/core/error.h"
#include "common/core/times.h"

#define MARK_FILE "clock-mark"

// 1: there is none. Negative: it cannot be read, or is damaged; err says which file.
int mark_load(struct wall_time *out, const char *state_dir, struct error *err);
int mark_save(struct wall_time at, const char *state_dir, struct error *err);
