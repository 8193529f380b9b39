// What the commands of `berth` that talk to a running server have in common.
#pragma once

#include "common/config.h"
#include "common/core/arena.h"
#include "common/core/error.h"
#include "tools/berth/berth.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

// CLIENT_BORROW: as CLIENT_LICENSES, with the token for borrowing if there is one.
enum client_port { CLIENT_LICENSES, CLIENT_BORROW, CLIENT_ADMIN };

// An option of one command alone, with a value: "--host-id", or "-o".
struct client_option {
    const char *name;
    const char *value; // NULL: not given
};
#define CLIENT_OPTIONS_MAX 8

#define CLIENT_HOSTS_MAX 4

struct client {
    const char *name;       // of the command, for messages
    const char *server, *ca, *token_file; // of the command line, or NULL
    struct config *config;  // of -c, or NULL
    bool json;
    struct arena *arena;    // answers live here
};

// Reads --server, --ca, --token-file, -c, --json, and the command's own (NULL: none; the last one's
// name is NULL). Returns an exit code, after a message if it is not BERTH_OK. client_fini in any
// case.
int client_init(struct client *client, int argc, char **argv, struct client_option *own);
void client_fini(struct client *client);

// GET of a path that answers with JSON.
int client_get(struct client *client, enum client_port port, const char *path, cJSON **out);
// A JSON-RPC call: POST /licenses, or /admin with the token. params: a JSON object, or NULL. *out:
// the result. All return an exit status, after a message on stderr if it is not EXIT_DONE.
int client_call(struct client *client, enum client_port port, const char *method,
                const char *params, cJSON **out);
// As client_call, but the message goes to err and nothing is printed.
int client_try(struct client *client, enum client_port port, const char *method,
               const char *params, cJSON **out, struct error *err);

void client_print_json(const cJSON *value);
// The string member, or "" if there is none. For numbers: client_number, 0 if there is none.
const char *client_string(const cJSON *object, const char *key);
double client_number(const cJSON *object, const char *key);

// The table of `berth licenses`; status shows it too.
void licenses_print(const cJSON *licenses);
