#include "common/files.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_WAIT_MS 2000
#define LOCK_RETRY_MS 10

char *path_join(const char *dir, const char *name)
{
    char *path;
    size_t len = strlen(dir);
    if (asprintf(&path, "%s%s%s", dir, len && dir[len - 1] == '/' ? "" : "/", name) < 0)
        abort();
    return path;
}

static int fail_errno(struct error *err, const char *path)
{
    int r = -errno;
    error_set(err, "%s: %s", path, strerror(-r));
    return r;
}

int dir_make(const char *path, unsigned mode, struct error *err)
{
    char *copy = strdup(path);
    if (!copy)
        abort();
    int r = 0;
    for (char *p = copy + 1; !r && *copy; p++) {
        if (*p && *p != '/')
            continue;
        char end = *p;
        *p = '\0';
        if (mkdir(copy, mode) && errno != EEXIST)
            r = fail_errno(err, copy);
        if (!end)
            break;
        *p = end;
    }
    free(copy);
    struct stat st;
    if (!r && stat(path, &st))
        return fail_errno(err, path);
    if (!r && !S_ISDIR(st.st_mode)) {
        error_set(err, "%s is not a folder", path);
        return -ENOTDIR;
    }
    return r;
}

bool file_is_private(const struct stat *st, uid_t reader)
{
    mode_t others = st->st_mode & 077;
    return !others || (others == S_IRGRP && st->st_uid == 0 && reader != 0);
}

bool file_exists(const char *path)
{
    struct stat st;
    return !lstat(path, &st);
}

int file_lock(int fd)
{
    for (int waited_ms = 0;; waited_ms += LOCK_RETRY_MS) {
        if (!flock(fd, LOCK_EX | LOCK_NB))
            return 0;
        if (errno != EWOULDBLOCK || waited_ms >= LOCK_WAIT_MS)
            return -errno;
        poll(NULL, 0, LOCK_RETRY_MS);
    }
}

int file_write(int fd, const char *text, size_t len)
{
    while (len) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        text += n;
        len -= (size_t)n;
    }
    return fsync(fd) ? -errno : 0;
}

int file_create(const char *path, const char *text, size_t len, unsigned mode, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0) {
        int r = fail_errno(err, path);
        if (r == -EEXIST)
            error_set(err, "%s exists already and is not overwritten", path);
        return r;
    }
    int r = file_write(fd, text, len);
    if (close(fd) && !r)
        r = -errno;
    if (r) {
        error_set(err, "%s: %s", path, strerror(-r));
        unlink(path);
    }
    return r;
}

int file_replace(const char *path, const char *text, size_t len, struct error *err)
{
    char *fresh;
    if (asprintf(&fresh, "%s.new", path) < 0)
        abort();
    unlink(fresh); // of an attempt that was interrupted
    int r = file_create(fresh, text, len, 0644, err);
    if (!r && rename(fresh, path)) {
        r = fail_errno(err, path);
        unlink(fresh);
    }
    free(fresh);
    return r;
}

int file_read(const char *path, size_t max_bytes, char **text, size_t *len, struct error *err)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return fail_errno(err, path);
    *text = malloc(max_bytes + 2);
    if (!*text)
        abort();
    *len = fread(*text, 1, max_bytes + 1, f);
    int r = ferror(f) ? fail_errno(err, path) : 0;
    fclose(f);
    if (!r && *len > max_bytes) {
        error_set(err, "%s is larger than %zu bytes", path, max_bytes);
        r = -EFBIG;
    }
    if (r) {
        free(*text);
        *text = NULL;
        return r;
    }
    (*text)[*len] = '\0';
    return 0;
}
