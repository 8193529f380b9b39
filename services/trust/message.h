// The sentences for people that go with a verdict.
#pragma once

#include "services/trust/core/verdict.h"

#include <stddef.h>

struct message_facts {
    const char *server_id;
    const char *where;      // who confirms the license
    const char *last_error; // of the last failed check; "" if none failed
};

// What is wrong and what to do; "" when valid.
void message_write(char *out, size_t cap, const struct verdict_view *view,
                   const struct message_facts *facts);
