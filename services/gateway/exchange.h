// One HTTP request with JSON-RPC in it: reads the call or the batch, sends all calls on at once,
// collects the answers, and answers the request when the last one is there.
#pragma once

#include "common/http_server.h"
#include "services/gateway/methods.h"

// Answers r, now or later. authorised: may call the methods of the table at all; if not, each call
// gets 1009.
void exchange_start(struct gateway *g, struct http_request *r, const struct method_table *table,
                    bool authorised);
// Frees those kept for reuse. None is in use any more.
void exchange_free_spare(struct gateway *g);
