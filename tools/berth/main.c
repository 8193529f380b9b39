#include "tools/berth/berth.h"

#include <stdio.h>
#include <string.h>

static const struct command commands[] = {
    {"serve", "runs the server: trust, pool, borrow and gateway under one supervisor",
     "all|licenses [-c FILE]\n"
     "  all       with the admin listener\n"
     "  licenses  without it\n"
     "  -c FILE   configuration file; default: config.yaml next to the executable",
     command_serve},
    {"check-config", "says whether a configuration file is right, and if not, all that is wrong",
     "FILE", command_check_config},
};
#define COMMANDS (sizeof commands / sizeof *commands)

static void print_usage(FILE *out)
{
    fputs("usage: berth COMMAND …\n\n", out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-14s %s\n", commands[i].name, commands[i].summary);
    fputs("\n  berth COMMAND -h   tells more about a command\n"
          "  berth --version    the version\n\n"
          "exit: 0 done, 1 refused, 2 wrong usage, 3 server not reachable\n",
          out);
}

static void print_command_usage(FILE *out, const struct command *command)
{
    fprintf(out, "usage: berth %s %s\n", command->name, command->usage);
}

static int run(const struct command *command, int argc, char **argv)
{
    // Behind "--" stands another program's command line.
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help")) {
            printf("berth %s: %s\n\n", command->name, command->summary);
            print_command_usage(stdout, command);
            return BERTH_OK;
        }
    }
    int code = command->fn(argc, argv);
    if (code == BERTH_USAGE)
        print_command_usage(stderr, command);
    return code;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "-h") || !strcmp(name, "--help")) {
        print_usage(stdout);
        return BERTH_OK;
    }
    if (!strcmp(name, "--version")) {
        puts("berth " BERTH_VERSION);
        return BERTH_OK;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (!strcmp(commands[i].name, name))
            return run(&commands[i], argc - 1, argv + 1);
    }
    if (*name)
        fprintf(stderr, "berth: there is no command '%s'\n", name);
    print_usage(stderr);
    return BERTH_USAGE;
}
