// Host IDs that a borrowed license is bound to (borrow.md, "Rules"): a MAC address or a dongle ID.
#pragma once

#include "common/core/error.h"

#include <stddef.h>

#define HOSTID_MAX 64

// Writes the stored form: a MAC address in lower case with colons, a dongle ID as it is.
// 0 or -EINVAL with what is wrong in err (may be NULL); out is then "".
int hostid_parse(const char *text, size_t len, char out[static HOSTID_MAX + 1],
                 struct error *err);
