// What a process gives up that it will never need, so that who takes it over has little of it.
#pragma once

#include <stdbool.h>

// Before any thread is made: no new privileges by a program with more rights, and of root's
// capabilities only reading files of others and ports below 1024. holds_keys: besides, no core dump
// and no other process of the same user may look inside.
void harden_begin(bool holds_keys);

// After the start, all threads: no other program, no debugging, mounting, modules and the like.
// False where the kernel cannot do that.
bool harden_system_calls(void);
