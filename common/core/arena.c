#include "common/core/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct block {
    struct block *next;
    size_t cap;
    alignas(16) char data[];
};

struct arena {
    struct block *first;   // kept over resets
    struct block *current; // where the next allocation is tried; blocks behind it are full
    size_t used;           // bytes of current
};

static struct block *block_new(size_t cap)
{
    struct block *b = malloc(sizeof *b + cap);
    if (!b)
        abort();
    b->next = NULL;
    b->cap = cap;
    return b;
}

struct arena *arena_new(size_t first_block_bytes)
{
    struct arena *a = malloc(sizeof *a);
    if (!a)
        abort();
    a->first = block_new(first_block_bytes);
    a->current = a->first;
    a->used = 0;
    return a;
}

void arena_reset(struct arena *a)
{
    struct block *b = a->first->next;
    while (b) {
        struct block *next = b->next;
        free(b);
        b = next;
    }
    a->first->next = NULL;
    a->current = a->first;
    a->used = 0;
}

void arena_free(struct arena **a)
{
    if (!*a)
        return;
    arena_reset(*a);
    free((*a)->first);
    free(*a);
    *a = NULL;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    if (bytes > SIZE_MAX / 4)
        abort();
    bytes = (bytes + 15) & ~(size_t)15;
    if (a->current->cap < a->used || a->current->cap - a->used < bytes) {
        size_t cap = a->current->cap * 2;
        struct block *b = block_new(cap > bytes ? cap : bytes);
        a->current->next = b;
        a->current = b;
        a->used = 0;
    }
    void *p = a->current->data + a->used;
    a->used += bytes;
    return p;
}

void *arena_zalloc(struct arena *a, size_t bytes)
{
    return memset(arena_alloc(a, bytes), 0, bytes);
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
    char *copy = arena_alloc(a, len + 1);
    if (len)
        memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    if (!format) // UBSan's own check of it makes gcc believe that it may be NULL
        abort();
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0)
        abort();
    char *text = arena_alloc(a, (size_t)len + 1);
    vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    return text;
}
