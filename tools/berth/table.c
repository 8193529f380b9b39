#include "tools/berth/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct table {
    const char *const *heads;
    size_t columns;
    char **cells;
    size_t len, cap;
};

struct table *table_new(const char *const *heads)
{
    struct table *t = calloc(1, sizeof *t);
    if (!t)
        abort();
    t->heads = heads;
    while (t->columns < TABLE_COLUMNS_MAX && heads[t->columns])
        t->columns++;
    return t;
}

void table_free(struct table **table)
{
    if (!*table)
        return;
    for (size_t i = 0; i < (*table)->len; i++)
        free((*table)->cells[i]);
    free((*table)->cells);
    free(*table);
    *table = NULL;
}

void table_add(struct table *t, const char *text)
{
    if (t->len == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->cells = realloc(t->cells, t->cap * sizeof *t->cells);
    }
    char *copy = t->cells ? strdup(*text ? text : "-") : NULL;
    if (!copy)
        abort();
    for (char *p = copy; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    }
    t->cells[t->len++] = copy;
}

void table_add_number(struct table *t, double number)
{
    char text[32];
    snprintf(text, sizeof text, "%.0f", number);
    table_add(t, text);
}

// Characters, not bytes.
static size_t width(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void print_cell(const char *text, size_t columns, int right, int last)
{
    int pad = (int)(columns - width(text));
    if (right)
        printf("%*s%s", pad, "", text);
    else
        printf("%s%*s", text, last ? 0 : pad, "");
    fputs(last ? "\n" : "  ", stdout);
}

void table_print(const struct table *t)
{
    size_t widths[TABLE_COLUMNS_MAX];
    const char *names[TABLE_COLUMNS_MAX];
    int right[TABLE_COLUMNS_MAX];
    for (size_t c = 0; c < t->columns; c++) {
        right[c] = *t->heads[c] == '>';
        names[c] = t->heads[c] + right[c];
        widths[c] = width(names[c]);
    }
    for (size_t i = 0; i < t->len; i++) {
        size_t w = width(t->cells[i]);
        if (w > widths[i % t->columns])
            widths[i % t->columns] = w;
    }
    for (size_t c = 0; c < t->columns; c++)
        print_cell(names[c], widths[c], right[c], c + 1 == t->columns);
    for (size_t i = 0; i < t->len; i++) {
        size_t c = i % t->columns;
        print_cell(t->cells[i], widths[c], right[c], c + 1 == t->columns);
    }
}
