// Signatures with the server's key for the other processes, each with a label of its own, so that
// what was signed for one purpose is worth nothing for another (trust.md, "Signing").
#pragma once

#include "services/trust/bulletin.h"

#define SIGN_MESSAGE_BYTES_MAX (64 * 1024)
#define DELEGATION_S 600

struct signer {
    const struct trust_source_def *def;
    struct trust_source *source;
    const struct bulletin *bulletin;
};

// Whose call it is was checked. Each answers exactly once, now or later.
void signer_sign(const struct signer *s, const Berth__SignCall *call,
                 Berth__SignReply_Closure closure, void *closure_data);
void signer_delegate(const struct signer *s, const Berth__DelegateCall *call,
                     Berth__DelegateReply_Closure closure, void *closure_data);
