#include "services/gateway/core/jsonrpc.h"

#include <string.h>

static const struct json_span id_null = {"null", 4};

static bool is_type(const cJSON *item, int type)
{
    return item && (item->type & 0xff) == type;
}

// Names are compared exactly: cJSON's own lookup ignores case.
static const cJSON *member(const cJSON *object, const char *name)
{
    for (const cJSON *m = object->child; m; m = m->next) {
        if (!strcmp(m->string, name))
            return m;
    }
    return NULL;
}

static void refuse(struct jsonrpc_call *out, const char *why)
{
    out->code = JSONRPC_INVALID_REQUEST;
    out->why = why;
    out->method = NULL;
    out->notification = false;
}

void jsonrpc_read(struct jsonrpc_call *out, const cJSON *item, struct json_span raw_id)
{
    *out = (struct jsonrpc_call){.id = id_null};
    if (!is_type(item, cJSON_Object)) {
        refuse(out, "a call is an object with jsonrpc, id, method and params");
        return;
    }
    const cJSON *version = member(item, "jsonrpc");
    const cJSON *id = member(item, "id");
    const cJSON *method = member(item, "method");
    const cJSON *params = member(item, "params");
    bool id_good =
        is_type(id, cJSON_String) || is_type(id, cJSON_Number) || is_type(id, cJSON_NULL);
    if (id_good && raw_id.p)
        out->id = raw_id;
    out->notification = !id;
    if (id && (!id_good || !raw_id.p))
        refuse(out, "id must be a string, a number or null");
    else if (!is_type(version, cJSON_String) || strcmp(version->valuestring, "2.0") != 0)
        refuse(out, "jsonrpc must be the string \"2.0\"");
    else if (!is_type(method, cJSON_String))
        refuse(out, "method must be a string");
    else if (params && !is_type(params, cJSON_Object) && !is_type(params, cJSON_Array))
        refuse(out, "params must be an object");
    if (out->code)
        return;
    out->method = method->valuestring;
    out->params = params;
    if (is_type(params, cJSON_Array)) {
        out->code = JSONRPC_INVALID_PARAMS;
        out->why = "must be an object: parameters are given by name";
    }
}

size_t jsonrpc_count(const struct json_ids *ids, const char **why)
{
    if (ids->len == 0) {
        *why = "the batch is empty";
        return 0;
    }
    if (ids->len > JSONRPC_BATCH_MAX) {
        *why = "more than 64 calls in one batch: send several batches";
        return 0;
    }
    return ids->len;
}

static void begin(struct buf *out, struct json_span id, const char *what)
{
    buf_add_str(out, "{\"jsonrpc\":\"2.0\",\"id\":");
    buf_add(out, id.p, id.len);
    buf_add_str(out, what);
}

void jsonrpc_begin_result(struct buf *out, struct json_span id)
{
    begin(out, id, ",\"result\":");
}

void jsonrpc_begin_error(struct buf *out, struct json_span id)
{
    begin(out, id, ",\"error\":");
}
