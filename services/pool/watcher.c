#include "services/pool/watcher.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#define DEBOUNCE_MS 120
#define AGAIN_MS 200
#define PERIOD_MS 10000
#define EVENTS                                                                                     \
    (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE | IN_ATTRIB |            \
     IN_DELETE_SELF | IN_MOVE_SELF)

struct watch {
    int wd;
    char *folder;
    bool search_path; // else anything in it may matter, whatever its name
};

struct key_set {
    uint8_t (*trusted)[ED25519_PUBLIC_BYTES];
    char **revoked;
    struct license_keys view;
    char server_id[65];
    bool has_server_id;
};

struct watcher {
    struct loop *loop;
    char **search_paths;
    size_t search_paths_len;
    const struct crypto_ca *vendor_ca;
    void (*changed)(void *ctx, const struct scan *scan);
    void *ctx;

    int inotify_fd; // -1: there is none, the period alone has to do
    struct loop_fd fd_handle;
    struct watch *watches;
    size_t watches_len;
    bool watch_failed;

    struct loop_timer timer;
    bool dirty;  // something happened since the look under way began
    bool reload; // the keys changed since
    struct key_set keys;
    bool has_keys;

    // While `looking` these belong to the thread, otherwise to the loop.
    bool looking;
    pthread_t thread;
    struct loop_post done;
    struct scan *scan;
    struct scan_options options;
    struct key_set thread_keys;
    struct license_keys thread_view;
};

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

// ---- keys ----

static void keys_fini(struct key_set *k)
{
    for (size_t i = 0; i < k->view.revoked_len; i++)
        free(k->revoked[i]);
    free(k->revoked);
    free(k->trusted);
    *k = (struct key_set){0};
}

static void keys_copy(struct key_set *k, const struct license_keys *from)
{
    *k = (struct key_set){.view = {.trusted_len = from->trusted_len,
                                   .revoked_len = from->revoked_len}};
    k->trusted = must(calloc(from->trusted_len + 1, sizeof *k->trusted));
    if (from->trusted_len)
        memcpy(k->trusted, from->trusted, from->trusted_len * sizeof *k->trusted);
    k->revoked = must(calloc(from->revoked_len + 1, sizeof *k->revoked));
    for (size_t i = 0; i < from->revoked_len; i++)
        k->revoked[i] = must(strdup(from->revoked[i]));
    if (from->server_id) {
        k->has_server_id = true;
        snprintf(k->server_id, sizeof k->server_id, "%s", from->server_id);
    }
}

static struct license_keys keys_view(const struct key_set *k, const struct watcher *w)
{
    return (struct license_keys){
        .trusted = (const uint8_t(*)[ED25519_PUBLIC_BYTES])k->trusted,
        .trusted_len = k->view.trusted_len,
        .revoked = (const char *const *)k->revoked,
        .revoked_len = k->view.revoked_len,
        .vendor_ca = w->vendor_ca,
        .server_id = k->has_server_id ? k->server_id : NULL,
        .now = clock_wall(),
    };
}

// ---- looking ----

static void *look(void *data)
{
    struct watcher *w = data;
    w->scan = scan_run(w->scan, &w->options);
    loop_post(w->loop, &w->done);
    return NULL;
}

static void look_start(struct watcher *w)
{
    keys_fini(&w->thread_keys);
    struct license_keys view = keys_view(&w->keys, w);
    keys_copy(&w->thread_keys, &view);
    w->thread_view = keys_view(&w->thread_keys, w);
    w->options = (struct scan_options){
        .search_paths = w->search_paths,
        .search_paths_len = w->search_paths_len,
        .keys = &w->thread_view,
        .reload = w->reload,
    };
    w->reload = w->dirty = false;
    int r = pthread_create(&w->thread, NULL, look, w);
    if (r) {
        log_error("licenses.scan_failed", LOG_S("msg", strerror(r)));
        w->reload = w->options.reload;
        loop_timer_arm(w->loop, &w->timer, mono_after(loop_now(w->loop), 1000));
        return;
    }
    w->looking = true;
}

// Looks in delay_ms at the latest.
static void look_soon(struct watcher *w, int64_t delay_ms)
{
    if (!w->has_keys)
        return;
    if (w->looking) {
        w->dirty = true;
        return;
    }
    struct mono_time when = mono_after(loop_now(w->loop), delay_ms);
    if (!w->timer.heap_index || when.ms < w->timer.when.ms)
        loop_timer_arm(w->loop, &w->timer, when);
}

static void timer_fired(void *ctx)
{
    struct watcher *w = ctx;
    if (!w->looking)
        look_start(w);
}

// ---- inotify ----

static bool is_search_path(const struct watcher *w, const char *folder)
{
    for (size_t i = 0; i < w->search_paths_len; i++) {
        if (!strcmp(w->search_paths[i], folder))
            return true;
    }
    return false;
}

static void watches_free(struct watch *watches, size_t len)
{
    for (size_t i = 0; i < len; i++)
        free(watches[i].folder);
    free(watches);
}

static bool watches_have(const struct watch *watches, size_t len, int wd)
{
    for (size_t i = 0; i < len; i++) {
        if (watches[i].wd == wd)
            return true;
    }
    return false;
}

// Makes the watches those of the scan's folders. True: there is one that was not there before, so
// something may have happened in it unseen.
static bool watches_update(struct watcher *w)
{
    if (w->inotify_fd < 0)
        return false;
    const struct scan *s = w->scan;
    struct watch *watches = must(calloc(s->folders_len + 1, sizeof *watches));
    size_t len = 0;
    bool added = false;
    for (size_t i = 0; i < s->folders_len; i++) {
        int wd = inotify_add_watch(w->inotify_fd, s->folders[i], EVENTS | IN_ONLYDIR);
        if (wd < 0) {
            if (errno != ENOENT && errno != ENOTDIR && !w->watch_failed) {
                w->watch_failed = true;
                log_warn("licenses.watch_failed", LOG_S("folder", s->folders[i]),
                         LOG_S("msg", "changes there are seen only every 10 s"),
                         LOG_S("error", strerror(errno)));
            }
            continue;
        }
        added |= !watches_have(w->watches, w->watches_len, wd);
        watches[len++] = (struct watch){.wd = wd, .folder = must(strdup(s->folders[i])),
                                        .search_path = is_search_path(w, s->folders[i])};
    }
    for (size_t i = 0; i < w->watches_len; i++) {
        if (!watches_have(watches, len, w->watches[i].wd))
            inotify_rm_watch(w->inotify_fd, w->watches[i].wd);
    }
    watches_free(w->watches, w->watches_len);
    w->watches = watches;
    w->watches_len = len;
    return added;
}

// In a search path, which may be full of other things, only some names matter: the license files,
// and what a link may lead through (links and folders are moved or made, not written).
static bool event_matters(const struct watcher *w, const struct inotify_event *e)
{
    if (!(e->mask & (IN_CLOSE_WRITE | IN_ATTRIB)) || !e->len)
        return !(e->mask & IN_IGNORED) || watches_have(w->watches, w->watches_len, e->wd);
    if (!strncmp(e->name, "license", 7))
        return true;
    for (size_t i = 0; i < w->watches_len; i++) {
        if (w->watches[i].wd == e->wd && !w->watches[i].search_path)
            return true;
    }
    return false;
}

static void inotify_ready(void *ctx, uint32_t events)
{
    struct watcher *w = ctx;
    (void)events;
    union {
        struct inotify_event event; // for alignment
        char bytes[16384];
    } buffer;
    bool matters = false;
    ssize_t n;
    while ((n = read(w->inotify_fd, &buffer, sizeof buffer)) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *e = (const void *)(buffer.bytes + at);
            matters |= event_matters(w, e);
            // A folder that went away takes its watch along; forgetting the number makes the one
            // that comes after it count as new.
            for (size_t i = 0; e->mask & IN_IGNORED && i < w->watches_len; i++) {
                if (w->watches[i].wd == e->wd)
                    w->watches[i].wd = -1;
            }
            at += (ssize_t)(sizeof *e + e->len);
        }
    }
    if (matters)
        look_soon(w, DEBOUNCE_MS);
}

static void look_done(void *ctx)
{
    struct watcher *w = ctx;
    pthread_join(w->thread, NULL);
    w->looking = false;
    bool added = watches_update(w);
    if (w->scan->changed || w->options.reload)
        w->changed(w->ctx, w->scan);
    if (w->reload)
        look_soon(w, 0);
    else if (w->dirty || w->scan->again || added)
        look_soon(w, AGAIN_MS);
    else
        look_soon(w, PERIOD_MS);
}

// ---- public ----

void watcher_set_keys(struct watcher *w, const struct license_keys *keys)
{
    keys_fini(&w->keys);
    keys_copy(&w->keys, keys);
    w->has_keys = w->reload = true;
    look_soon(w, 0);
}

static char *absolute(const char *path)
{
    char cwd[PATH_MAX];
    char *out;
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    bool is_absolute = *path == '/';
    if (!is_absolute && !getcwd(cwd, sizeof cwd))
        abort();
    if (asprintf(&out, "%s%s%.*s", is_absolute ? "" : cwd, is_absolute ? "" : "/", (int)len, path) <
        0)
        abort();
    return out;
}

int watcher_new(struct watcher **out, struct loop *loop, char *const *search_paths,
                size_t search_paths_len, const struct crypto_ca *vendor_ca,
                void (*changed)(void *ctx, const struct scan *scan), void *ctx)
{
    struct watcher *w = must(calloc(1, sizeof *w));
    *w = (struct watcher){.loop = loop, .vendor_ca = vendor_ca, .changed = changed, .ctx = ctx};
    w->search_paths = must(calloc(search_paths_len + 1, sizeof *w->search_paths));
    for (; w->search_paths_len < search_paths_len; w->search_paths_len++)
        w->search_paths[w->search_paths_len] = absolute(search_paths[w->search_paths_len]);
    w->done = (struct loop_post){.fn = look_done, .ctx = w};
    loop_timer_init(&w->timer, timer_fired, w);
    w->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    *out = w;
    if (w->inotify_fd < 0) {
        log_warn("licenses.watch_failed", LOG_S("msg", "changes are seen only every 10 s"),
                 LOG_S("error", strerror(errno)));
        return 0;
    }
    int r = loop_fd_add(loop, &w->fd_handle, w->inotify_fd, EPOLLIN, inotify_ready, w);
    if (r) {
        close(w->inotify_fd);
        w->inotify_fd = -1;
        watcher_free(out);
    }
    return r;
}

void watcher_free(struct watcher **watcher)
{
    struct watcher *w = *watcher;
    *watcher = NULL;
    if (!w)
        return;
    if (w->looking) {
        pthread_join(w->thread, NULL);
        loop_post_cancel(w->loop, &w->done);
    }
    loop_timer_cancel(w->loop, &w->timer);
    if (w->inotify_fd >= 0) {
        loop_fd_del(w->loop, &w->fd_handle);
        close(w->inotify_fd);
    }
    watches_free(w->watches, w->watches_len);
    scan_free(&w->scan);
    keys_fini(&w->keys);
    keys_fini(&w->thread_keys);
    for (size_t i = 0; i < w->search_paths_len; i++)
        free(w->search_paths[i]);
    free(w->search_paths);
    free(w);
}
