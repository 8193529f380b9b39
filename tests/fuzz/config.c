#include "common/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *config = NULL;
    struct error err = {{0}};
    (void)config_parse(&config, "fuzz.yaml", "/etc/berth", (const char *)data, size, &err);
    config_free(&config);
    return 0;
}
