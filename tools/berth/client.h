// What the commands of `berth` that talk to a running server have in common.
#pragma once

#include "common/config.h"
#include "common/core/arena.h"
#include "common/core/error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

// Exit status of `berth`.
enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_UNREACHABLE = 3 };

enum client_port { CLIENT_LICENSES, CLIENT_ADMIN };

#define CLIENT_HOSTS_MAX 4

struct client {
    const char *name;       // of the command, for messages
    const char *server, *ca, *token_file; // of the command line, or NULL
    struct config *config;  // of -c, or NULL
    bool json;
    bool help;              // -h: usage was printed
    struct arena *arena;    // answers live here
};

// Reads --server, --ca, --token-file, -c, --json. usage is printed for -h, and for an error.
// Returns an exit status; EXIT_DONE with client->help if there is nothing to do.
int client_init(struct client *client, int argc, char **argv, const char *usage);
void client_fini(struct client *client);

// GET of a path that answers with JSON.
int client_get(struct client *client, enum client_port port, const char *path, cJSON **out);
// A JSON-RPC call without parameters: POST /licenses, or /admin with the token. *out: the result.
// All return an exit status, after a message on stderr if it is not EXIT_DONE.
int client_call(struct client *client, enum client_port port, const char *method, cJSON **out);
// As client_call, but the message goes to err and nothing is printed.
int client_try(struct client *client, enum client_port port, const char *method, cJSON **out,
               struct error *err);

void client_print_json(const cJSON *value);
// The string member, or "" if there is none. For numbers: client_number, 0 if there is none.
const char *client_string(const cJSON *object, const char *key);
double client_number(const cJSON *object, const char *key);

// The subcommands; argv[0] is the subcommand's name.
int command_status(int argc, char **argv);
int command_licenses(int argc, char **argv);
int command_sessions(int argc, char **argv);
int command_check_license(int argc, char **argv);
// Used by status too.
void licenses_print(const cJSON *licenses);
