// The calls of proto/borrow.proto, in the words of api.md. BorrowLicense is in lend.c.
#include "services/borrow/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *text(const char *s)
{
    return (char *)(uintptr_t)s; // protobuf-c has no const
}

void refuse(struct borrow *b, void *closure_data, const Berth__Error *error)
{
    char code[16];
    snprintf(code, sizeof code, "%d", error->code);
    metric_add(b->metrics, M_BORROWS_REFUSED, 1, code);
    rpc_fail(closure_data, error);
}

void refuse_with(struct borrow *b, void *closure_data, int code, const char *service,
                 const char *reason, const char *message)
{
    Berth__Error e = BERTH__ERROR__INIT;
    e.code = code;
    e.service = text(service);
    e.reason = text(reason);
    e.message = text(message);
    refuse(b, closure_data, &e);
}

bool may_call(struct borrow *b, void *closure_data)
{
    Berth__Role role = rpc_caller_role(closure_data);
    if (role == BERTH__ROLE__GATEWAY || role == BERTH__ROLE__TOOL)
        return true;
    refuse_with(b, closure_data, UNAUTHORIZED, NULL, NULL,
                "this process may not call berth-borrow");
    return false;
}

const char *entry_waits_for(const struct borrow *b, const struct book_entry *e)
{
    if (!e->own)
        return "trust";
    if (!e->since)
        return keeper_is_confirmed(b->keeper) ? "borrow" : "cloud";
    if (e->since > keeper_confirmed(b->keeper))
        return "cloud";
    return e->pool_knows ? NULL : "pool";
}

// ---- answers ----

#define FILE_NAME_BYTES (sizeof "license_borrowed_.dat" + BORROW_ID_LEN)

static void fill(Berth__BorrowedLicense *out, const struct book_entry *e,
                 char file_name[static FILE_NAME_BYTES])
{
    const struct borrow_fields *f = &e->fields;
    berth__borrowed_license__init(out);
    snprintf(file_name, FILE_NAME_BYTES, "license_borrowed_%s.dat", f->borrow_id);
    out->borrow_id = text(f->borrow_id);
    out->uuid = text(f->uuid);
    out->feature = text(f->feature);
    out->host_id = text(f->host_id);
    out->valid_from_s = f->valid_from.s;
    out->valid_until_s = f->valid_until.s;
    out->file_name = file_name;
}

void answer_borrowed(const struct book_entry *e, Berth__BorrowedLicense_Closure closure,
                     void *closure_data)
{
    BUF_CLEANUP struct buf file = {0};
    char name[FILE_NAME_BYTES];
    Berth__BorrowedLicense reply;
    fill(&reply, e, name);
    buf_add(&file, e->vendor->text, e->vendor->len);
    buf_add(&file, e->own, e->own_len);
    buf_add(&file, e->certificate->text, e->certificate->len);
    reply.has_license = true;
    reply.license = (ProtobufCBinaryData){file.len, (uint8_t *)file.data};
    closure(&reply, closure_data);
}

static void list_borrowed(Berth__Borrow_Service *rpc, const Berth__Empty *input,
                          Berth__ListBorrowedReply_Closure closure, void *closure_data)
{
    struct borrow *b = borrow_of(rpc);
    (void)input;
    if (!may_call(b, closure_data))
        return;
    struct row {
        Berth__BorrowedLicense message;
        char name[FILE_NAME_BYTES];
    } *rows = calloc(b->book.len + 1, sizeof *rows);
    Berth__BorrowedLicense **list = calloc(b->book.len + 1, sizeof *list);
    if (!rows || !list)
        abort();
    Berth__ListBorrowedReply reply = BERTH__LIST_BORROWED_REPLY__INIT;
    struct wall_time now = clock_wall();
    for (size_t i = 0; i < b->book.len; i++) {
        const struct book_entry *e = b->book.entries[i];
        if (!e->since || e->fields.valid_until.s <= now.s)
            continue;
        fill(&rows[i].message, e, rows[i].name);
        list[reply.n_borrowed++] = &rows[i].message;
    }
    reply.borrowed = list;
    closure(&reply, closure_data);
    free(list);
    free(rows);
}

static void get_borrowed(Berth__Borrow_Service *rpc, const Berth__GetBorrowedCall *input,
                         Berth__BorrowedLicense_Closure closure, void *closure_data)
{
    struct borrow *b = borrow_of(rpc);
    if (!may_call(b, closure_data))
        return;
    const struct book_entry *e = book_find(&b->book, input->borrow_id);
    if (!e || !e->since || e->fields.valid_until.s <= clock_wall().s) {
        refuse_with(b, closure_data, NOT_FOUND, NULL, NULL,
                    "there is no borrow with this ID, or its period has ended; "
                    "ListBorrowedLicensesV1 lists those that there are");
        return;
    }
    const char *service = entry_waits_for(b, e);
    if (service)
        refuse_with(b, closure_data, UNAVAILABLE, service, NULL,
                    "this borrow is not complete yet: ask again in a few seconds");
    else
        answer_borrowed(e, closure, closure_data);
}

void handlers_init(struct borrow *b)
{
    // An RPC without a handler of its name here does not compile.
    b->rpc = (Berth__Borrow_Service)BERTH__BORROW__INIT();
}
