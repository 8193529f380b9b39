// berth sessions: who holds a seat. Needs the token of administrators.
#include "tools/berth/client.h"
#include "tools/berth/table.h"

#include <stdio.h>
#include <string.h>

// A whole session ID is as good as the session: a table that is shown around has its beginning.
static void add_session_id(struct table *table, const char *id)
{
    char text[16];
    snprintf(text, sizeof text, "%.6s%s", id, strlen(id) > 6 ? "…" : "");
    table_add(table, text);
}

static void sessions_print(const cJSON *sessions)
{
    static const char *const heads[] = {"SESSION", "FEATURE", "VERSION", "EDITION",   "MODULES",
                                        "USER",    "HOST",    "APPLICATION", "SINCE", "LAST SEEN",
                                        "EXPIRES", NULL};
    struct table *table = table_new(heads);
    const cJSON *s;
    cJSON_ArrayForEach(s, sessions)
    {
        const cJSON *license = cJSON_GetObjectItemCaseSensitive(s, "license");
        const cJSON *client = cJSON_GetObjectItemCaseSensitive(s, "client");
        add_session_id(table, client_string(s, "sessionId"));
        table_add(table, client_string(license, "feature"));
        table_add(table, client_string(license, "version"));
        table_add(table, client_string(license, "edition"));
        table_add(table, client_string(license, "modules"));
        table_add(table, client_string(client, "user"));
        table_add(table, client_string(client, "hostname"));
        table_add(table, client_string(client, "application"));
        table_add(table, client_string(s, "since"));
        table_add(table, client_string(s, "lastSeen"));
        table_add(table, client_string(s, "expires"));
    }
    if (cJSON_GetArraySize(sessions))
        table_print(table);
    else
        puts("no sessions");
    table_free(&table);
}

int command_sessions(int argc, char **argv)
{
    struct client client;
    cJSON *sessions = NULL;
    int status = client_init(&client, argc, argv, NULL);
    if (!status) {
        status = client_call(&client, CLIENT_ADMIN, "ListSessionsV1", NULL, &sessions);
        if (!status && client.json)
            client_print_json(sessions);
        else if (!status)
            sessions_print(sessions);
    }
    client_fini(&client);
    return status;
}
