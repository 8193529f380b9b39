// Where trust runs, for the backend to tell a restart from a copy of the disk: the kernel's boot
// and the folder of the state, both as hashes that say nothing else. A copied folder is another
// one, and a copy on another machine sees another boot.
#pragma once

#include <stdbool.h>

struct place {
    bool known; // where the kernel hides it from us, the backend goes by the token alone
    char boot[33], folder[33]; // hex
};

void place_read(struct place *out, const char *folder);
