// One look at the search paths: which license files are there and what is in them. Files that did
// not change since the last look are not read again. Blocking: the watcher runs it on a thread.
#pragma once

#include "common/license_load.h"

#define SCAN_FILES_MAX 100000
#define SCAN_FOLDERS_MAX 1024

struct scan_file {
    char *path;
    struct stat st;          // of what was read; st_ino 0: could not be opened
    struct license_set *set; // NULL: still being written when seen for the first time
    int64_t unsettled_ms;    // CLOCK_REALTIME at which it was first seen in motion; 0: at rest
    bool racy;               // changed so shortly before it was read that the times cannot tell
};

struct scan {
    struct scan_file *files; // sorted by path
    size_t files_len;
    char **folders; // in which something may happen that changes the result
    size_t folders_len;
    unsigned refusals[LICENSE_REFUSALS]; // that were not there in the scan before
    bool changed; // differs from the scan before
    bool again;   // a file is still in motion: look again soon
};

struct scan_options {
    char *const *search_paths; // absolute
    size_t search_paths_len;
    const struct license_keys *keys;
    bool reload; // the keys are other ones: check everything again
};

// old (may be NULL) is consumed: what is unchanged moves into the new scan. Logs license.loaded and
// license.refused for what is new.
struct scan *scan_run(struct scan *old, const struct scan_options *options);
void scan_free(struct scan **scan);
