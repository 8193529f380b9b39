// A growing byte buffer. `data` is always NUL-terminated behind `len` once anything was added.
// Zero-initialise it (struct buf b = {0}); buf_fini frees. Allocation failure aborts.
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data;
    size_t len;
    size_t cap;
};

void buf_fini(struct buf *b);
void buf_clear(struct buf *b); // len = 0, memory is kept
void buf_reserve(struct buf *b, size_t extra_bytes);
void buf_add(struct buf *b, const void *data, size_t len);
void buf_add_str(struct buf *b, const char *s);
void buf_add_char(struct buf *b, char c);
void buf_add_u64(struct buf *b, uint64_t n); // decimal
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_consume(struct buf *b, size_t len); // drops the first len bytes
// Appends s as a JSON string with quotes. s must be valid UTF-8; control characters are escaped,
// and <, >, & and U+2028/9 too, so that the text is safe wherever it is pasted.
void buf_add_json_string(struct buf *b, const char *s, size_t len);

#define BUF_CLEANUP __attribute__((cleanup(buf_fini)))
