#include "common/config.h"
#include "common/log.h"
#include "tools/berth/berth.h"
#include "tools/berth/supervisor.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// The folder of this executable, in which the others lie too. 0 or -1.
static int own_folder(char *out, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", out, size - 1);
    if (n <= 0)
        return -1;
    out[n] = '\0';
    char *slash = strrchr(out, '/');
    if (!slash)
        return -1;
    *slash = '\0';
    return 0;
}

static int serve(const char *config_path)
{
    struct error err = {{0}};
    struct config *config = NULL;
    char folder[3000];
    if (config_load(&config, config_path, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return BERTH_REFUSED;
    }
    int code = BERTH_REFUSED;
    int r = log_init("berth", config->log.level, config->log.format, config->log.file);
    if (r) {
        fprintf(stderr, "berth: log.file: %s: %s\n", config->log.file, strerror(-r));
    } else if (own_folder(folder, sizeof folder)) {
        fprintf(stderr, "berth: cannot tell where the executable lies\n");
    } else {
        log_info("server.start", LOG_S("version", BERTH_VERSION), LOG_S("config", config->file));
        struct supervisor_options options = {.config = config, .folder = folder};
        code = supervisor_run(&options);
    }
    config_free(&config);
    return code;
}

int command_serve(int argc, char **argv)
{
    const char *what = NULL;
    const char *config_path = NULL;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-c") && i + 1 < argc && !config_path)
            config_path = argv[++i];
        else if (*argv[i] != '-' && !what)
            what = argv[i];
        else
            return BERTH_USAGE;
    }
    if (!what || (strcmp(what, "all") != 0 && strcmp(what, "licenses") != 0))
        return BERTH_USAGE;
    umask(077);
    signal(SIGPIPE, SIG_IGN);
    // The children learn it the same way.
    if (!strcmp(what, "licenses"))
        setenv("BERTH_SERVE_ADMIN_OFF", "1", 1);
    return serve(config_path);
}
