// berth status: verdict, licenses, sessions and borrows at a glance.
#include "tools/berth/client.h"

#include <stdio.h>

static void print_safe(const char *label, const char *text)
{
    printf("%-10s ", label);
    for (; *text; text++)
        putchar((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text);
    putchar('\n');
}

static void print_protection(const cJSON *p)
{
    bool valid = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(p, "valid_license"));
    const char *id = client_string(p, "server_id");
    const char *variant = client_string(p, "variant");
    const char *reason = client_string(p, "reason");
    print_safe("server", *id ? id : "unknown");
    if (*variant)
        print_safe("variant", variant);
    printf("%-10s %s", "license", valid ? "valid" : "NOT VALID");
    // null where there is no verdict at all
    if (cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(p, "grace_seconds_left")))
        printf(", in grace: %.0f s left", client_number(p, "grace_seconds_left"));
    putchar('\n');
    if (*reason)
        print_safe("reason", reason);
    if (cJSON_HasObjectItem(p, "clock_skew_seconds"))
        printf("%-10s %.0f s apart from the backend's: set it right\n", "clock",
               client_number(p, "clock_skew_seconds"));
    const cJSON *addon;
    cJSON_ArrayForEach(addon, cJSON_GetObjectItemCaseSensitive(p, "addons"))
        print_safe("addon", cJSON_IsString(addon) ? addon->valuestring : "?");
}

static void print_seats(const cJSON *licenses, const cJSON *sessions, const struct error *why)
{
    double seats = 0, available = 0;
    int borrows = 0;
    const cJSON *l;
    cJSON_ArrayForEach(l, licenses)
    {
        seats += client_number(l, "count");
        available += client_number(l, "available");
        borrows += cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(l, "borrowedIntervals"));
    }
    printf("%-10s %.0f, %.0f free\n", "seats", seats, available);
    printf("%-10s %d, current and future\n", "borrows", borrows);
    if (sessions)
        printf("%-10s %d\n\n", "sessions", cJSON_GetArraySize(sessions));
    else
        printf("%-10s not known: %s\n\n", "sessions", why->text);
}

// The parts stay their arena's; the object only refers to them.
static void print_json(const cJSON *protection, cJSON *licenses, cJSON *sessions)
{
    cJSON *root = cJSON_CreateObject();
    cJSON *none = cJSON_CreateNull();
    cJSON_AddItemReferenceToObject(root, "protection", (cJSON *)(uintptr_t)protection);
    cJSON_AddItemReferenceToObject(root, "licenses", licenses);
    cJSON_AddItemReferenceToObject(root, "sessions", sessions ? sessions : none);
    client_print_json(root);
    cJSON_Delete(root);
    cJSON_Delete(none);
}

int command_status(int argc, char **argv)
{
    struct client client;
    struct error why = {"they are on the admin port (use -c FILE)"};
    cJSON *protection = NULL, *licenses = NULL, *sessions = NULL;
    int status = client_init(&client, argc, argv, NULL);
    if (!status) {
        status = client_get(&client, CLIENT_LICENSES, "/health/protection", &protection);
        if (!status)
            status = client_call(&client, CLIENT_LICENSES, "ListLicensesV1", NULL, &licenses);
        // Without the token there is still something to see.
        if (!status && !client.server &&
            client_try(&client, CLIENT_ADMIN, "ListSessionsV1", NULL, &sessions, &why))
            sessions = NULL;
        if (!status && client.json) {
            print_json(protection, licenses, sessions);
        } else if (!status) {
            print_protection(protection);
            print_seats(licenses, sessions, &why);
            licenses_print(licenses);
        }
    }
    client_fini(&client);
    return status;
}
