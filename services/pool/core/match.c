#include "services/pool/core/match.h"

#include <string.h>

// Which step of licenses.md a license that serves belongs to.
enum step { STEP_EXACT, STEP_MORE_MODULES, STEP_NEWER_VERSION, STEP_PROGRESS_FOR_STEADY };

bool match_edition_covers(enum edition license, enum edition requested, struct version version)
{
    static const struct version progress_serves_steady = {{24, 11, 0, 0}};
    if (license == requested || license == EDITION_STEADY_PROGRESS)
        return true;
    return license == EDITION_PROGRESS && requested == EDITION_STEADY &&
           version_compare(version, progress_serves_steady) >= 0;
}

enum match_reason match_terms_check(const struct match_terms *license,
                                    const struct match_terms *request)
{
    if (!match_edition_covers(license->edition, request->edition, request->version))
        return MATCH_EDITION;
    if (version_compare(license->version, request->version) < 0)
        return MATCH_VERSION_OLDER;
    if (request->modules & ~license->modules)
        return MATCH_MODULES_MISSING;
    return MATCH_SERVES;
}

unsigned match_rank(const struct match_terms *license, const struct match_terms *request)
{
    unsigned surplus = modules_count(license->modules & (module_set)~request->modules);
    bool both = license->edition != request->edition && license->edition == EDITION_STEADY_PROGRESS;
    enum step step;
    if (license->edition != request->edition && !both)
        step = STEP_PROGRESS_FOR_STEADY;
    else if (version_compare(license->version, request->version) != 0)
        step = STEP_NEWER_VERSION;
    else
        step = surplus ? STEP_MORE_MODULES : STEP_EXACT;
    return (unsigned)step << 5 | (unsigned)both << 4 | surplus;
}

char *match_reason_format(enum match_reason reason, module_set missing,
                          char buf[static MATCH_REASON_BYTES])
{
    static const char *const names[MATCH_REASONS] = {
        [MATCH_SERVES] = "",
        [MATCH_SERVER_ID] = "server-id",
        [MATCH_FEATURE] = "feature",
        [MATCH_EXPIRED] = "expired",
        [MATCH_NOT_YET_VALID] = "not-yet-valid",
        [MATCH_EDITION] = "edition",
        [MATCH_VERSION_OLDER] = "version-older",
        [MATCH_MODULES_MISSING] = "modules-missing:",
        [MATCH_ALL_BORROWED] = "all-borrowed",
        [MATCH_ALL_IN_USE] = "all-in-use",
    };
    size_t len = strlen(names[reason]);
    memcpy(buf, names[reason], len + 1); // the longest, with all letters, has 27 bytes
    if (reason == MATCH_MODULES_MISSING)
        modules_format(missing, buf + len);
    return buf;
}
