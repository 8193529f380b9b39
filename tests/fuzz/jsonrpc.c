// A request body: strict check, tree, envelope, parameters of every method.
#include "services/gateway/core/jsonrpc.h"
#include "common/json.h"
#include "services/gateway/methods.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_params(struct arena *arena, const struct jsonrpc_call *call,
                       const struct method_table *table)
{
    for (size_t i = 0; i < table->len && call->method && !call->code; i++) {
        const struct method *m = &table->methods[i];
        struct param_fault fault = {NULL, NULL};
        void *message = arena_alloc(arena, m->message->sizeof_message);
        m->message->message_init(message);
        int r = params_read(arena, m->params, m->params_len, call->params, message, &fault);
        if (r && (!fault.field || !fault.reason))
            abort();
        if (!r) // what was accepted can be sent
            (void)protobuf_c_message_get_packed_size(message);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(4096);
    struct json_span spans[JSONRPC_BATCH_MAX];
    struct json_ids ids = {.items = spans, .cap = JSONRPC_BATCH_MAX};
    const char *why;
    const cJSON *tree = json_parse_ids(arena, (const char *)data, size, &ids, NULL);
    size_t n = tree ? jsonrpc_count(&ids, &why) : 0;
    const cJSON *item = n && ids.batch ? tree->child : tree;
    for (size_t i = 0; i < n; i++, item = ids.batch ? item->next : NULL) {
        struct jsonrpc_call call;
        jsonrpc_read(&call, item, spans[i]);
        if (!call.id.p || (call.code && !call.why))
            abort();
        try_params(arena, &call, &methods_licenses);
        try_params(arena, &call, &methods_admin);
    }
    arena_free(&arena);
    return 0;
}
