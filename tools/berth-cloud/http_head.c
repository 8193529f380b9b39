#include "tools/berth-cloud/http_head.h"

#include <string.h>
#include <strings.h>

static bool is_token(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (s[i] <= ' ' || s[i] > '~' || strchr("\"(),/:;<=>?@[\\]{}", s[i]) != NULL)
            return false;
    }
    return len > 0;
}

static bool take(char *out, size_t cap, const char *s, size_t len)
{
    if (len >= cap)
        return false;
    memcpy(out, s, len);
    out[len] = '\0';
    return true;
}

static int parse_line(struct http_head *out, const char *line, size_t len)
{
    const char *space = memchr(line, ' ', len);
    const char *version = len > 9 ? line + len - 9 : line;
    if (space == NULL || version <= space || memcmp(version, " HTTP/1.1", 9) != 0)
        return 400;
    size_t method = (size_t)(space - line), path = (size_t)(version - space) - 1;
    if (!is_token(line, method) || !take(out->method, sizeof out->method, line, method))
        return 400;
    if (path == 0 || space[1] != '/' || memchr(space + 1, ' ', path) != NULL)
        return 400;
    return take(out->path, sizeof out->path, space + 1, path) ? 0 : 404;
}

static int parse_length(struct http_head *out, const char *value, size_t len, size_t max)
{
    if (len == 0 || len > 12)
        return len == 0 ? 400 : 413;
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (value[i] < '0' || value[i] > '9')
            return 400;
        n = n * 10 + (size_t)(value[i] - '0');
    }
    out->content_length = n;
    return n > max ? 413 : 0;
}

static bool named(const char *name, const char *line, size_t len)
{
    return strlen(name) == len && strncasecmp(name, line, len) == 0;
}

static int parse_field(struct http_head *out, const char *line, size_t len, size_t max,
                       bool *has_length)
{
    const char *colon = memchr(line, ':', len);
    if (colon == NULL || !is_token(line, (size_t)(colon - line)))
        return 400;
    const char *value = colon + 1, *end = line + len;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    size_t name = (size_t)(colon - line), n = (size_t)(end - value);
    if (named("transfer-encoding", line, name))
        return 400;
    if (named("content-type", line, name))
        return take(out->content_type, sizeof out->content_type, value, n) ? 0 : 415;
    if (!named("content-length", line, name))
        return 0;
    if (*has_length)
        return 400;
    *has_length = true;
    return parse_length(out, value, n, max);
}

int http_head_parse(struct http_head *out, const char *text, size_t len, size_t max_body_bytes)
{
    memset(out, 0, sizeof *out);
    const char *p = text, *end = text + len;
    bool first = true, has_length = false;
    while (p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        if (lf == NULL || lf == p || lf[-1] != '\r')
            return 400;
        size_t n = (size_t)(lf - p) - 1;
        for (size_t i = 0; i < n; i++) {
            if (((unsigned char)p[i] < ' ' && p[i] != '\t') || p[i] == 127)
                return 400;
        }
        if (n == 0)
            return first || lf + 1 != end ? 400 : 0;
        int r = first ? parse_line(out, p, n)
                      : parse_field(out, p, n, max_body_bytes, &has_length);
        if (r != 0)
            return r;
        first = false;
        p = lf + 1;
    }
    return 400;
}
