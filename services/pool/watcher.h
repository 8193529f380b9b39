// Keeps an eye on the license files: inotify where it works, a look every 10 s everywhere. A change
// is told within a second or so. Looking and verifying happen on a thread of their own, so that
// 10,000 files do not hold up the sessions.
#pragma once

#include "common/loop.h"
#include "services/pool/scan.h"

struct watcher;

// changed(ctx, scan) runs on the loop after a look that found something new, and after the first
// one with the given keys. The scan lives until it returns. Nothing is looked at before
// watcher_set_keys. vendor_ca (may be NULL) must outlive the watcher.
int watcher_new(struct watcher **out, struct loop *loop, char *const *search_paths,
                size_t search_paths_len, const struct crypto_ca *vendor_ca,
                void (*changed)(void *ctx, const struct scan *scan), void *ctx);
void watcher_free(struct watcher **watcher);
// Other keys or another server ID: everything is checked again. Copies what it is given;
// keys->vendor_ca and keys->now are not used.
void watcher_set_keys(struct watcher *w, const struct license_keys *keys);
