// Whose signature on a ledger is believed: that of a server license of this server ID, issued by
// the vendor's CA, even if it has expired since.
#pragma once

#include "common/crypto.h"
#include "services/borrow/core/ledger.h"

struct ledger_verifier {
    const struct crypto_ca *vendor_ca;
    const char *server_id; // also of the ledger itself
};

// ledger_open with a real verifier, and the ledger's own server ID compared.
int ledger_read(struct ledger *out, struct arena *arena, const struct ledger_verifier *verifier,
                const struct buf *ledger, const struct buf *signature, struct error *err);
