#include "services/gateway/tokens.h"

#include "common/core/text.h"
#include "common/crypto.h"
#include "common/files.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKEN_BYTES_MAX 1024
#define TOKEN_BYTES_GOOD 16 // shorter ones can be guessed: warned about
#define TOKEN_RANDOM_BYTES 32

static int fail(struct error *err, const char *name, const char *path, const char *what, int code)
{
    error_set(err, "%s: %s: %s: %s", name, path, what, strerror(code));
    return -code;
}

// The file appears at its path complete or not at all, and never replaces one that is there.
static int token_create(const char *path, const char *name, struct error *err)
{
    uint8_t random[TOKEN_RANDOM_BYTES];
    char text[2 * TOKEN_RANDOM_BYTES + 2];
    char temporary[4096];
    if (snprintf(temporary, sizeof temporary, "%s.new.%ld", path, (long)getpid()) >=
        (int)sizeof temporary)
        return fail(err, name, path, "cannot be made", ENAMETOOLONG);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(err, name, path, "there is no token file, and none can be made", errno);
    crypto_random(random, sizeof random);
    hex_encode(random, sizeof random, text);
    text[2 * TOKEN_RANDOM_BYTES] = '\n';
    int r = file_write(fd, text, 2 * TOKEN_RANDOM_BYTES + 1);
    crypto_wipe(text, sizeof text);
    crypto_wipe(random, sizeof random);
    close(fd);
    if (!r && link(temporary, path))
        r = -errno;
    unlink(temporary);
    if (r == -EEXIST)
        return 0;
    if (r)
        return fail(err, name, path, "there is no token file, and none can be made", -r);
    log_info("token.made", LOG_S("key", name), LOG_S("file", path),
             LOG_S("msg", "a new random token was written to this file"));
    return 0;
}

static int token_check_file(int fd, const char *path, const char *name, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st))
        return fail(err, name, path, "cannot be read", errno);
    if (!S_ISREG(st.st_mode)) {
        error_set(err, "%s: %s: not a regular file", name, path);
        return -EINVAL;
    }
    if (!file_is_private(&st, geteuid()))
        log_warn("token.readable", LOG_S("key", name), LOG_S("file", path),
                 LOG_S("msg", "others may read this token: give the file the mode 0600"));
    return 0;
}

static int token_parse(struct token *out, char *text, size_t len, const char *path,
                       const char *name, struct error *err)
{
    while (len > 0 && strchr(" \t\r\n", text[len - 1]))
        len--;
    bool good = len > 0 && len <= TOKEN_BYTES_MAX;
    for (size_t i = 0; i < len; i++)
        good = good && text[i] > ' ' && text[i] < 0x7f;
    if (!good) {
        error_set(err,
                  "%s: %s: a token is one line of 1 to %d printable ASCII characters; "
                  "delete the file to get a new one",
                  name, path, TOKEN_BYTES_MAX);
        return -EINVAL;
    }
    if (len < TOKEN_BYTES_GOOD)
        log_warn("token.short", LOG_S("key", name), LOG_S("file", path),
                 LOG_S("msg", "this token is short enough to be guessed: delete the file to get a "
                              "random one"));
    crypto_sha256(text, len, out->digest);
    out->set = true;
    return 0;
}

static int token_read(struct token *out, int fd, const char *path, const char *name,
                      struct error *err)
{
    char text[TOKEN_BYTES_MAX + 64];
    size_t len = 0;
    int r = token_check_file(fd, path, name, err);
    while (!r && len < sizeof text) {
        ssize_t n = read(fd, text + len, sizeof text - len);
        if (n < 0 && errno != EINTR)
            r = fail(err, name, path, "cannot be read", errno);
        if (n == 0)
            break;
        len += n > 0 ? (size_t)n : 0;
    }
    if (!r)
        r = token_parse(out, text, len, path, name, err);
    crypto_wipe(text, sizeof text);
    return r;
}

int token_load(struct token *out, const char *path, const char *name, struct error *err)
{
    // Secrets are often mounted as symbolic links, so links are followed when reading.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        int r = token_create(path, name, err);
        if (r)
            return r;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    }
    if (fd < 0)
        return fail(err, name, path, "cannot be read", errno);
    struct token token = {0};
    int r = token_read(&token, fd, path, name, err);
    close(fd);
    if (!r)
        *out = token;
    return r;
}

bool token_matches(const struct token *token, const char *given)
{
    uint8_t digest[32];
    if (!given || !token->set)
        return false;
    // Digests are compared, so that not even the length can be measured.
    crypto_sha256(given, strlen(given), digest);
    return crypto_equal(digest, token->digest, sizeof digest);
}
