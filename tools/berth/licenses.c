// berth licenses: what the server has, and how much of it is free.
#include "tools/berth/client.h"
#include "tools/berth/table.h"

#include <stdio.h>

void licenses_print(const cJSON *licenses)
{
    static const char *const heads[] = {"FEATURE", "VERSION", "EDITION", "MODULES", ">SEATS",
                                        ">FREE",   ">BORROWS", "VALID FROM", "VALID UNTIL", "UUID",
                                        NULL};
    struct table *table = table_new(heads);
    const cJSON *l;
    cJSON_ArrayForEach(l, licenses)
    {
        const cJSON *borrows = cJSON_GetObjectItemCaseSensitive(l, "borrowedIntervals");
        table_add(table, client_string(l, "feature"));
        table_add(table, client_string(l, "version"));
        table_add(table, client_string(l, "edition"));
        table_add(table, client_string(l, "modules"));
        table_add_number(table, client_number(l, "count"));
        table_add_number(table, client_number(l, "available"));
        table_add_number(table, cJSON_GetArraySize(borrows));
        table_add(table, client_string(l, "validFrom"));
        table_add(table, client_string(l, "validUntil"));
        table_add(table, client_string(l, "uuid"));
    }
    if (cJSON_GetArraySize(licenses))
        table_print(table);
    else
        puts("no licenses");
    table_free(&table);
}

int command_licenses(int argc, char **argv)
{
    struct client client;
    cJSON *licenses = NULL;
    int status = client_init(&client, argc, argv, NULL);
    if (!status) {
        status = client_call(&client, CLIENT_LICENSES, "ListLicensesV1", NULL, &licenses);
        if (!status && client.json)
            client_print_json(licenses);
        else if (!status)
            licenses_print(licenses);
    }
    client_fini(&client);
    return status;
}
