#include "tools/command.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool is_help(const char *argument)
{
    return !strcmp(argument, "-h") || !strcmp(argument, "--help");
}

static void print_help(FILE *out, const struct command_table *table)
{
    int width = 0;
    for (const struct command *c = table->commands; c->name; c++)
        width = (int)strlen(c->name) > width ? (int)strlen(c->name) : width;
    fprintf(out, "usage: %s COMMAND …\n\n", table->program);
    for (const struct command *c = table->commands; c->name; c++)
        fprintf(out, "  %-*s  %s\n", width, c->name, c->summary);
    fprintf(out,
            "\n  %s COMMAND -h   tells more about a command\n"
            "  %s --version    the version\n\n%s",
            table->program, table->program, table->notes);
}

static void print_usage(FILE *out, const char *program, const struct command *command)
{
    fprintf(out, "usage: %s %s %s\n", program, command->name, command->usage);
}

static int run(const char *program, const struct command *command, int argc, char **argv)
{
    // Behind "--" stands another program's command line.
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (is_help(argv[i])) {
            printf("%s %s: %s\n\n", program, command->name, command->summary);
            print_usage(stdout, program, command);
            return COMMAND_OK;
        }
    }
    int code = command->fn(argc, argv);
    if (code == COMMAND_USAGE)
        print_usage(stderr, program, command);
    return code;
}

int command_run(const struct command_table *table, int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (is_help(name)) {
        print_help(stdout, table);
        return COMMAND_OK;
    }
    if (!strcmp(name, "--version")) {
        printf("%s " BERTH_VERSION "\n", table->program);
        return COMMAND_OK;
    }
    for (const struct command *c = table->commands; c->name; c++) {
        if (!strcmp(c->name, name))
            return run(table->program, c, argc - 1, argv + 1);
    }
    if (*name)
        fprintf(stderr, "%s: there is no command '%s'\n", table->program, name);
    print_help(stderr, table);
    return COMMAND_USAGE;
}
