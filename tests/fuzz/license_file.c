#include "common/core/license_block.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(1024);
    struct license_file file;
    struct license_fields fields;
    struct error err = {{0}};
    if (!license_file_parse(arena, (const char *)data, size, &file, &err)) {
        for (size_t i = 0; i < file.blocks_len; i++)
            (void)license_fields_parse(&file.blocks[i], &fields, &err);
    }
    arena_free(&arena);
    return 0;
}
