// What the backend must remember, in SQLite: one row a server, and what is revoked. The commands
// work on the same file while `serve` runs. Errors are -EIO with the text of SQLite.
#pragma once

#include "common/core/error.h"
#include "tools/berth-cloud/ledger_head.h"
#include "tools/berth-cloud/lease.h"

#include <stddef.h>

#define SERVER_ID_MAX 64
#define REVOKED_KEYS_MAX 256

struct store;

struct store_server {
    char id[SERVER_ID_MAX + 1];
    bool revoked;
    struct lease lease;
    struct ledger_head head;
};

// What is to be said of a server in a word.
enum store_status { STORE_FREE, STORE_IN_USE, STORE_SILENT, STORE_REVOKED, STORE_STATUSES };
enum store_status store_status(const struct store_server *server, int64_t now_s,
                               const struct lease_policy *policy);
const char *store_status_name(enum store_status status);

int store_open(struct store **out, const char *path, bool create, struct error *err);
void store_close(struct store **store);

int store_begin(struct store *store, struct error *err); // takes the right to write
int store_commit(struct store *store, struct error *err); // durable when it returns 0
void store_rollback(struct store *store);

// Within a transaction. A server that is not known yet reads as one that nobody holds.
int store_read(struct store *store, const char *id, struct store_server *out, struct error *err);
int store_write(struct store *store, const struct store_server *server, struct error *err);
int store_revoke(struct store *store, const char *id, bool revoked, int64_t now_s,
                 struct error *err); // > 0: it was like this already
int store_revoke_key(struct store *store, const char *key_id, bool revoked, struct error *err);
// Fills ids, returns how many, or negative.
int store_revoked_keys(struct store *store, char ids[REVOKED_KEYS_MAX][17], struct error *err);
int store_each(struct store *store, void (*fn)(void *ctx, const struct store_server *server),
               void *ctx, struct error *err);
