#include "services/trust/cloud_answer.h"

#include "common/core/text.h"
#include "common/json.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define NEXT_CHECK_MAX_S 3600

static int parse_integer(const cJSON *item, double min, double max, double *out)
{
    if (!cJSON_IsNumber(item))
        return -EINVAL;
    double d = item->valuedouble;
    if (!(d >= min && d <= max) || floor(d) != d)
        return -EINVAL;
    *out = d;
    return 0;
}

static const char *reason_constant(const char *reason)
{
    static const char *const reasons[] = {"revoked", "expired", "in-use-elsewhere",
                                          "ledger-rollback"};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        if (strcmp(reasons[i], reason) == 0)
            return reasons[i];
    }
    return NULL;
}

static int parse_status(struct cloud_answer *out, const cJSON *root, struct error *err)
{
    const cJSON *status = cJSON_GetObjectItemCaseSensitive(root, "status");
    const cJSON *reason = cJSON_GetObjectItemCaseSensitive(root, "reason");
    out->reason = "";
    if (!cJSON_IsString(status))
        return error_set(err, "\"status\" is missing"), -EINVAL;
    if (strcmp(status->valuestring, "ok") == 0) {
        out->ok = true;
        return 0;
    }
    if (strcmp(status->valuestring, "refused") != 0)
        return error_set(err, "\"status\" is neither ok nor refused"), -EINVAL;
    if (!cJSON_IsString(reason))
        return error_set(err, "\"reason\" is missing"), -EINVAL;
    out->reason = reason_constant(reason->valuestring);
    if (out->reason == NULL)
        return error_set(err, "\"reason\" is none that is known"), -EINVAL;
    return 0;
}

bool cloud_token_valid(const char *token, size_t len)
{
    if (len == 0 || len > CLOUD_TOKEN_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (token[i] <= ' ' || token[i] > '~')
            return false;
    }
    return true;
}

static int parse_token(struct cloud_answer *out, const cJSON *root, struct error *err)
{
    const cJSON *token = cJSON_GetObjectItemCaseSensitive(root, "token");
    if (token == NULL || cJSON_IsNull(token)) {
        if (out->ok)
            return error_set(err, "\"token\" is missing"), -EINVAL;
        return 0;
    }
    if (!cJSON_IsString(token))
        return error_set(err, "\"token\" is no string"), -EINVAL;
    size_t len = strlen(token->valuestring);
    if (len == 0 && !out->ok)
        return 0;
    if (!cloud_token_valid(token->valuestring, len))
        return error_set(err, "\"token\" is not 1 to %d printable characters", CLOUD_TOKEN_MAX),
               -EINVAL;
    memcpy(out->token, token->valuestring, len + 1);
    return 0;
}

static bool is_hex(const char *s, size_t len)
{
    return strlen(s) == len && strspn(s, "0123456789abcdef") == len;
}

static int parse_ledger(struct cloud_answer *out, const cJSON *root, struct error *err)
{
    const cJSON *ledger = cJSON_GetObjectItemCaseSensitive(root, "ledger");
    if (ledger == NULL || cJSON_IsNull(ledger))
        return 0;
    double sequence = 0;
    const cJSON *hash = cJSON_GetObjectItemCaseSensitive(ledger, "hash");
    const cJSON *epoch = cJSON_GetObjectItemCaseSensitive(ledger, "epoch");
    if (!cJSON_IsObject(ledger) ||
        parse_integer(cJSON_GetObjectItemCaseSensitive(ledger, "sequence"), 0,
                      (double)CLOUD_SEQUENCE_MAX, &sequence) < 0 ||
        !cJSON_IsString(hash) || !is_hex(hash->valuestring, 64))
        return error_set(err, "\"ledger\" is neither null nor {sequence, hash}"), -EINVAL;
    if (epoch != NULL && !cJSON_IsNull(epoch)) {
        if (!cJSON_IsString(epoch) || !is_hex(epoch->valuestring, 32))
            return error_set(err, "\"epoch\" of \"ledger\" is not 32 hex digits"), -EINVAL;
        memcpy(out->ledger.epoch, epoch->valuestring, sizeof out->ledger.epoch);
    }
    out->ledger.present = true;
    out->ledger.sequence = (uint64_t)sequence;
    hex_decode(hash->valuestring, 64, out->ledger.hash, sizeof out->ledger.hash);
    return 0;
}

static int parse_revoked(struct cloud_answer *out, const cJSON *root, struct error *err)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "revokedKeyIds");
    if (list == NULL)
        return 0;
    if (!cJSON_IsArray(list))
        return error_set(err, "\"revokedKeyIds\" is no array"), -EINVAL;
    const cJSON *id = NULL;
    cJSON_ArrayForEach(id, list)
    {
        if (out->revoked_key_ids_len == CLOUD_REVOKED_KEYS_MAX)
            return error_set(err, "\"revokedKeyIds\" has more than %d", CLOUD_REVOKED_KEYS_MAX),
                   -EINVAL;
        if (!cJSON_IsString(id) || !is_hex(id->valuestring, 16))
            return error_set(err, "\"revokedKeyIds\" holds what is not 16 hex digits"), -EINVAL;
        memcpy(out->revoked_key_ids[out->revoked_key_ids_len++], id->valuestring, 17);
    }
    return 0;
}

// A "no" without it is a "no" all the same: then our own interval decides.
static int parse_next_check(struct cloud_answer *out, const cJSON *root, struct error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, "nextCheckSeconds");
    double number = NEXT_CHECK_MAX_S;
    if ((item != NULL || out->ok) && parse_integer(item, 1, NEXT_CHECK_MAX_S, &number) < 0)
        return error_set(err, "\"nextCheckSeconds\" is not 1 to %d", NEXT_CHECK_MAX_S), -EINVAL;
    out->next_check_s = (uint32_t)number;
    return 0;
}

static int parse_root(struct cloud_answer *out, const cJSON *root, struct error *err)
{
    double number = 0;
    if (!cJSON_IsObject(root))
        return error_set(err, "it is no JSON object"), -EINVAL;
    if (parse_integer(cJSON_GetObjectItemCaseSensitive(root, "format"), 1, 1, &number) < 0)
        return error_set(err, "\"format\" is not 1"), -EINVAL;
    int r = parse_status(out, root, err);
    if (r == 0)
        r = parse_next_check(out, root, err);
    if (r == 0)
        r = parse_token(out, root, err);
    if (r == 0)
        r = parse_ledger(out, root, err);
    if (r == 0)
        r = parse_revoked(out, root, err);
    return r;
}

int cloud_answer_parse(struct cloud_answer *out, const char *text, size_t len, struct error *err)
{
    memset(out, 0, sizeof *out);
    if (len > CLOUD_ANSWER_BYTES_MAX)
        return error_set(err, "it is larger than %d bytes", CLOUD_ANSWER_BYTES_MAX), -EINVAL;
    struct arena *arena = arena_new(4096);
    const cJSON *root = json_parse(arena, text, len, err);
    int r = root != NULL ? parse_root(out, root, err) : -EINVAL;
    arena_free(&arena);
    return r;
}
