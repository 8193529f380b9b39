#include "services/borrow/store.h"

#include "common/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STORE_AGAIN "borrowed.again"
#define STORE_FILE_BYTES_MAX (256 * 1024 * 1024)

struct store {
    const struct store_io *io;
    int dir, lock;
};

enum { LEDGER, LEDGER_NEXT, SIGNATURE, SIGNATURE_NEXT, FILES };
static const char *const names[FILES] = {STORE_LEDGER, STORE_LEDGER ".next", STORE_SIGNATURE,
                                         STORE_SIGNATURE ".next"};

static int system_openat(int dir, const char *name, int flags, mode_t mode)
{
    return openat(dir, name, flags, mode);
}

static int system_renameat(int dir, const char *from, const char *to)
{
    return renameat(dir, from, dir, to);
}

static int system_unlinkat(int dir, const char *name)
{
    return unlinkat(dir, name, 0);
}

const struct store_io store_io_system = {system_openat, write, fsync, system_renameat,
                                         system_unlinkat};

bool store_present(const char *directory)
{
    bool found = false;
    int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < FILES && dir >= 0 && !found; i++)
        found = !faccessat(dir, names[i], F_OK, AT_SYMLINK_NOFOLLOW);
    if (dir >= 0)
        close(dir);
    return found;
}

// Opened for reading, so that the file system can be made read-only meanwhile. On a directory that
// cannot be written now, the directory itself takes the place of the lock file.
static int lock_open(int dir)
{
    int fd = openat(dir, STORE_LOCK, O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EROFS || errno == EACCES || errno == ENOSPC))
        fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd;
}

static int lock_take(struct store *s)
{
    s->lock = lock_open(s->dir);
    if (s->lock < 0)
        return -errno;
    int r = file_lock(s->lock);
    if (r != -EBADF)
        return r == -EWOULDBLOCK ? -EBUSY : r;
    // NFS wants it open for writing.
    close(s->lock);
    s->lock = openat(s->dir, STORE_LOCK, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    r = s->lock < 0 ? -errno : file_lock(s->lock);
    return r == -EWOULDBLOCK ? -EBUSY : r;
}

int store_new(struct store **out, const char *directory, const struct store_io *io,
              struct error *err)
{
    struct store *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    *s = (struct store){.io = io, .lock = -1};
    s->dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = s->dir < 0 ? -errno : lock_take(s);
    if (r == -EBUSY)
        error_set(err,
                  "%s: another process keeps the ledger there; end it, or set "
                  "borrow.directory to another folder",
                  directory);
    else if (r)
        error_set(err, "%s: %s", directory, strerror(-r));
    if (r)
        store_free(&s);
    *out = s;
    return r;
}

void store_free(struct store **store)
{
    struct store *s = *store;
    if (s && s->lock >= 0)
        close(s->lock);
    if (s && s->dir >= 0)
        close(s->dir);
    free(s);
    *store = NULL;
}

static int read_all(int fd, struct buf *out)
{
    char block[65536];
    struct stat st;
    if (fstat(fd, &st))
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -ENXIO;
    if (st.st_size > STORE_FILE_BYTES_MAX)
        return -EFBIG;
    while (out->len <= STORE_FILE_BYTES_MAX) {
        ssize_t n = read(fd, block, sizeof block);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        buf_add(out, block, (size_t)n);
    }
    return -EFBIG;
}

// What is in the place of a file of ours, and no process of ours has put there; NULL: none of that.
static const char *alien(int error)
{
    return error == -ELOOP    ? "is a symbolic link, and these are not followed: move it away"
           : error == -ENXIO  ? "is not a regular file: move it away"
           : error == -EFBIG  ? "is larger than 256 MiB, which no ledger of this server is"
           : error == -EACCES ? "may not be read by berth-borrow: make its user the file's owner"
                              : NULL;
}

// 1: read; 0: there is none.
static int read_file(struct store *s, const char *name, struct buf *out, struct error *err)
{
    int fd = openat(s->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    int r = fd < 0 ? -errno : read_all(fd, out);
    if (fd >= 0)
        close(fd);
    if (alien(r))
        return error_set(err, "%s %s", name, alien(r)), -EBADMSG;
    if (r)
        error_set(err, "%s: cannot be read: %s", name, strerror(-r));
    return r ? r : 1;
}

static int write_next(struct store *s, const char *name, const struct buf *data)
{
    int fd =
        s->io->openat(s->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int r = 0;
    for (size_t done = 0; done < data->len && !r;) {
        ssize_t n = s->io->write(fd, data->data + done, data->len - done);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            r = n ? -errno : -EIO;
    }
    if (!r && s->io->fsync(fd))
        r = STORE_UNSURE;
    close(fd);
    return r;
}

// The process before may have ended at a failed fsync: what is read may be in memory only. So it
// is written anew under a third name, and takes the place of the .next file when it is on disk.
static int write_again(struct store *s, const char *name, const struct buf *data)
{
    int r = write_next(s, STORE_AGAIN, data);
    if (!r)
        r = s->io->renameat(s->dir, STORE_AGAIN, name);
    if (!r)
        r = s->io->fsync(s->dir);
    return r ? -1 : 0;
}

// Puts the .next files that were chosen in place, and removes those that were not.
static int roll_forward(struct store *s, const int have[FILES], const struct buf files[FILES],
                        const int chosen[2], struct error *err)
{
    const int next[] = {LEDGER_NEXT, SIGNATURE_NEXT};
    bool changed = false;
    int r = 0;
    for (int i = 0; i < 2 && !r; i++) {
        if (chosen[i] == next[i])
            r = write_again(s, names[next[i]], &files[next[i]]);
    }
    for (int i = 0; i < 2 && !r; i++) {
        if (!have[next[i]])
            continue;
        changed = true;
        r = chosen[i] == next[i] ? s->io->renameat(s->dir, names[next[i]], names[next[i] - 1])
                                 : s->io->unlinkat(s->dir, names[next[i]]);
    }
    if (!r && changed)
        r = s->io->fsync(s->dir);
    if (!r)
        return 0;
    r = errno ? -errno : -EIO;
    error_set(err, "a write that was cut off cannot be finished: %s", strerror(-r));
    return r;
}

int store_load(struct store *s, store_judge_fn *judge, void *ctx, struct buf *ledger,
               struct buf *signature, struct error *err)
{
    struct buf files[FILES] = {{0}};
    int have[FILES] = {0}, best[2] = {-1, -1}, r = 0;
    int64_t newest = -1;
    for (int i = 0; i < FILES && r >= 0; i++)
        r = have[i] = read_file(s, names[i], &files[i], err);
    for (int i = 0; i < 4 && r >= 0; i++) {
        int l = i & 1 ? LEDGER_NEXT : LEDGER, g = i & 2 ? SIGNATURE_NEXT : SIGNATURE;
        int64_t sequence = have[l] && have[g] ? judge(ctx, &files[l], &files[g]) : -1;
        if (sequence > newest)
            newest = sequence, best[0] = l, best[1] = g;
    }
    if (r >= 0 && newest >= 0) {
        r = roll_forward(s, have, files, best, err);
        buf_add(ledger, files[best[0]].data, files[best[0]].len);
        buf_add(signature, files[best[1]].data, files[best[1]].len);
    } else if (r >= 0) {
        // .next files alone are the very first write, cut off before anything was promised.
        bool any = have[LEDGER] || have[SIGNATURE];
        r = any ? -EBADMSG : -ENOENT;
        const char *missing = !have[LEDGER]      ? STORE_LEDGER
                              : !have[SIGNATURE] ? STORE_SIGNATURE
                                                 : "";
        error_set(err, any && !*missing ? "" : "%s is missing", missing);
    }
    for (int i = 0; i < FILES; i++)
        buf_fini(&files[i]);
    return r;
}

int store_write(struct store *s, const struct buf *ledger, const struct buf *signature,
                struct error *err)
{
    errno = 0;
    int r = write_next(s, names[LEDGER_NEXT], ledger);
    if (!r)
        r = write_next(s, names[SIGNATURE_NEXT], signature);
    if (!r && s->io->fsync(s->dir))
        r = STORE_UNSURE;
    if (!r && s->io->renameat(s->dir, names[LEDGER_NEXT], names[LEDGER]))
        r = -errno;
    if (r < 0) {
        // What stays behind is harmless: the next write truncates it, the next start judges it.
        s->io->unlinkat(s->dir, names[LEDGER_NEXT]);
        s->io->unlinkat(s->dir, names[SIGNATURE_NEXT]);
        error_set(err, "the ledger cannot be written: %s", strerror(-r));
        return r;
    }
    // From the first rename on there is no way back.
    if (!r &&
        (s->io->renameat(s->dir, names[SIGNATURE_NEXT], names[SIGNATURE]) || s->io->fsync(s->dir)))
        r = STORE_UNSURE;
    if (r)
        error_set(err, "what is on disk of the ledger is not known: %s", strerror(errno));
    return r;
}
