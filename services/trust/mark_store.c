#include "services/trust/mark_store.h"

#include "common/files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER "berth-clock-mark 1\n"
#define FILE_BYTES_MAX 256

int mark_load(struct wall_time *out, const char *state_dir, struct error *err)
{
    char *path = path_join(state_dir, MARK_FILE), *text = NULL;
    size_t len = 0, header = strlen(HEADER);
    int r = file_read(path, FILE_BYTES_MAX, &text, &len, err);
    if (r == -ENOENT) {
        r = 1;
    } else if (r == 0 &&
               (len <= header + 1 || strncmp(text, HEADER, header) != 0 || text[len - 1] != '\n' ||
                wall_parse(text + header, len - header - 1, WALL_NO_DATE, out) < 0)) {
        error_set(err, "%s is damaged", path);
        r = -EINVAL;
    }
    free(text);
    free(path);
    return r;
}

int mark_save(struct wall_time at, const char *state_dir, struct error *err)
{
    char date[32], text[64];
    int len = snprintf(text, sizeof text, HEADER "%s\n", wall_format(at, date));
    int r = dir_make(state_dir, 0700, err);
    if (r < 0)
        return r;
    char *path = path_join(state_dir, MARK_FILE);
    r = file_replace(path, text, (size_t)len, err);
    free(path);
    return r;
}
