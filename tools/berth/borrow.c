// berth borrow: takes a license for offline use. berth borrowed: shows what is lent.
#include "tools/berth/client.h"

#include "common/core/buf.h"
#include "common/files.h"
#include "tools/berth/table.h"

#include <stdio.h>
#include <string.h>

// ---- borrow ----

enum { UUID, FEATURE, HOST_ID, UNTIL, FROM, OUT, OPTIONS };

static int check_options(const struct client *client, const struct client_option *options)
{
    for (int i = UUID; i <= UNTIL; i++) {
        if (options[i].value)
            continue;
        fprintf(stderr, "berth %s: %s is needed\n", client->name, options[i].name);
        return BERTH_USAGE;
    }
    return BERTH_OK;
}

static void add_param(struct buf *out, const char *name, const char *value)
{
    if (!value)
        return;
    buf_printf(out, "%c\"%s\":", out->len ? ',' : '{', name);
    buf_add_json_string(out, value, strlen(value));
}

// To the file that was named, else to stdout. The server's name for it is not used: what comes from
// a network does not say where a file lies.
static int deliver(const struct client *client, const struct client_option *options,
                   const cJSON *borrowed)
{
    const char *license = client_string(borrowed, "license"), *path = options[OUT].value;
    struct error err = {""};
    if (client->json)
        client_print_json(borrowed);
    else if (!path)
        fputs(license, stdout);
    if (!path)
        return BERTH_OK;
    if (file_replace(path, license, strlen(license), &err)) {
        fprintf(stderr,
                "berth borrow: %s. It is borrowed all the same: the same command with "
                "another file fetches it again\n",
                err.text);
        return BERTH_REFUSED;
    }
    if (!client->json)
        printf("%s: borrowed for host %s from %s until %s\n", path,
               client_string(borrowed, "hostId"), client_string(borrowed, "validFrom"),
               client_string(borrowed, "validUntil"));
    return BERTH_OK;
}

int command_borrow(int argc, char **argv)
{
    struct client_option options[OPTIONS + 1] = {
        [UUID] = {"--uuid", NULL},       [FEATURE] = {"--feature", NULL},
        [HOST_ID] = {"--host-id", NULL}, [UNTIL] = {"--until", NULL},
        [FROM] = {"--from", NULL},       [OUT] = {"-o", NULL}};
    struct client client;
    struct buf params BUF_CLEANUP = {0};
    cJSON *borrowed = NULL;
    int status = client_init(&client, argc, argv, options);
    if (!status)
        status = check_options(&client, options);
    if (!status) {
        add_param(&params, "uuid", options[UUID].value);
        add_param(&params, "feature", options[FEATURE].value);
        add_param(&params, "hostId", options[HOST_ID].value);
        add_param(&params, "validUntil", options[UNTIL].value);
        add_param(&params, "validFrom", options[FROM].value);
        buf_add_char(&params, '}');
        status = client_call(&client, CLIENT_BORROW, "BorrowLicenseV1", params.data, &borrowed);
    }
    if (!status)
        status = deliver(&client, options, borrowed);
    client_fini(&client);
    return status;
}

// ---- borrowed ----

static void print_borrowed(const cJSON *list)
{
    static const char *const heads[] = {"FEATURE", "HOST",      "VALID FROM", "VALID UNTIL",
                                        "UUID",    "BORROW ID", NULL};
    static const char *const members[] = {"feature",    "hostId", "validFrom",
                                          "validUntil", "uuid",   "borrowId"};
    struct table *table = table_new(heads);
    const cJSON *b;
    cJSON_ArrayForEach(b, list)
    {
        for (size_t i = 0; i < sizeof members / sizeof *members; i++)
            table_add(table, client_string(b, members[i]));
    }
    if (cJSON_GetArraySize(list))
        table_print(table);
    else
        puts("nothing is borrowed");
    table_free(&table);
}

int command_borrowed(int argc, char **argv)
{
    struct client client;
    cJSON *list = NULL;
    int status = client_init(&client, argc, argv, NULL);
    if (!status)
        status = client_call(&client, CLIENT_LICENSES, "ListBorrowedLicensesV1", NULL, &list);
    if (!status && client.json)
        client_print_json(list);
    else if (!status)
        print_borrowed(list);
    client_fini(&client);
    return status;
}
