// Small files and their folders. Errors are -errno, and err names the path.
#pragma once

#include "common/core/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

char *path_join(const char *dir, const char *name); // malloc'd
int dir_make(const char *path, unsigned mode, struct error *err); // with its parents; may exist
bool file_exists(const char *path);
// May nobody but `reader` (a user ID) read this secret? True if only its owner may; and if it is
// root's, its group may read it, and `reader` is not root: so are secrets mounted for a process
// that is not root (Kubernetes with fsGroup, systemd's credentials), and the group is made for it.
bool file_is_private(const struct stat *st, uid_t reader);
// Takes the file's lock for this process alone; waits up to two seconds for one that is about to
// end, as after a supervisor that was killed. -EWOULDBLOCK: another process keeps it.
int file_lock(int fd);
// Writes all of it, and syncs. -errno.
int file_write(int fd, const char *text, size_t len);
// Never overwrites (-EEXIST); on failure nothing stays behind.
int file_create(const char *path, const char *text, size_t len, unsigned mode, struct error *err);
// Puts the text in the place of what is there, at once. Mode 0644.
int file_replace(const char *path, const char *text, size_t len, struct error *err);
// The whole file, malloc'd, with a NUL behind it. -EFBIG if it is longer than max_bytes.
int file_read(const char *path, size_t max_bytes, char **text, size_t *len, struct error *err);
