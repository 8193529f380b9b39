// The methods of /licenses and /admin: one row each says everything about a method. To add one, add
// the RPC to proto/, a row here, and a printer to results.c.
#pragma once

#include "common/core/buf.h"
#include "services/gateway/gateway.h"
#include "services/gateway/params.h"

enum method_flags {
    METHOD_NOT_NOTIFIED = 1, // a notification is not carried out: its result would be lost
    METHOD_BORROW_TOKEN = 2, // needs borrow.token, unless borrow.open
    METHOD_CLIENT_INFO = 4,  // the peer's address is added to `client`
};

struct method {
    const char *name;
    enum gateway_peer peer;
    const ProtobufCMessageDescriptor *message; // of the call
    const struct param_def *params;
    size_t params_len;
    unsigned flags;
    // Sends the message; reply(…, call) runs exactly once, later.
    void (*send)(ProtobufCService *service, const void *message, void *call);
    void (*print)(struct buf *out, const void *reply);
    // Rules between parameters. NULL or 0: good.
    int (*check)(const void *message, struct param_fault *fault);
    // For results that come in pages (then print writes elements of an array): makes message the
    // call for the page behind this reply. False: that was the last.
    bool (*next_page)(struct arena *arena, void *message, const void *reply);
};

struct method_table {
    const struct method *methods;
    size_t len;
    const char *path;
};

extern const struct method_table methods_licenses;
extern const struct method_table methods_admin;

// NULL: unknown.
const struct method *method_find(const struct method_table *table, const char *name);
// A small number of its own for each method of both tables.
size_t method_index(const struct method *method);

// METHOD_CLIENT_INFO: writes the peer's address into the message of a RequestSessionV1.
void methods_set_address(struct arena *arena, void *message, const char *address);

// Implemented by exchange.c: where all replies arrive.
void exchange_reply(const void *reply, void *call);
