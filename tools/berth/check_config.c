#include "common/config.h"
#include "common/core/buf.h"
#include "tools/berth/berth.h"

#include <stdio.h>
#include <string.h>

int command_check_config(int argc, char **argv)
{
    if (argc != 2)
        return BERTH_USAGE;
    // For the build: the reference page and the sample come from the same table as the parser.
    bool reference = !strcmp(argv[1], "--reference");
    if (reference || !strcmp(argv[1], "--sample")) {
        BUF_CLEANUP struct buf text = {0};
        if (reference)
            config_write_reference(&text);
        else
            config_write_sample(&text);
        fputs(text.data, stdout);
        return BERTH_OK;
    }
    if (*argv[1] == '-')
        return BERTH_USAGE;
    struct config *config = NULL;
    struct error err = {{0}};
    if (config_load(&config, argv[1], &err)) {
        fprintf(stderr, "%s\n", err.text);
        return BERTH_REFUSED;
    }
    config_free(&config);
    printf("%s: ok\n", argv[1]);
    return BERTH_OK;
}
