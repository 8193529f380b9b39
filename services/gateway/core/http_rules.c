#include "services/gateway/core/http_rules.h"

#include <string.h>
#include <strings.h>

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t");
}

// Eats word, ignoring case. NULL if it does not stand there.
static const char *eat(const char *p, const char *word)
{
    size_t len = strlen(word);
    return p && !strncasecmp(p, word, len) ? p + len : NULL;
}

bool content_type_is_json(const char *value)
{
    if (!value)
        return false;
    const char *p = eat(skip_blanks(value), "application/json");
    if (!p)
        return false;
    p = skip_blanks(p);
    if (*p == ';') {
        const char *parameter = skip_blanks(p + 1);
        p = eat(parameter, "charset=utf-8");
        if (!p)
            p = eat(parameter, "charset=\"utf-8\"");
        if (!p)
            return false;
        p = skip_blanks(p);
    }
    return *p == '\0';
}

bool origin_host(const char *value, const char **host, size_t *len)
{
    const char *p = strstr(value, "://");
    if (!p || p == value)
        return false;
    p += 3;
    const char *end;
    if (*p == '[') {
        end = strchr(++p, ']');
        if (!end || (end[1] && end[1] != ':'))
            return false;
    } else {
        end = p + strcspn(p, ":");
    }
    size_t n = (size_t)(end - p);
    if (n == 0 || strcspn(p, "/?#@ \t\\") < n)
        return false;
    *host = p;
    *len = n;
    return true;
}

bool origin_is(const char *value, const char *allowed)
{
    if (strstr(allowed, "://"))
        return !strcasecmp(value, allowed);
    const char *host;
    size_t len;
    return origin_host(value, &host, &len) && strlen(allowed) == len &&
           !strncasecmp(host, allowed, len);
}

const char *bearer_token(const char *value)
{
    const char *p = value ? eat(skip_blanks(value), "Bearer ") : NULL;
    if (!p)
        return NULL;
    p = skip_blanks(p);
    return *p ? p : NULL;
}
