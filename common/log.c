#include "common/log.h"

#include "common/core/buf.h"
#include "common/core/text.h"
#include "common/core/times.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock;
    char process[32];
    enum log_level level;
    enum log_format format;
    char *path;
    int fd;
} logger = {.lock = PTHREAD_MUTEX_INITIALIZER, .process = "berth", .level = LOG_INFO, .fd = 1};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static int open_log(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? -errno : fd;
}

int log_init(const char *process, enum log_level level, enum log_format format, const char *path)
{
    int fd = path ? open_log(path) : 1;
    if (fd < 0)
        return fd;
    pthread_mutex_lock(&logger.lock);
    if (logger.fd > 1)
        close(logger.fd);
    free(logger.path);
    logger.path = path ? strdup(path) : NULL;
    logger.fd = fd;
    logger.level = level;
    logger.format = format;
    snprintf(logger.process, sizeof logger.process, "%s", process);
    pthread_mutex_unlock(&logger.lock);
    return 0;
}

int log_reopen(void)
{
    int r = 0;
    pthread_mutex_lock(&logger.lock);
    if (logger.path) {
        int fd = open_log(logger.path);
        if (fd < 0) {
            r = fd; // the old file goes on
        } else {
            close(logger.fd);
            logger.fd = fd;
        }
    }
    pthread_mutex_unlock(&logger.lock);
    return r;
}

static void format_now(char out[static 40])
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char seconds[32];
    wall_format((struct wall_time){now.tv_sec}, seconds);
    snprintf(out, 40, "%.19s.%03ldZ", seconds, now.tv_nsec / 1000000);
}

// What a reader may see of an identifier that is a secret.
static const char *shown(const struct log_field *f, char scratch[static 16])
{
    if (f->kind != LOG_FIELD_ID)
        return f->str ? f->str : "";
    snprintf(scratch, 16, "%.6s…", f->str ? f->str : "");
    return scratch;
}

// Strings from outside may hold anything: what is not UTF-8 is shown byte by byte.
static void add_string(struct buf *line, const char *s, bool quotes)
{
    size_t len = strlen(s);
    BUF_CLEANUP struct buf ascii = {0};
    if (!utf8_valid(s, len)) {
        for (size_t i = 0; i < len; i++)
            buf_printf(&ascii, (unsigned char)s[i] < 0x80 ? "%c" : "?", s[i]);
        s = ascii.data;
        len = ascii.len;
    }
    bool plain = !quotes && len > 0;
    for (size_t i = 0; i < len && plain; i++)
        plain = (unsigned char)s[i] > ' ' && s[i] != '"' && s[i] != '=' && s[i] != '\\';
    if (plain)
        buf_add(line, s, len);
    else
        buf_add_json_string(line, s, len);
}

static void format_text(struct buf *line, const char *now, enum log_level level, const char *event,
                        const struct log_field *fields)
{
    char scratch[16];
    buf_printf(line, "%s %-5s %s %s", now, level_names[level], logger.process, event);
    for (const struct log_field *f = fields; f->key; f++) {
        buf_printf(line, " %s=", f->key);
        if (f->kind == LOG_FIELD_INT)
            buf_printf(line, "%lld", (long long)f->num);
        else
            add_string(line, shown(f, scratch), false);
    }
}

static void format_json(struct buf *line, const char *now, enum log_level level, const char *event,
                        const struct log_field *fields)
{
    char scratch[16];
    buf_printf(line, "{\"time\":\"%s\",\"level\":\"%s\",\"process\":\"%s\",\"event\":\"%s\"", now,
               level_names[level], logger.process, event);
    for (const struct log_field *f = fields; f->key; f++) {
        buf_printf(line, ",\"%s\":", f->key);
        if (f->kind == LOG_FIELD_INT)
            buf_printf(line, "%lld", (long long)f->num);
        else
            add_string(line, shown(f, scratch), true);
    }
    buf_add_char(line, '}');
}

void log_write(enum log_level level, const char *event, const struct log_field *fields)
{
    if (level < logger.level)
        return;
    char now[40];
    format_now(now);
    BUF_CLEANUP struct buf line = {0};
    pthread_mutex_lock(&logger.lock);
    if (logger.format == LOG_JSON)
        format_json(&line, now, level, event, fields);
    else
        format_text(&line, now, level, event, fields);
    buf_add_char(&line, '\n');
    // One write, so that lines of several processes on one pipe do not mix. A full disk or a closed
    // pipe must not stop the service.
    ssize_t n = write(logger.fd, line.data, line.len);
    (void)n;
    pthread_mutex_unlock(&logger.lock);
}
