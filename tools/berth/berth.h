// The `berth` command line (operations.md, "Commands"). One table of subcommands in main.c; each
// subcommand is a function in a file of its own.
#pragma once

#include "common/core/error.h"

#define BERTH_OK 0
#define BERTH_REFUSED 1     // by the server, by a check; the start was refused
#define BERTH_USAGE 2       // main prints the usage of the subcommand
#define BERTH_UNREACHABLE 3 // the server does not answer

struct command {
    const char *name;
    const char *summary; // one line
    const char *usage;   // what follows "berth <name> "; further lines are indented as they are
    // argv[0] is the name of the subcommand. Returns the exit code.
    int (*fn)(int argc, char **argv);
};

int command_serve(int argc, char **argv);
int command_check_config(int argc, char **argv);
int command_check_license(int argc, char **argv);
int command_rpc_keys(int argc, char **argv);
int command_status(int argc, char **argv);
int command_licenses(int argc, char **argv);
int command_borrow(int argc, char **argv);
int command_borrowed(int argc, char **argv);
int command_sessions(int argc, char **argv);
