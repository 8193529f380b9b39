// A table on stdout, its columns as wide as what stands in them.
#pragma once

#include <stddef.h>

#define TABLE_COLUMNS_MAX 12

struct table;
// The heads, NULL-terminated, at most TABLE_COLUMNS_MAX; one that begins with '>' is set to the
// right. They must live as long as the table.
struct table *table_new(const char *const *heads);
void table_free(struct table **table);
// One more cell, row by row. The text is copied; control characters of it become '?'.
void table_add(struct table *table, const char *text);
void table_add_number(struct table *table, double number);
void table_print(const struct table *table);
