#include "tools/berth-cloud/protocol.h"

#include "common/core/text.h"
#include "common/crypto.h"
#include "common/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TOKEN_BYTES 32
#define SEQUENCE_MAX 9007199254740992.0
#define BOOT_AGE_MAX_S 1e12

bool cloud_server_id_valid(const char *id)
{
    size_t len = strlen(id);
    return len > 0 && len <= SERVER_ID_MAX &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

// The hex digits of `bytes` bytes into out, in lower case. True also if the member is absent and
// may be; then out is "".
static bool take_hex(const cJSON *object, const char *name, size_t bytes, bool optional, char *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    uint8_t raw[32];
    if (item == NULL || cJSON_IsNull(item))
        return optional;
    const char *hex = cJSON_GetStringValue(item);
    if (hex == NULL || strlen(hex) != 2 * bytes ||
        hex_decode(hex, 2 * bytes, raw, sizeof raw) != (int)bytes)
        return false;
    hex_encode(raw, bytes, out);
    return true;
}

static int parse_ledger(struct ledger_claim *out, const cJSON *root, struct error *err)
{
    const cJSON *ledger = cJSON_GetObjectItemCaseSensitive(root, "ledger");
    if (ledger == NULL || cJSON_IsNull(ledger))
        return 0;
    const cJSON *sequence = cJSON_GetObjectItemCaseSensitive(ledger, "sequence");
    if (!cJSON_IsNumber(sequence) || !(sequence->valuedouble >= 0) ||
        !(sequence->valuedouble <= SEQUENCE_MAX) ||
        (double)(int64_t)sequence->valuedouble != sequence->valuedouble ||
        !take_hex(ledger, "hash", 32, false, out->head.hash) ||
        !take_hex(ledger, "epoch", 16, true, out->head.epoch) ||
        !take_hex(ledger, "previous", 32, true, out->previous))
        return error_set(err, "\"ledger\" is neither null nor {sequence, hash, epoch, previous}"),
               -EINVAL;
    out->head.present = true;
    out->head.sequence = (int64_t)sequence->valuedouble;
    out->has_previous = out->previous[0] != '\0';
    return 0;
}

// Where the server is: an extension of ours, which a server need not use.
static int parse_place(struct cloud_request *out, const cJSON *root, struct error *err)
{
    const cJSON *place = cJSON_GetObjectItemCaseSensitive(root, "place");
    if (place == NULL || cJSON_IsNull(place))
        return 0;
    const cJSON *age = cJSON_GetObjectItemCaseSensitive(place, "bootAgeSeconds");
    struct lease_place *p = &out->lease.place;
    const struct {
        const char *name;
        uint8_t *bytes;
    } parts[] = {{"boot", p->boot}, {"folder", p->folder}};
    bool good = cJSON_IsNumber(age) && age->valuedouble >= 0 && age->valuedouble <= BOOT_AGE_MAX_S;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(place, parts[i].name);
        const char *hex = cJSON_GetStringValue(item);
        good = good && hex != NULL && hex_decode(hex, strlen(hex), parts[i].bytes,
                                                 LEASE_PLACE_BYTES) == LEASE_PLACE_BYTES;
    }
    if (!good)
        return error_set(err, "\"place\" is not {boot, folder, bootAgeSeconds}"), -EINVAL;
    p->known = true;
    out->boot_age_s = (int64_t)age->valuedouble;
    return 0;
}

static int parse_root(struct cloud_request *out, const cJSON *root, struct error *err)
{
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(root, "format");
    const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "serverId"));
    const char *token = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "token"));
    if (!cJSON_IsNumber(format) || format->valuedouble != 1)
        return error_set(err, "\"format\" is not 1"), -EINVAL;
    if (id != NULL && !cloud_server_id_valid(id))
        return error_set(err, "\"serverId\" is no server ID"), -EINVAL;
    if (token == NULL || strlen(token) > TOKEN_MAX)
        return error_set(err, "\"token\" is no string of at most %d bytes", TOKEN_MAX), -EINVAL;
    snprintf(out->server_id, sizeof out->server_id, "%s", id != NULL ? id : "");
    crypto_sha256(token, strlen(token), out->token_hash);
    if (token[0] != '\0')
        out->lease.token = out->token_hash;
    int r = parse_place(out, root, err);
    return r < 0 ? r : parse_ledger(&out->ledger, root, err);
}

int cloud_request_parse(struct cloud_request *out, const char *text, size_t len,
                        struct error *err)
{
    memset(out, 0, sizeof *out);
    struct arena *arena = arena_new(4096);
    const cJSON *root = json_parse(arena, text, len, err);
    int r = root != NULL ? parse_root(out, root, err) : -EINVAL;
    arena_free(&arena);
    return r;
}

static void add_head(struct buf *out, const struct ledger_head *head)
{
    if (!head->present) {
        buf_add_str(out, "null");
        return;
    }
    buf_printf(out, "{\"sequence\":%lld,\"hash\":\"%s\"", (long long)head->sequence, head->hash);
    if (head->epoch[0] != '\0')
        buf_printf(out, ",\"epoch\":\"%s\"", head->epoch);
    buf_add_char(out, '}');
}

static int answer_write(struct buf *out, struct store *store, const struct store_server *server,
                        const char *reason, const char *token, unsigned next_check_s,
                        struct error *err)
{
    static char keys[REVOKED_KEYS_MAX][17];
    int n = store_revoked_keys(store, keys, err);
    if (n < 0)
        return n;
    buf_add_str(out, "{\"format\":1,\"status\":");
    if (reason == NULL)
        buf_add_str(out, "\"ok\"");
    else
        buf_printf(out, "\"refused\",\"reason\":\"%s\"", reason);
    buf_printf(out, ",\"nextCheckSeconds\":%u,\"token\":\"%s\",\"ledger\":", next_check_s, token);
    add_head(out, &server->head);
    buf_add_str(out, ",\"revokedKeyIds\":[");
    for (int i = 0; i < n; i++)
        buf_printf(out, "%s\"%s\"", i > 0 ? "," : "", keys[i]);
    buf_add_str(out, "]}");
    return 0;
}

// NULL: yes, and then the ledger's head has moved.
static const char *refusal(struct store_server *server, const struct cloud_request *request,
                           bool expired, const struct lease_policy *policy, int64_t now_s)
{
    if (server->revoked)
        return "revoked";
    if (expired)
        return "expired";
    if (!lease_may_take(&server->lease, &request->lease, now_s, policy))
        return "in-use-elsewhere";
    if (!ledger_head_move(&server->head, &request->ledger))
        return "ledger-rollback";
    return NULL;
}

int cloud_validate(struct store *store, struct cloud_request *request, bool expired,
                   const struct cloud_policy *policy, int64_t now_s, struct buf *answer,
                   const char **outcome, struct error *err)
{
    struct store_server server;
    int r = store_read(store, request->server_id, &server, err);
    if (r < 0)
        return r;
    request->lease.place.booted_s = now_s - request->boot_age_s;
    char token[2 * TOKEN_BYTES + 1] = "";
    const char *reason = refusal(&server, request, expired, &policy->lease, now_s);
    *outcome = reason != NULL ? reason : "ok";
    if (reason == NULL) {
        uint8_t random[TOKEN_BYTES], hash[LEASE_HASH_BYTES];
        crypto_random(random, sizeof random);
        hex_encode(random, sizeof random, token);
        crypto_sha256(token, strlen(token), hash);
        lease_take(&server.lease, &request->lease, hash, now_s, &policy->lease);
        r = store_write(store, &server, err);
    }
    if (r == 0)
        r = answer_write(answer, store, &server, reason, token, policy->next_check_s, err);
    return r;
}

int cloud_goodbye(struct store *store, struct cloud_request *request,
                  const struct cloud_policy *policy, int64_t now_s, struct buf *answer,
                  const char **outcome, struct error *err)
{
    struct store_server server;
    int r = store_read(store, request->server_id, &server, err);
    if (r < 0)
        return r;
    bool released = lease_goodbye(&server.lease, &request->lease, now_s, &policy->lease);
    *outcome = released ? "ok" : "not-holder";
    if (released)
        r = store_write(store, &server, err);
    buf_printf(answer, "{\"format\":1,\"status\":\"ok\",\"released\":%s}",
               released ? "true" : "false");
    return r;
}
