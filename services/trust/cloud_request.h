// What trust asks the backend (trust.md, "Cloud backend"). `epoch` and `previous` of the ledger and
// `place` are ours: a backend need not know them.
#pragma once

#include "common/core/buf.h"
#include "services/trust/cloud_answer.h"
#include "services/trust/place.h"

// The borrow ledger that the server has, as the backend is told it.
struct trust_ledger {
    struct cloud_ledger head;
    bool has_previous;
    uint8_t previous[32]; // the hash of the ledger that `head` follows
};

struct cloud_request {
    const char *server_id, *token;
    int64_t uptime_s;
    const struct trust_ledger *ledger;
    const struct place *place;
    int64_t boot_age_s;
};

void cloud_request_write(struct buf *out, const struct cloud_request *request);
