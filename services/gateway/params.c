#include "services/gateway/params.h"

#include "common/core/license_block.h"
#include "common/core/text.h"
#include "common/core/times.h"
#include "types.pb-c.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#define FIELD_SHOWN 64 // bytes of an unknown name that the answer repeats
#define NONCE_MAX 64

#define CLIENT_TEXT(json, member)                                                                  \
    {                                                                                              \
        json, PARAM_STRING, false, 0, 256, offsetof(Berth__ClientInfo, member), PARAM_NO_HAS       \
    }
static const struct param_def client_params[] = {
    CLIENT_TEXT("hostname", hostname), CLIENT_TEXT("hostId", host_id),
    CLIENT_TEXT("user", user),         CLIENT_TEXT("application", application),
    CLIENT_TEXT("pid", pid),
};

struct reader {
    struct arena *arena;
    const char *prefix; // "client." or ""
    struct param_fault *fault;
};

static int refuse(const struct reader *r, const char *name, const char *reason)
{
    size_t len = strlen(name);
    if (len > FIELD_SHOWN) {
        len = FIELD_SHOWN;
        while (len > 0 && ((unsigned char)name[len] & 0xc0) == 0x80)
            len--; // not in the middle of a character
    }
    r->fault->field = arena_printf(r->arena, "%s%.*s", r->prefix, (int)len, name);
    r->fault->reason = reason;
    return -EINVAL;
}

static size_t characters(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static const char *nonce_fault(struct arena *arena, const struct param_def *def, const char *text,
                               ProtobufCBinaryData *out)
{
    size_t len = strlen(text);
    int n = -1;
    if (len <= 4 * ((NONCE_MAX + 2) / 3)) {
        out->data = arena_alloc(arena, NONCE_MAX + 2);
        n = base64_decode(text, len, out->data, NONCE_MAX + 2);
    }
    if (n < (int)def->min || n > (int)def->max)
        return "must be base64 of 16 to 64 bytes";
    out->len = (size_t)n;
    return NULL;
}

// Checks a text and writes the member. NULL, or what is wrong.
static const char *text_fault(struct arena *arena, const struct param_def *def, char *text,
                              void *member)
{
    size_t len = strlen(text);
    struct version version;
    module_set modules;
    struct wall_time time;
    enum wall_date_rule rule = def->type == PARAM_TIME_FROM ? WALL_DATE_START : WALL_DATE_END;
    switch (def->type) {
    case PARAM_EDITION:
        if (strcmp(text, "Steady") != 0 && strcmp(text, "Progress") != 0)
            return "must be \"Steady\" or \"Progress\"";
        break;
    case PARAM_VERSION:
        if (version_parse(text, len, &version))
            return "must be one to four numbers with dots between, like \"24.11.1\"";
        break;
    case PARAM_MODULES:
        if (modules_parse(text, len, &modules))
            return "must match ^f?c?1?2?3?b?d?o?m?i?t?$";
        break;
    case PARAM_NONCE:
        return nonce_fault(arena, def, text, member);
    case PARAM_TIME_FROM:
    case PARAM_TIME_UNTIL:
        if (wall_parse(text, len, rule, &time))
            return "must be a date-time like \"2026-11-24T08:00:00Z\" or a date";
        memcpy(member, &time.s, sizeof time.s);
        return NULL;
    case PARAM_STRING:
    case PARAM_CLIENT:
        if (len < def->min)
            return "must not be empty";
        if (len > def->max && characters(text) > def->max)
            return arena_printf(arena, "is longer than %u characters", def->max);
        break;
    }
    memcpy(member, &text, sizeof text);
    return NULL;
}

static int read_members(const struct reader *r, const struct param_def *defs, size_t len,
                        const cJSON *object, char *message);

static int read_one(const struct reader *r, const struct param_def *def, const cJSON *value,
                    char *message)
{
    int type = value->type & 0xff;
    if (def->type == PARAM_CLIENT) {
        if (type != cJSON_Object)
            return refuse(r, def->name, "must be an object");
        Berth__ClientInfo *client = arena_alloc(r->arena, sizeof *client);
        berth__client_info__init(client);
        memcpy(message + def->offset, &client, sizeof client);
        struct reader inner = {r->arena, "client.", r->fault};
        return read_members(&inner, client_params, sizeof client_params / sizeof *client_params,
                            value, (char *)client);
    }
    if (type != cJSON_String)
        return refuse(r, def->name, "must be a string");
    const char *fault = text_fault(r->arena, def, value->valuestring, message + def->offset);
    if (fault)
        return refuse(r, def->name, fault);
    if (def->has != PARAM_NO_HAS) {
        protobuf_c_boolean yes = 1;
        memcpy(message + def->has, &yes, sizeof yes);
    }
    return 0;
}

static int read_members(const struct reader *r, const struct param_def *defs, size_t len,
                        const cJSON *object, char *message)
{
    uint32_t seen = 0;
    for (const cJSON *m = object ? object->child : NULL; m; m = m->next) {
        size_t i = 0;
        while (i < len && strcmp(defs[i].name, m->string) != 0)
            i++;
        if (i == len)
            return refuse(r, m->string, "there is no parameter of this name");
        int result = read_one(r, &defs[i], m, message);
        if (result)
            return result;
        seen |= 1U << i;
    }
    for (size_t i = 0; i < len; i++) {
        if (defs[i].required && !(seen & 1U << i))
            return refuse(r, defs[i].name, "is required");
    }
    return 0;
}

int params_read(struct arena *arena, const struct param_def *defs, size_t len, const cJSON *object,
                void *message, struct param_fault *fault)
{
    struct reader r = {arena, "", fault};
    return read_members(&r, defs, len, object, message);
}
