// The `berth` command line (operations.md, "Commands"). One table of subcommands in main.c; each
// subcommand is a function in a file of its own.
#pragma once

#include "common/core/error.h"
#include "tools/command.h"

#define BERTH_OK COMMAND_OK
#define BERTH_REFUSED COMMAND_REFUSED // by the server, by a check; the start was refused
#define BERTH_USAGE COMMAND_USAGE
#define BERTH_UNREACHABLE 3 // the server does not answer

int command_serve(int argc, char **argv);
int command_check_config(int argc, char **argv);
int command_check_license(int argc, char **argv);
int command_rpc_keys(int argc, char **argv);
int command_status(int argc, char **argv);
int command_licenses(int argc, char **argv);
int command_borrow(int argc, char **argv);
int command_borrowed(int argc, char **argv);
int command_sessions(int argc, char **argv);
