// The verdict as the other processes hear it: the message, and what its pointers point to.
#pragma once

#include "common/server_license.h"
#include "services/trust/message.h"
#include "services/trust/source.h"
#include "trust.pb-c.h"

struct bulletin {
    Berth__Verdict verdict; // points into this struct, and to the license
    char reason[32], message[1024];
    char revoked[CLOUD_REVOKED_KEYS_MAX][17];
    char *revoked_list[CLOUD_REVOKED_KEYS_MAX];
    char *addon_list[SERVER_LICENSE_ADDONS_MAX];
    ProtobufCBinaryData key_list[SERVER_LICENSE_KEYS_MAX];
    bool clock_warned;
};

// `license` stays where it is, and as it is until bulletin_license() is called.
void bulletin_init(struct bulletin *b, const struct server_license *license);
void bulletin_license(struct bulletin *b, const struct server_license *license); // a renewed one
// Each says whether it changed what is to be told; the generation is the caller's to raise.
bool bulletin_state(struct bulletin *b, const struct verdict_view *view, const char *where,
                    const char *last_error);
bool bulletin_skew(struct bulletin *b, const struct verdict_view *view);
bool bulletin_revoked(struct bulletin *b, const struct trust_result *result);
bool bulletin_may_issue(const struct bulletin *b);
bool bulletin_has_addon(const struct bulletin *b, const char *addon);
