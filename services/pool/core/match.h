// The matching rule (licenses.md, "Matching") for one license and one request. Pure arithmetic;
// which licenses have a free seat and which is taken first among equals is
// services/pool/core/plan.c.
#pragma once

#include "common/core/license_block.h"

#include <stdbool.h>
#include <stdint.h>

// What a license offers, and what a request asks for.
struct match_terms {
    struct version version;
    enum edition edition;
    module_set modules;
};

static inline unsigned modules_count(module_set modules)
{
    unsigned n = 0;
    for (unsigned rest = modules; rest; rest &= rest - 1)
        n++;
    return n;
}

// Why a license does not serve, in the order in which the reasons are looked for.
enum match_reason {
    MATCH_SERVES = 0,
    MATCH_SERVER_ID,       // "server-id"
    MATCH_FEATURE,         // "feature"
    MATCH_EXPIRED,         // "expired"
    MATCH_NOT_YET_VALID,   // "not-yet-valid"
    MATCH_EDITION,         // "edition"
    MATCH_VERSION_OLDER,   // "version-older"
    MATCH_MODULES_MISSING, // "modules-missing:<letters>"
    MATCH_ALL_BORROWED,    // "all-borrowed"
    MATCH_ALL_IN_USE,      // "all-in-use"
    MATCH_REASONS
};

// The edition of a license covers the requested one for an application of that version.
bool match_edition_covers(enum edition license, enum edition requested, struct version version);

// MATCH_SERVES, or the first of edition, version-older and modules-missing that applies.
enum match_reason match_terms_check(const struct match_terms *license,
                                    const struct match_terms *request);

// For a license that serves: its place in the order of preference before versions are looked at
// (step, precise edition, surplus modules), less is better. Equal ones: the older version, then the
// earlier expiry, then the lesser UUID. Below 256.
unsigned match_rank(const struct match_terms *license, const struct match_terms *request);

#define MATCH_REASON_BYTES 32
// The reason as in api.md; missing is used for MATCH_MODULES_MISSING only. Returns buf.
char *match_reason_format(enum match_reason reason, module_set missing,
                          char buf[static MATCH_REASON_BYTES]);
