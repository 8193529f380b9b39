// The continuation token on disk: who has it continues as the holder of the server license after a
// crash (trust.md). A file of trust.state_dir, mode 0600.
#pragma once

#include "common/core/error.h"
#include "services/trust/cloud_answer.h"

struct token_store;

// Makes the folder (0700) if it is absent and reads the token of this server; a file that is
// damaged or of another server counts as none (*ignored is set). 0 or -errno.
int token_store_new(struct token_store **out, const char *state_dir, const char *server_id,
                    bool *ignored, struct error *err);
void token_store_free(struct token_store **store);
const char *token_store_get(const struct token_store *store); // "" if there is none
// 0: it is on disk, and get() gives it. -errno: the old one is, and get() gives that.
int token_store_set(struct token_store *store, const char *token, struct error *err);
