#include "services/pool/journal.h"

#include "common/log.h"
#include "services/pool/journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HISTORY_MAX_BYTES (32u * 1024 * 1024)
#define PAGE_SESSIONS 1000
#define PAUSE_MS 1000
#define LONG_PAUSES 30 // after a rewriting that failed while the file itself is well

static int system_openat(int dir, const char *name, int flags, mode_t mode)
{
    return openat(dir, name, flags, mode);
}

const struct journal_io journal_io_system = {system_openat, pwrite, ftruncate, fdatasync, renameat};

static void wait_before(struct journal *j, struct loop_timer *timer, int pauses)
{
    loop_timer_arm(j->loop, timer, mono_after(loop_now(j->loop), pauses * j->pause_ms));
}

// ---- writing ----

static int append(struct journal *j, struct journal_file *f, const struct buf *data)
{
    for (size_t done = 0; done < data->len;) {
        ssize_t n =
            j->io->pwrite(f->fd, data->data + done, data->len - done, (off_t)(f->size + done));
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            return n ? -errno : -EIO; // what it wrote is overwritten or, at a start, cut off
    }
    f->size += data->len;
    return 0;
}

static void close_file(struct journal_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    *f = (struct journal_file){-1, 0};
}

static void rewrite_abort(struct journal *j)
{
    close_file(&j->next);
    j->sync.of_next = j->sync_next = false;
}

// From here on no session may begin. Those that live go on, and what they do until the file is
// written anew need not be known: a restart only makes them live an interval longer.
static void fail(struct journal *j, int r)
{
    j->errors++;
    log_error("sessions.unwritable", LOG_S("folder", j->folder), LOG_S("error", strerror(-r)),
              LOG_S("msg", "no new session is given out until the sessions can be written to disk; "
                           "those that live go on"));
    close_file(&j->file);
    rewrite_abort(j);
    buf_clear(&j->records);
    pool_set_journal(j->pool, NULL);
    loop_timer_cancel(j->loop, &j->sync_timer);
    wait_before(j, &j->step, 1);
    j->changed(j->ctx, false);
}

int journal_flush(struct journal *j)
{
    int r = j->file.fd < 0 ? -EIO : 0;
    if (!j->records.len)
        return r;
    if (j->file.fd >= 0)
        r = append(j, &j->file, &j->records);
    if (j->next.fd >= 0 && append(j, &j->next, &j->records)) {
        rewrite_abort(j);
        wait_before(j, &j->step, 1);
    }
    buf_clear(&j->records);
    if (j->file.fd < 0)
        return r;
    if (r) {
        fail(j, r);
        return r;
    }
    if (!j->sync_timer.heap_index)
        wait_before(j, &j->sync_timer, 1);
    if (j->next.fd < 0 && !j->step.heap_index && j->file.size > j->rewrite_above)
        loop_timer_arm(j->loop, &j->step, loop_now(j->loop));
    return 0;
}

// ---- syncing, on a thread ----

static void *sync_thread(void *ctx)
{
    struct journal *j = ctx;
    j->sync.result = j->io->fdatasync(j->sync.fd) ? -errno : 0;
    close(j->sync.fd);
    loop_post(j->loop, &j->sync.done);
    return NULL;
}

static void sync_start(struct journal *j, const struct journal_file *f)
{
    // A descriptor of its own: the other one may be closed meanwhile.
    j->sync.fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
    j->sync.of_next = f == &j->next;
    int r = j->sync.fd < 0 ? errno : pthread_create(&j->sync.thread, NULL, sync_thread, j);
    j->sync.running = r == 0;
    if (!r)
        return; // result is the thread's now
    if (j->sync.fd >= 0)
        close(j->sync.fd);
    j->sync.result = -r;
    loop_post(j->loop, &j->sync.done);
}

static void on_sync_timer(void *ctx)
{
    struct journal *j = ctx;
    if (j->sync.running || j->next.fd >= 0) // the new file is synced when it is whole
        wait_before(j, &j->sync_timer, 1);
    else
        sync_start(j, &j->file);
}

// ---- writing anew ----

int journal_rewrite_begin(struct journal *j)
{
    int fd = j->io->openat(j->dir, JOURNAL_NEXT,
                           O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    BUF_CLEANUP struct buf head = {0};
    pool_write_header(&head);
    pool_write_origin(&head, j->boot_id);
    if (j->doubtful)
        pool_write_mark(&head, POOL_MARK_HOLDING);
    j->next = (struct journal_file){fd, 0};
    j->cursor = 0;
    pool_set_journal(j->pool, &j->records);
    int r = append(j, &j->next, &head);
    if (r)
        rewrite_abort(j);
    return r;
}

int journal_rewrite_page(struct journal *j, bool *more)
{
    BUF_CLEANUP struct buf page = {0};
    *more = pool_write_sessions(j->pool, &j->cursor, PAGE_SESSIONS, &page);
    int r = append(j, &j->next, &page);
    if (r)
        rewrite_abort(j);
    return r;
}

// Where no file was served from, the one that is replaced may be one that was closed in order: it
// must not come back. Else it would be known as one that was not, and whichever is found is good.
int journal_rewrite_end(struct journal *j)
{
    bool first = j->file.fd < 0;
    if (j->io->renameat(j->dir, JOURNAL_NEXT, j->dir, JOURNAL_FILE) ||
        (first && j->io->fdatasync(j->dir))) {
        int r = -errno;
        rewrite_abort(j);
        return r;
    }
    close_file(&j->file);
    j->file = j->next;
    j->next = (struct journal_file){-1, 0};
    j->rewrite_above = 2 * j->file.size + j->history_max;
    return 0;
}

static void rewrite_failed(struct journal *j, int r)
{
    bool broken = j->file.fd < 0;
    if (broken) {
        pool_set_journal(j->pool, NULL);
        buf_clear(&j->records);
    } else {
        log_warn("sessions.rewrite_failed", LOG_S("folder", j->folder),
                 LOG_S("error", strerror(-r)),
                 LOG_S("msg", "the file of sessions cannot be made smaller; it goes on growing"));
    }
    j->errors++;
    wait_before(j, &j->step, broken ? 1 : LONG_PAUSES);
}

static void on_step(void *ctx)
{
    struct journal *j = ctx;
    bool more = true;
    // What is in records was done before the snapshot begins, or must come before its next page.
    if (j->next.fd >= 0 && journal_flush(j) && j->next.fd < 0)
        return;
    int r = j->next.fd < 0 ? journal_rewrite_begin(j) : journal_rewrite_page(j, &more);
    if (r)
        rewrite_failed(j, r);
    else if (more)
        loop_timer_arm(j->loop, &j->step, mono_after(loop_now(j->loop), 1));
    else if (!j->sync.running)
        sync_start(j, &j->next);
    else
        j->sync_next = true;
}

static void on_synced(void *ctx)
{
    struct journal *j = ctx;
    bool of_next = j->sync.of_next, broken = j->file.fd < 0;
    if (j->sync.running)
        pthread_join(j->sync.thread, NULL);
    j->sync.running = j->sync.of_next = false;
    if (j->sync_next && j->next.fd >= 0) {
        j->sync_next = false;
        sync_start(j, &j->next);
    } else if (of_next) {
        int r = j->sync.result ? j->sync.result : journal_rewrite_end(j);
        if (r) {
            rewrite_abort(j);
            rewrite_failed(j, r);
        } else if (broken) {
            log_info("sessions.writable", LOG_S("folder", j->folder));
            j->changed(j->ctx, true);
        }
    } else if (j->sync.result && !broken) {
        // What the kernel holds of this file is not to be believed any more: it is written anew.
        fail(j, j->sync.result);
    }
}

// ---- life ----

void journal_init(struct journal *j, const struct journal_options *options)
{
    *j = (struct journal){
        .io = options->io ? options->io : &journal_io_system,
        .loop = options->loop,
        .pool = options->pool,
        .changed = options->changed,
        .ctx = options->ctx,
        .history_max = options->history_max_bytes ? options->history_max_bytes : HISTORY_MAX_BYTES,
        .pause_ms = options->pause_ms ? options->pause_ms : PAUSE_MS,
        .interval_s = options->interval_s,
        .dir = -1,
        .lock = -1,
        .file = {-1, 0},
        .next = {-1, 0},
    };
    loop_timer_init(&j->step, on_step, j);
    loop_timer_init(&j->sync_timer, on_sync_timer, j);
    j->sync.done = (struct loop_post){.fn = on_synced, .ctx = j};
}

// What an earlier process wrote stays; this one goes on behind it. A closing mark that still
// counted after the next power cut would hide what was lost by then, so its end is synced at once.
void journal_resume(struct journal *j, uint64_t good_len)
{
    j->file.size = good_len;
    j->rewrite_above = 2 * good_len + j->history_max;
    pool_write_origin(&j->records, j->boot_id);
    if (j->doubtful)
        pool_write_mark(&j->records, POOL_MARK_HOLDING);
    pool_set_journal(j->pool, &j->records);
    if (j->io->ftruncate(j->file.fd, (off_t)good_len))
        fail(j, -errno);
    else if (!journal_flush(j) && j->io->fdatasync(j->file.fd))
        fail(j, -errno);
}

void journal_free(struct journal **journal)
{
    struct journal *j = *journal;
    *journal = NULL;
    if (!j)
        return;
    if (j->sync.running)
        pthread_join(j->sync.thread, NULL);
    loop_post_cancel(j->loop, &j->sync.done);
    if (j->file.fd >= 0) {
        pool_write_mark(&j->records, POOL_MARK_CLOSED);
        if (append(j, &j->file, &j->records) || j->io->fdatasync(j->file.fd))
            log_error("sessions.unwritable", LOG_S("folder", j->folder),
                      LOG_S("error", strerror(errno)));
    }
    loop_timer_cancel(j->loop, &j->step);
    loop_timer_cancel(j->loop, &j->sync_timer);
    pool_set_journal(j->pool, NULL);
    close_file(&j->file);
    close_file(&j->next);
    if (j->dir >= 0)
        close(j->dir);
    if (j->lock >= 0)
        close(j->lock);
    buf_fini(&j->records);
    free(j->folder);
    free(j);
}

bool journal_is_doubtful(const struct journal *j)
{
    return j->doubtful;
}

void journal_settle(struct journal *j)
{
    if (!j->doubtful)
        return;
    j->doubtful = false;
    if (j->file.fd >= 0)
        pool_write_mark(&j->records, POOL_MARK_HELD);
    (void)journal_flush(j);
}

uint64_t journal_bytes(const struct journal *j)
{
    return j->file.size;
}

uint64_t journal_errors(const struct journal *j)
{
    return j->errors;
}
