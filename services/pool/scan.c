#include "services/pool/scan.h"

#include "common/log.h"

#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SETTLE_MS 150       // a file that was written so recently may be half written
#define SETTLE_LIMIT_MS 800 // but it is not waited for longer
#define LINK_DEPTH_MAX 16

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static int64_t ms_of(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// File times are of the wall clock, so "recently" has to be too.
static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return ms_of(t);
}

// ---- folders to watch ----

static void add_folder(struct scan *s, const char *path, size_t len)
{
    if (!len) {
        path = "/";
        len = 1;
    }
    for (size_t i = 0; i < s->folders_len; i++) {
        if (!strncmp(s->folders[i], path, len) && !s->folders[i][len])
            return;
    }
    if (s->folders_len == SCAN_FOLDERS_MAX)
        return;
    if (!(s->folders_len & (s->folders_len - 1)))
        s->folders = must(realloc(s->folders, (s->folders_len ? s->folders_len * 2 : 1) *
                                                  sizeof *s->folders));
    s->folders[s->folders_len++] = must(strndup(path, len));
}

// Adds each folder in which a component of the path is a symlink or missing, along all links.
static void add_links(struct scan *s, const char *path, int depth)
{
    char prefix[PATH_MAX];
    size_t len = strlen(path);
    if (len >= sizeof prefix || depth > LINK_DEPTH_MAX)
        return;
    memcpy(prefix, path, len + 1);
    for (char *slash = prefix; slash;) {
        size_t parent_len = (size_t)(slash - prefix);
        char *next = strchr(slash + 1, '/');
        if (next)
            *next = '\0';
        struct stat st;
        bool missing = lstat(prefix, &st) != 0;
        if (missing || S_ISLNK(st.st_mode))
            add_folder(s, prefix, parent_len);
        char target[PATH_MAX];
        ssize_t n = !missing && S_ISLNK(st.st_mode) ? readlink(prefix, target, sizeof target - 1)
                                                    : 0;
        if (n > 0) {
            char joined[2 * PATH_MAX];
            target[n] = '\0';
            snprintf(joined, sizeof joined, "%.*s/%s", *target == '/' ? 0 : (int)parent_len, prefix,
                     *target == '/' ? target + 1 : target);
            add_links(s, joined, depth + 1);
            char *last = strrchr(joined, '/');
            if (!next) // what the link points to is replaced in its own folder
                add_folder(s, joined, (size_t)(last - joined));
        }
        if (missing)
            return;
        if (next)
            *next = '/';
        slash = next;
    }
}

// ---- logging ----

static bool had_record(const struct license_set *set, const struct license_record *r)
{
    for (size_t i = 0; set && i < set->records_len; i++) {
        const struct license_record *o = &set->records[i];
        if (o->line == r->line && o->refusal == r->refusal && !strcmp(o->reason, r->reason) &&
            !memcmp(o->signature, r->signature, sizeof r->signature))
            return true;
    }
    return false;
}

// Returns whether there is anything new, or less than before.
static bool log_changes(struct scan *s, const char *path, const struct license_set *before,
                        const struct license_set *after)
{
    bool changed = !before || before->records_len != after->records_len;
    for (size_t i = 0; i < after->records_len; i++) {
        const struct license_record *r = &after->records[i];
        if (had_record(before, r))
            continue;
        changed = true;
        s->refusals[r->refusal]++;
        if (r->refusal)
            log_warn("license.refused", LOG_S("file", path), LOG_I("line", r->line),
                     LOG_S("reason", license_refusal_name(r->refusal)), LOG_S("msg", r->reason));
        else
            log_info("license.loaded", LOG_S("file", path), LOG_I("line", r->line),
                     LOG_S("uuid", r->fields.uuid), LOG_S("feature", r->fields.feature),
                     LOG_S("version", r->fields.version_text), LOG_I("count", r->fields.count));
    }
    return changed;
}

// ---- files ----

static int by_path(const void *a, const void *b)
{
    const struct scan_file *x = a, *y = b;
    return strcmp(x->path, y->path);
}

static struct scan_file *find_file(const struct scan *s, const char *path)
{
    const struct scan_file key = {.path = strdupa(path)};
    return s && s->files_len ? bsearch(&key, s->files, s->files_len, sizeof *s->files, by_path)
                             : NULL;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static void keep(struct scan_file *f, struct scan_file *old)
{
    f->st = old->st;
    f->set = old->set;
    f->racy = old->racy;
    old->set = NULL;
}

// Fills f, from the old entry if the file has not changed.
static void look_at_file(struct scan *s, struct scan_file *f, struct scan_file *old,
                         const struct scan_options *o, bool first)
{
    struct stat st;
    bool there = !stat(f->path, &st);
    int64_t now = now_ms();
    int64_t age = there ? now - ms_of(st.st_mtim) : INT64_MAX;
    bool same = old && old->set && !old->racy && !o->reload &&
                (there ? same_file(&st, &old->st) : !old->st.st_ino);
    if (same) {
        keep(f, old);
        return;
    }
    f->unsettled_ms = old && old->unsettled_ms ? old->unsettled_ms : now;
    bool in_motion = age >= 0 && age < SETTLE_MS && now - f->unsettled_ms < SETTLE_LIMIT_MS;
    if (in_motion && !first) {
        s->again = true;
        if (old && !o->reload) {
            keep(f, old);
            f->racy = true;
            return;
        }
        if (!old)
            return;
    }
    f->unsettled_ms = 0;
    license_load_file(&f->set, f->path, o->keys, &f->st);
    f->racy = f->st.st_ino && age >= 0 && age < SETTLE_MS;
    s->again |= f->racy;
    s->changed |= log_changes(s, f->path, old ? old->set : NULL, f->set);
}

static bool is_license_name(const char *name)
{
    size_t len = strlen(name);
    return len >= strlen("license.dat") && !strncmp(name, "license", 7) &&
           !strcmp(name + len - 4, ".dat");
}

static void add_file(struct scan *s, const char *folder, const struct dirent *e, size_t *cap)
{
    if (s->files_len == *cap) {
        *cap = *cap ? *cap * 2 : 16;
        s->files = must(realloc(s->files, *cap * sizeof *s->files));
    }
    struct scan_file *f = &s->files[s->files_len++];
    *f = (struct scan_file){0};
    if (asprintf(&f->path, "%s/%s", folder, e->d_name) < 0)
        abort();
    if (e->d_type == DT_LNK || e->d_type == DT_UNKNOWN)
        add_links(s, f->path, 0);
}

static void list_folder(struct scan *s, const char *folder, size_t *cap)
{
    DIR *dir = opendir(folder);
    if (!dir) {
        if (errno != ENOENT)
            log_warn("licenses.folder_unreadable", LOG_S("folder", folder),
                     LOG_S("msg", strerror(errno)));
        return;
    }
    struct dirent *e;
    while (s->files_len < SCAN_FILES_MAX && (e = readdir(dir))) {
        if (is_license_name(e->d_name))
            add_file(s, folder, e, cap);
    }
    closedir(dir);
}

// A folder that is given twice, whatever its name, is listed once.
static bool listed_before(const struct scan_options *o, size_t i)
{
    struct stat a, b;
    if (stat(o->search_paths[i], &a))
        return false;
    for (size_t j = 0; j < i; j++) {
        if (!stat(o->search_paths[j], &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
            return true;
    }
    return false;
}

struct scan *scan_run(struct scan *old, const struct scan_options *options)
{
    struct scan *s = must(calloc(1, sizeof *s));
    size_t cap = 0;
    for (size_t i = 0; i < options->search_paths_len; i++) {
        const char *folder = options->search_paths[i];
        add_links(s, folder, 0);
        add_folder(s, folder, strlen(folder));
        if (!listed_before(options, i))
            list_folder(s, folder, &cap);
    }
    if (s->files_len)
        qsort(s->files, s->files_len, sizeof *s->files, by_path);
    size_t kept = 0;
    for (size_t i = 0; i < s->files_len; i++) {
        struct scan_file *before = find_file(old, s->files[i].path);
        kept += before != NULL;
        look_at_file(s, &s->files[i], before, options, !old);
    }
    if (!old || kept != old->files_len)
        s->changed = true;
    for (size_t i = 0; old && i < old->files_len; i++) {
        if (old->files[i].set && !find_file(s, old->files[i].path))
            log_info("license.file_gone", LOG_S("file", old->files[i].path));
    }
    scan_free(&old);
    return s;
}

void scan_free(struct scan **scan)
{
    struct scan *s = *scan;
    *scan = NULL;
    if (!s)
        return;
    for (size_t i = 0; i < s->files_len; i++) {
        free(s->files[i].path);
        license_set_free(&s->files[i].set);
    }
    for (size_t i = 0; i < s->folders_len; i++)
        free(s->folders[i]);
    free(s->files);
    free(s->folders);
    free(s);
}
