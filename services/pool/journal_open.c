// What a start finds in sessions.state_dir, and what it makes of it.
#include "common/files.h"
#include "common/log.h"
#include "services/pool/journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_BYTES (4ll * 1024 * 1024 * 1024)

// The lock's text, and that of a note beside the folder where pool may write there. They are there
// once a file of sessions is, so that one that is missing later is known to be lost and not to be
// the first start: the note, when the whole folder was deleted.
#define LOCK_TEXT "berth-pool keeps its sessions in this folder\n"
#define NOTE_SUFFIX ".sessions"
#define NOTE_TEXT                                                                                  \
    "berth-pool keeps its sessions in the folder beside this file. If they are deleted, the "      \
    "next\n"                                                                                       \
    "start gives out no new seat for one sessions.revalidation_interval. For a new installation\n" \
    "delete this file, too.\n"

static int refuse_folder(const struct journal *j, int r, struct error *err)
{
    error_set(err,
              "sessions.state_dir: %s: %s; pool keeps its sessions there and must be able to write "
              "(it runs as user %u): change the folder's owner or rights, or set "
              "sessions.state_dir to another folder",
              j->folder, strerror(-r), (unsigned)geteuid());
    return r;
}

static int lock_folder(struct journal *j, struct error *err)
{
    if (mkdir(j->folder, 0700) && errno != EEXIST)
        return refuse_folder(j, -errno, err);
    j->dir = open(j->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (j->dir < 0)
        return refuse_folder(j, -errno, err);
    j->lock = j->io->openat(j->dir, JOURNAL_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (j->lock < 0)
        return refuse_folder(j, -errno, err);
    int r = file_lock(j->lock);
    if (!r)
        return 0;
    if (r != -EWOULDBLOCK)
        return refuse_folder(j, r, err);
    error_set(err,
              "sessions.state_dir: %s: another berth-pool keeps its sessions there; end it, or set "
              "sessions.state_dir to another folder",
              j->folder);
    return -EBUSY;
}

// False: the folder has no beside.
static bool note_path(const struct journal *j, char out[static PATH_MAX])
{
    size_t len = strlen(j->folder);
    while (len && j->folder[len - 1] == '/')
        len--;
    if (!len || j->folder[len - 1] == '.') // "." or "..", most likely
        return false;
    return snprintf(out, PATH_MAX, "%.*s" NOTE_SUFFIX, (int)len, j->folder) < PATH_MAX;
}

static bool has_note(const struct journal *j)
{
    char path[PATH_MAX];
    return note_path(j, path) && !access(path, F_OK);
}

// Failing is no fault: in a container there is often nothing beside a volume.
static void write_note(const struct journal *j)
{
    char path[PATH_MAX];
    if (!note_path(j, path))
        return;
    int fd =
        j->io->openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    (void)!j->io->pwrite(fd, NOTE_TEXT, strlen(NOTE_TEXT), 0);
    close(fd);
}

// "" if the system does not tell: then it is another one at each start.
static void read_boot_id(char out[static POOL_BOOT_ID_BYTES])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, POOL_BOOT_ID_BYTES - 1);
    if (fd >= 0)
        close(fd);
    out[n == POOL_BOOT_ID_BYTES - 1 ? n : 0] = '\0';
}

static int read_all(int fd, char **data, size_t *len)
{
    struct stat st;
    if (fstat(fd, &st))
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    if (st.st_size > FILE_MAX_BYTES)
        return -EFBIG;
    *data = malloc((size_t)st.st_size + 1);
    if (!*data)
        abort();
    for (*len = 0; *len < (size_t)st.st_size;) {
        ssize_t n = read(fd, *data + *len, (size_t)st.st_size - *len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : 0;
        *len += (size_t)n;
    }
    return 0;
}

static int refuse_altered(const struct journal *j, const char *how, struct error *err)
{
    error_set(err,
              "sessions.state_dir: %s/" JOURNAL_FILE ": %s. Put the file back as it was; or delete "
              "it: then the sessions in it are lost, and no new one is given out for one interval "
              "(%lld s)",
              j->folder, how, (long long)j->interval_s);
    return -EBADMSG;
}

// Whether the rest behind the good records may come from a crash. Of a process: the beginning of
// the last record. Of the machine: anything. And nothing comes behind the last word.
static bool rest_is_natural(const struct pool_store_info *info, size_t len, bool same_boot)
{
    return info->good_len == len || (!info->closed && (info->cut_off || !same_boot));
}

static int restore(struct journal *j, const char *data, size_t len, struct pool_now now,
                   size_t *good_len, struct error *err)
{
    struct pool_store_info info;
    struct error why = {{0}};
    if (pool_restore(j->pool, data, len, now, &info, &why))
        return refuse_altered(j, why.text, err);
    bool same_boot = *j->boot_id && !strcmp(info.boot_id, j->boot_id);
    if (!rest_is_natural(&info, len, same_boot)) {
        char how[128];
        snprintf(how, sizeof how, "was altered or damaged at byte %zu of %zu", info.good_len, len);
        return refuse_altered(j, how, err);
    }
    *good_len = info.good_len;
    j->doubtful = info.holding || (!info.closed && !same_boot);
    log_info("sessions.restored", LOG_S("folder", j->folder),
             LOG_I("sessions", (int64_t)pool_session_count(j->pool)),
             LOG_I("cut_off_bytes", (int64_t)(len - info.good_len)));
    if (j->doubtful)
        log_warn("sessions.doubtful", LOG_S("folder", j->folder), LOG_I("seconds", j->interval_s),
                 LOG_S("msg", "the machine was not shut down in order, so that sessions may be "
                              "missing: no new seat is given out for one interval"));
    return 0;
}

static int open_existing(struct journal *j, struct pool_now now, struct error *err)
{
    char *data = NULL;
    size_t len = 0, good_len = 0;
    int r = read_all(j->file.fd, &data, &len);
    if (r)
        refuse_folder(j, r, err);
    else
        r = restore(j, data, len, now, &good_len, err);
    free(data);
    if (!r)
        journal_resume(j, good_len);
    return r;
}

// The first start ever, or one that finds the file gone.
static int open_new(struct journal *j, bool first, struct error *err)
{
    j->doubtful = !first;
    if (first)
        log_info("sessions.first_start", LOG_S("folder", j->folder));
    else
        log_warn("sessions.lost", LOG_S("folder", j->folder), LOG_I("seconds", j->interval_s),
                 LOG_S("msg", "the file of sessions has gone: no new seat is given out for one "
                              "interval, since those of the lost sessions may be in use"));
    bool more = true;
    int r = journal_rewrite_begin(j);
    while (!r && more)
        r = journal_rewrite_page(j, &more);
    if (!r && j->io->fdatasync(j->next.fd))
        r = -errno;
    if (!r)
        r = journal_rewrite_end(j);
    return r ? refuse_folder(j, r, err) : 0;
}

int journal_open(struct journal **out, const struct journal_options *options, struct pool_now now,
                 struct error *err)
{
    struct journal *j = malloc(sizeof *j);
    if (!j)
        abort();
    journal_init(j, options);
    j->folder = strdup(options->folder);
    if (!j->folder)
        abort();
    read_boot_id(j->boot_id);
    struct stat lock;
    int r = lock_folder(j, err);
    if (!r && fstat(j->lock, &lock))
        r = refuse_folder(j, -errno, err);
    if (!r) {
        j->file.fd =
            j->io->openat(j->dir, JOURNAL_FILE, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
        if (j->file.fd >= 0)
            r = open_existing(j, now, err);
        else if (errno == ENOENT)
            r = open_new(j, lock.st_size == 0 && !has_note(j), err);
        else
            r = refuse_folder(j, -errno, err);
    }
    if (!r && !lock.st_size && j->io->pwrite(j->lock, LOCK_TEXT, strlen(LOCK_TEXT), 0) < 0)
        r = refuse_folder(j, -errno, err);
    if (!r)
        write_note(j);
    if (r) {
        if (j->file.fd >= 0)
            close(j->file.fd);
        j->file.fd = -1; // it is not ended in order
        journal_free(&j);
    }
    *out = j;
    return r;
}
