// A command line program with subcommands: a table, and the help and the dispatch that follow from
// it. Of berth and berth-vendor.
#pragma once

// Exit codes; a program may have more.
#define COMMAND_OK 0
#define COMMAND_REFUSED 1
#define COMMAND_USAGE 2 // the usage of the subcommand is printed after it

struct command {
    const char *name;
    const char *summary; // one line
    const char *usage;   // what follows "PROGRAM NAME "; further lines are indented as they are
    // argv[0] is the name of the subcommand. Returns the exit code.
    int (*fn)(int argc, char **argv);
};

struct command_table {
    const char *program;
    const struct command *commands; // the last has no name
    const char *notes;              // at the end of the help: lines, each with its end
};

// Runs the subcommand that argv[1] names, or prints what -h, --help, --version (of the program) or
// -h, --help (of a subcommand) ask for. Returns the exit code.
int command_run(const struct command_table *table, int argc, char **argv);
