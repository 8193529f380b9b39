#include "common/json.h"

#include "common/core/json_check.h"

#include <pthread.h>
#include <stdlib.h>

// cJSON's allocator is global, so what it allocates from is a variable of the thread.
static _Thread_local struct arena *current;

static void *json_alloc(size_t bytes)
{
    return current ? arena_alloc(current, bytes) : malloc(bytes);
}

static void json_free(void *p)
{
    if (!current)
        free(p);
}

static void set_hooks(void)
{
    cJSON_Hooks hooks = {.malloc_fn = json_alloc, .free_fn = json_free};
    cJSON_InitHooks(&hooks);
}

cJSON *json_parse(struct arena *arena, const char *text, size_t len, struct error *err)
{
    return json_parse_ids(arena, text, len, NULL, err);
}

cJSON *json_parse_ids(struct arena *arena, const char *text, size_t len, struct json_ids *ids,
                      struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const char *why;
    size_t at;
    if (json_check(text, len, JSON_DEPTH_MAX, ids, &why, &at)) {
        error_set(err, "not acceptable JSON at byte %zu: %s", at, why);
        return NULL;
    }
    pthread_once(&once, set_hooks);
    current = arena;
    cJSON *tree = cJSON_ParseWithLengthOpts(text, len, NULL, 0);
    current = NULL;
    if (!tree)
        error_set(err, "not acceptable JSON");
    return tree;
}
