// The head of an HTTP/1.1 request, strictly: what two parsers might read differently is refused.
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct http_head {
    char method[8];
    char path[128];
    char content_type[64]; // "" if there is none
    size_t content_length;
};

// `text` ends with the empty line. 0, or the HTTP status to refuse it with.
int http_head_parse(struct http_head *out, const char *text, size_t len, size_t max_body_bytes);
