// The backend's side of trust.md's JSON: reads a request, decides, writes the answer.
#pragma once

#include "common/core/buf.h"
#include "tools/berth-cloud/store.h"

#define TOKEN_MAX 1024

struct cloud_request {
    char server_id[SERVER_ID_MAX + 1];
    struct lease_claim lease; // its token points to token_hash
    uint8_t token_hash[LEASE_HASH_BYTES];
    int64_t boot_age_s; // of lease.place
    struct ledger_claim ledger;
};

struct cloud_policy {
    struct lease_policy lease;
    unsigned next_check_s; // what servers are told
};

// server_id is "" where the request names none. 0, or -EINVAL with what is wrong.
int cloud_request_parse(struct cloud_request *out, const char *text, size_t len,
                        struct error *err);
bool cloud_server_id_valid(const char *id);
// Within a transaction. Appends the JSON; *outcome is "ok" or the reason of the refusal. 0 or
// negative (nothing is to be answered but a fault).
int cloud_validate(struct store *store, struct cloud_request *request, bool expired,
                   const struct cloud_policy *policy, int64_t now_s, struct buf *answer,
                   const char **outcome, struct error *err);
int cloud_goodbye(struct store *store, struct cloud_request *request,
                  const struct cloud_policy *policy, int64_t now_s, struct buf *answer,
                  const char **outcome, struct error *err);
