#include "services/trust/token_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "cloud-token"
#define FILE_NEW "cloud-token.new"
#define HEADER "berth-cloud-token 1\n"

struct token_store {
    int dir_fd;
    char *path; // of the folder, for messages
    char server_id[65];
    char token[CLOUD_TOKEN_MAX + 1];
};

// HEADER, server ID, token, one a line. False if it is anything else.
static bool parse(struct token_store *s, char *text)
{
    size_t header = strlen(HEADER), id = strlen(s->server_id);
    if (strncmp(text, HEADER, header) != 0)
        return false;
    char *p = text + header;
    if (strncmp(p, s->server_id, id) != 0 || p[id] != '\n')
        return false;
    p += id + 1;
    char *end = strchr(p, '\n');
    if (end == NULL || end[1] != '\0' || !cloud_token_valid(p, (size_t)(end - p)))
        return false;
    *end = '\0';
    memcpy(s->token, p, (size_t)(end - p) + 1);
    return true;
}

static int load(struct token_store *s, bool *ignored, struct error *err)
{
    int fd = openat(s->dir_fd, FILE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return 0;
    char text[sizeof HEADER + sizeof s->server_id + sizeof s->token + 2];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    int e = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return error_set(err, "%s/%s: %s", s->path, FILE_NAME, strerror(e)), -e;
    text[n] = '\0';
    *ignored = strlen(text) != (size_t)n || !parse(s, text);
    return 0;
}

int token_store_new(struct token_store **out, const char *state_dir, const char *server_id,
                    bool *ignored, struct error *err)
{
    *ignored = false;
    if (mkdir(state_dir, 0700) < 0 && errno != EEXIST) {
        int e = errno;
        return error_set(err, "trust.state_dir: %s cannot be made: %s", state_dir, strerror(e)),
               -e;
    }
    int fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        int e = errno;
        return error_set(err, "trust.state_dir: %s: %s", state_dir, strerror(e)), -e;
    }
    struct token_store *s = calloc(1, sizeof *s);
    char *path = strdup(state_dir);
    if (s == NULL || path == NULL)
        abort();
    s->dir_fd = fd;
    s->path = path;
    snprintf(s->server_id, sizeof s->server_id, "%s", server_id);
    int r = load(s, ignored, err);
    if (r < 0)
        token_store_free(&s);
    *out = s;
    return r;
}

void token_store_free(struct token_store **store)
{
    struct token_store *s = *store;
    if (s == NULL)
        return;
    close(s->dir_fd);
    free(s->path);
    free(s);
    *store = NULL;
}

const char *token_store_get(const struct token_store *store)
{
    return store->token;
}

static int write_all(int fd, const char *p, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

static int write_file(struct token_store *s, const char *text, size_t len)
{
    // A leftover of a crash; O_EXCL then makes sure that nobody's link is written through.
    unlinkat(s->dir_fd, FILE_NEW, 0);
    int fd = openat(s->dir_fd, FILE_NEW, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                    0600);
    if (fd < 0)
        return -errno;
    int r = write_all(fd, text, len);
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    if (close(fd) < 0 && r == 0)
        r = -errno;
    if (r == 0 && renameat(s->dir_fd, FILE_NEW, s->dir_fd, FILE_NAME) < 0)
        r = -errno;
    if (r == 0 && fsync(s->dir_fd) < 0)
        r = -errno;
    return r;
}

int token_store_set(struct token_store *store, const char *token, struct error *err)
{
    char text[sizeof HEADER + sizeof store->server_id + sizeof store->token + 2];
    int len = snprintf(text, sizeof text, HEADER "%s\n%s\n", store->server_id, token);
    int r = write_file(store, text, (size_t)len);
    if (r < 0)
        return error_set(err, "%s/%s cannot be written: %s", store->path, FILE_NAME,
                         strerror(-r)),
               r;
    snprintf(store->token, sizeof store->token, "%s", token);
    return 0;
}
