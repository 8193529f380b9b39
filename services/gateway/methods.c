#include "services/gateway/methods.h"

#include "borrow.pb-c.h"
#include "pool.pb-c.h"
#include "services/gateway/results.h"

#include <errno.h>
#include <string.h>

#define LEN(a) (sizeof(a) / sizeof *(a))

// A typed reply function and a typed call around each generated stub, so that no function pointer
// is ever called through another type.
#define STUB(stub, call_type, reply_type)                                                          \
    static void stub##_reply(const reply_type *reply, void *call)                                  \
    {                                                                                              \
        exchange_reply(reply, call);                                                               \
    }                                                                                              \
    static void stub##_send(ProtobufCService *service, const void *message, void *call)            \
    {                                                                                              \
        const call_type *typed = message;                                                          \
        berth__##stub(service, typed, stub##_reply, call);                                         \
    }

STUB(pool__list_licenses, Berth__Empty, Berth__ListLicensesReply)
STUB(pool__request_session, Berth__RequestSessionCall, Berth__RequestSessionReply)
STUB(pool__revalidate_session, Berth__RevalidateSessionCall, Berth__RevalidateSessionReply)
STUB(pool__return_session, Berth__ReturnSessionCall, Berth__Empty)
STUB(pool__list_sessions, Berth__ListSessionsCall, Berth__ListSessionsReply)
STUB(pool__end_session, Berth__EndSessionCall, Berth__Empty)
STUB(borrow__list_borrowed, Berth__Empty, Berth__ListBorrowedReply)
STUB(borrow__borrow_license, Berth__BorrowLicenseCall, Berth__BorrowedLicense)
STUB(borrow__get_borrowed, Berth__GetBorrowedCall, Berth__BorrowedLicense)

#define AT(type, member) offsetof(type, member), PARAM_NO_HAS
#define AT_HAS(type, member) offsetof(type, member), offsetof(type, has_##member)

static const struct param_def request_session_params[] = {
    {"feature", PARAM_STRING, true, 1, 256, AT(Berth__RequestSessionCall, feature)},
    {"version", PARAM_VERSION, true, 0, 0, AT(Berth__RequestSessionCall, version)},
    {"edition", PARAM_EDITION, true, 0, 0, AT(Berth__RequestSessionCall, edition)},
    {"modules", PARAM_MODULES, true, 0, 0, AT(Berth__RequestSessionCall, modules)},
    {"instanceId", PARAM_STRING, false, 1, 128, AT(Berth__RequestSessionCall, instance_id)},
    {"client", PARAM_CLIENT, false, 0, 0, AT(Berth__RequestSessionCall, client)},
    {"nonce", PARAM_NONCE, false, 16, 64, AT_HAS(Berth__RequestSessionCall, nonce)},
};

static const struct param_def revalidate_session_params[] = {
    {"sessionId", PARAM_STRING, true, 0, 4096, AT(Berth__RevalidateSessionCall, session_id)},
    {"nonce", PARAM_NONCE, false, 16, 64, AT_HAS(Berth__RevalidateSessionCall, nonce)},
};

static const struct param_def return_session_params[] = {
    {"sessionId", PARAM_STRING, true, 0, 4096, AT(Berth__ReturnSessionCall, session_id)},
};

static const struct param_def borrow_license_params[] = {
    {"uuid", PARAM_STRING, true, 1, 256, AT(Berth__BorrowLicenseCall, uuid)},
    {"feature", PARAM_STRING, true, 1, 256, AT(Berth__BorrowLicenseCall, feature)},
    {"hostId", PARAM_STRING, true, 1, 256, AT(Berth__BorrowLicenseCall, host_id)},
    {"validUntil", PARAM_TIME_UNTIL, true, 0, 0, AT(Berth__BorrowLicenseCall, valid_until_s)},
    {"validFrom", PARAM_TIME_FROM, false, 0, 0, AT_HAS(Berth__BorrowLicenseCall, valid_from_s)},
};

static const struct param_def get_borrowed_params[] = {
    {"borrowId", PARAM_STRING, true, 1, 256, AT(Berth__GetBorrowedCall, borrow_id)},
};

static const struct param_def end_session_params[] = {
    {"sessionId", PARAM_STRING, true, 0, 4096, AT(Berth__EndSessionCall, session_id)},
};

// A grant names the instance and the host it is for.
static int request_session_check(const void *message, struct param_fault *fault)
{
    const Berth__RequestSessionCall *call = message;
    if (!call->has_nonce)
        return 0;
    *fault = (struct param_fault){NULL, "is required together with nonce"};
    if (!call->instance_id)
        fault->field = "instanceId";
    else if (!call->client || !call->client->host_id || !*call->client->host_id)
        fault->field = "client.hostId";
    return fault->field ? -EINVAL : 0;
}

void methods_set_address(struct arena *arena, void *message, const char *address)
{
    Berth__RequestSessionCall *call = message;
    if (!call->client) {
        call->client = arena_alloc(arena, sizeof *call->client);
        berth__client_info__init(call->client);
    }
    call->client->address = arena_strndup(arena, address, strlen(address));
}

static bool list_sessions_next(struct arena *arena, void *message, const void *reply)
{
    Berth__ListSessionsCall *call = message;
    const Berth__ListSessionsReply *page = reply;
    if (!page->has_cursor)
        return false;
    call->has_cursor = 1;
    call->cursor.len = page->cursor.len;
    call->cursor.data = arena_alloc(arena, page->cursor.len + 1);
    if (page->cursor.len)
        memcpy(call->cursor.data, page->cursor.data, page->cursor.len);
    return true;
}

// The most frequent one first.
static const struct method licenses[] = {
    {.name = "RevalidateSessionV1",
     .peer = PEER_POOL,
     .message = &berth__revalidate_session_call__descriptor,
     .params = revalidate_session_params,
     .params_len = LEN(revalidate_session_params),
     .send = pool__revalidate_session_send,
     .print = result_revalidate_session},
    {.name = "RequestSessionV1",
     .peer = PEER_POOL,
     .message = &berth__request_session_call__descriptor,
     .params = request_session_params,
     .params_len = LEN(request_session_params),
     .flags = METHOD_NOT_NOTIFIED | METHOD_CLIENT_INFO,
     .send = pool__request_session_send,
     .print = result_request_session,
     .check = request_session_check},
    {.name = "ReturnSessionV1",
     .peer = PEER_POOL,
     .message = &berth__return_session_call__descriptor,
     .params = return_session_params,
     .params_len = LEN(return_session_params),
     .send = pool__return_session_send,
     .print = result_null},
    {.name = "ListLicensesV1",
     .peer = PEER_POOL,
     .message = &berth__empty__descriptor,
     .send = pool__list_licenses_send,
     .print = result_list_licenses},
    {.name = "BorrowLicenseV1",
     .peer = PEER_BORROW,
     .message = &berth__borrow_license_call__descriptor,
     .params = borrow_license_params,
     .params_len = LEN(borrow_license_params),
     .flags = METHOD_NOT_NOTIFIED | METHOD_BORROW_TOKEN,
     .send = borrow__borrow_license_send,
     .print = result_borrowed},
    {.name = "ListBorrowedLicensesV1",
     .peer = PEER_BORROW,
     .message = &berth__empty__descriptor,
     .send = borrow__list_borrowed_send,
     .print = result_list_borrowed},
    {.name = "GetBorrowedLicenseV1",
     .peer = PEER_BORROW,
     .message = &berth__get_borrowed_call__descriptor,
     .params = get_borrowed_params,
     .params_len = LEN(get_borrowed_params),
     .flags = METHOD_BORROW_TOKEN,
     .send = borrow__get_borrowed_send,
     .print = result_borrowed},
};

static const struct method admin[] = {
    {.name = "ListSessionsV1",
     .peer = PEER_POOL,
     .message = &berth__list_sessions_call__descriptor,
     .send = pool__list_sessions_send,
     .print = result_sessions_page,
     .next_page = list_sessions_next},
    {.name = "EndSessionV1",
     .peer = PEER_POOL,
     .message = &berth__end_session_call__descriptor,
     .params = end_session_params,
     .params_len = LEN(end_session_params),
     .send = pool__end_session_send,
     .print = result_null},
};

const struct method_table methods_licenses = {licenses, LEN(licenses), "/licenses"};
const struct method_table methods_admin = {admin, LEN(admin), "/admin"};

_Static_assert(LEN(licenses) + LEN(admin) <= METHODS_MAX, "METHODS_MAX is too small");

const struct method *method_find(const struct method_table *table, const char *name)
{
    for (size_t i = 0; i < table->len; i++) {
        if (!strcmp(table->methods[i].name, name))
            return &table->methods[i];
    }
    return NULL;
}

size_t method_index(const struct method *method)
{
    if (method >= licenses && method < licenses + LEN(licenses))
        return (size_t)(method - licenses);
    return LEN(licenses) + (size_t)(method - admin);
}
