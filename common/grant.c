#include "common/grant.h"

#include "common/core/text.h"
#include "common/json.h"

#include <errno.h>
#include <string.h>

// ---- writing ----

void grant_session_hash(const char *session_id, char out[static 65])
{
    uint8_t hash[32];
    crypto_sha256(session_id, strlen(session_id), hash);
    hex_encode(hash, sizeof hash, out);
}

static void add_member(struct buf *out, const char *before, const char *s)
{
    buf_add_str(out, before);
    buf_add_json_string(out, s, strlen(s));
}

void grant_write_payload(struct buf *out, const struct grant_facts *f)
{
    char nonce[4 * ((GRANT_NONCE_MAX_BYTES + 2) / 3) + 1], date[32];
    base64_encode(f->nonce, f->nonce_len, nonce);
    buf_add_str(out, "{\"format\":1");
    add_member(out, ",\"nonce\":", nonce);
    add_member(out, ",\"sessionIdHash\":", f->session_hash);
    add_member(out, ",\"instanceId\":", f->instance_id);
    add_member(out, ",\"client\":{\"hostId\":", f->host_id);
    add_member(out, "},\"license\":{\"feature\":", f->feature);
    add_member(out, ",\"uuid\":", f->uuid);
    add_member(out, ",\"version\":", f->version);
    add_member(out, ",\"edition\":", f->edition);
    add_member(out, ",\"modules\":", f->modules);
    add_member(out, "},\"serverId\":", f->server_id);
    add_member(out, ",\"time\":", wall_format(f->time, date));
    buf_printf(out, ",\"revalidateWithin\":%u}", f->revalidate_within_s);
}

static void label_payload(struct buf *out, const char *label, const char *payload, size_t len)
{
    buf_add_str(out, label);
    buf_add(out, payload, len);
}

int grant_sign(const struct crypto_key *key, const struct buf *payload,
               uint8_t signature[static ED25519_SIGNATURE_BYTES])
{
    BUF_CLEANUP struct buf text = {0};
    size_t len = ED25519_SIGNATURE_BYTES;
    label_payload(&text, GRANT_LABEL, payload->data, payload->len);
    return crypto_sign(key, text.data, text.len, signature, &len);
}

// ---- reading ----

static int refuse(struct error *err, const char *what, const char *why)
{
    error_set(err, "the grant's %s %s", what, why);
    return -EINVAL;
}

static const char *string_of(const cJSON *object, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

// NULL if it is not there, too long, or not canonical.
static uint8_t *base64_of(struct arena *arena, const char *s, size_t *len)
{
    size_t text_len = s ? strlen(s) : 0;
    if (!text_len || text_len > 2 * GRANT_PART_MAX_BYTES)
        return NULL;
    uint8_t *out = arena_alloc(arena, text_len);
    int n = base64_decode(s, text_len, out, text_len);
    *len = n < 0 ? 0 : (size_t)n;
    return n < 0 ? NULL : out;
}

static cJSON *format_1(struct arena *arena, const char *what, const char *text, size_t len,
                       struct error *err)
{
    struct error why = {{0}};
    cJSON *json = len <= GRANT_PART_MAX_BYTES ? json_parse(arena, text, len, &why) : NULL;
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(json, "format");
    if (!cJSON_IsObject(json) || !cJSON_IsNumber(format) || format->valuedouble < 1) {
        refuse(err, what, "is not as it must be");
        return NULL;
    }
    if (format->valuedouble != 1) {
        refuse(err, what, "has a format of a newer server: a newer client is needed");
        return NULL;
    }
    return json;
}

static bool read_time(const cJSON *object, const char *key, struct wall_time *out)
{
    const char *s = string_of(object, key);
    return s && !wall_parse(s, strlen(s), WALL_NO_DATE, out);
}

int grant_read_payload(struct grant_facts *out, struct arena *arena, const char *text, size_t len,
                       struct error *err)
{
    *out = (struct grant_facts){0};
    const cJSON *json = format_1(arena, "payload", text, len, err);
    if (!json)
        return -EINVAL;
    const cJSON *license = cJSON_GetObjectItemCaseSensitive(json, "license");
    const cJSON *client = cJSON_GetObjectItemCaseSensitive(json, "client");
    const cJSON *within = cJSON_GetObjectItemCaseSensitive(json, "revalidateWithin");
    const char *hash = string_of(json, "sessionIdHash");
    out->nonce = base64_of(arena, string_of(json, "nonce"), &out->nonce_len);
    const struct {
        const char **member, *value;
    } strings[] = {
        {&out->instance_id, string_of(json, "instanceId")},
        {&out->host_id, string_of(client, "hostId")},
        {&out->feature, string_of(license, "feature")},
        {&out->uuid, string_of(license, "uuid")},
        {&out->version, string_of(license, "version")},
        {&out->edition, string_of(license, "edition")},
        {&out->modules, string_of(license, "modules")},
        {&out->server_id, string_of(json, "serverId")},
    };
    bool good = out->nonce && out->nonce_len <= GRANT_NONCE_MAX_BYTES && hash &&
                strlen(hash) == 64 && read_time(json, "time", &out->time) &&
                cJSON_IsNumber(within) && within->valuedouble >= 1 && within->valuedouble <= 86400;
    for (size_t i = 0; i < sizeof strings / sizeof *strings && good; i++) {
        good = strings[i].value && strlen(strings[i].value) <= GRANT_TEXT_MAX_BYTES;
        *strings[i].member = strings[i].value;
    }
    if (!good)
        return refuse(err, "payload", "lacks something or has a value that cannot be");
    memcpy(out->session_hash, hash, sizeof out->session_hash);
    out->revalidate_within_s = (uint32_t)within->valuedouble;
    return 0;
}

static int read_delegation_payload(struct grant_delegation *out, struct arena *arena,
                                   const char *text, size_t len, struct error *err)
{
    const cJSON *json = format_1(arena, "delegation", text, len, err);
    if (!json)
        return -EINVAL;
    size_t key_len = 0;
    const uint8_t *key = base64_of(arena, string_of(json, "key"), &key_len);
    const char *server_id = string_of(json, "serverId");
    if (!key || key_len != ED25519_PUBLIC_BYTES || !server_id ||
        strlen(server_id) >= sizeof out->server_id || !read_time(json, "validFrom", &out->from) ||
        !read_time(json, "validUntil", &out->until))
        return refuse(err, "delegation", "lacks something or has a value that cannot be");
    memcpy(out->key, key, key_len);
    memcpy(out->server_id, server_id, strlen(server_id) + 1);
    return 0;
}

// The payload's bytes and the signature over them.
struct signed_part {
    const char *payload;
    size_t payload_len;
    const uint8_t *signature;
    size_t signature_len;
};

static int split_delegation(struct signed_part *out, struct arena *arena, const char *text,
                            size_t len, struct error *err)
{
    const cJSON *json = format_1(arena, "delegation", text, len, err);
    if (!json)
        return -EINVAL;
    out->payload = (const char *)base64_of(arena, string_of(json, "payload"), &out->payload_len);
    out->signature = base64_of(arena, string_of(json, "signature"), &out->signature_len);
    return out->payload && out->signature ? 0 : refuse(err, "delegation", "is not as it must be");
}

int grant_read_delegation(struct grant_delegation *out, struct arena *arena, const char *text,
                          size_t len, struct error *err)
{
    struct signed_part s;
    *out = (struct grant_delegation){{0}};
    int r = split_delegation(&s, arena, text, len, err);
    return r ? r : read_delegation_payload(out, arena, s.payload, s.payload_len, err);
}

// ---- verifying ----

static int check_server(struct server_license *out, const struct crypto_cert *cert,
                        const struct crypto_ca *vendor_ca, struct error *err)
{
    struct error why = {{0}};
    // Whether it is valid is asked of the grant's time, below.
    if (server_license_read(out, cert, vendor_ca, crypto_cert_not_before(cert), &why) >= 0)
        return 0;
    error_set(err, "the grant's certificate is no server license of the vendor: %.500s", why.text);
    return -EINVAL;
}

static int check_delegation(struct grant_delegation *out, struct arena *arena,
                            const struct crypto_cert *cert, const struct server_license *server,
                            const char *base64, struct error *err)
{
    BUF_CLEANUP struct buf labelled = {0};
    struct signed_part s;
    size_t len = 0;
    const uint8_t *text = base64_of(arena, base64, &len);
    if (!text)
        return refuse(err, "delegation", "is no base64");
    if (split_delegation(&s, arena, (const char *)text, len, err))
        return -EINVAL;
    label_payload(&labelled, GRANT_DELEGATION_LABEL, s.payload, s.payload_len);
    if (!crypto_cert_signed(cert, labelled.data, labelled.len, s.signature, s.signature_len))
        return refuse(err, "delegation", "is not signed by the server license");
    if (read_delegation_payload(out, arena, s.payload, s.payload_len, err))
        return -EINVAL;
    if (strcmp(out->server_id, server->server_id))
        return refuse(err, "delegation", "is of another server");
    return 0;
}

static int check_payload(struct grant_facts *out, struct arena *arena,
                         const struct grant_texts *texts, const struct grant_delegation *d,
                         struct error *err)
{
    BUF_CLEANUP struct buf labelled = {0};
    size_t len = 0, signature_len = 0;
    const uint8_t *payload = base64_of(arena, texts->payload, &len);
    const uint8_t *signature = base64_of(arena, texts->signature, &signature_len);
    if (!payload || !signature || signature_len != ED25519_SIGNATURE_BYTES)
        return refuse(err, "payload or signature", "is not as it must be");
    label_payload(&labelled, GRANT_LABEL, (const char *)payload, len);
    if (!crypto_ed25519_verify(d->key, signature, labelled.data, labelled.len))
        return refuse(err, "signature", "does not fit");
    return grant_read_payload(out, arena, (const char *)payload, len, err);
}

static int check_times(const struct grant_facts *f, const struct grant_delegation *d,
                       const struct server_license *server, struct error *err)
{
    if (strcmp(f->server_id, server->server_id))
        return refuse(err, "payload", "is of another server");
    if (f->time.s < d->from.s || f->time.s >= d->until.s)
        return refuse(err, "time", "is outside of its delegation's");
    if (f->time.s < server->not_before.s || f->time.s >= server->not_after.s)
        return refuse(err, "time", "is outside of the server license's");
    return 0;
}

static int check_expected(const struct grant_facts *f, const struct grant_expected *e,
                          struct error *err)
{
    char hash[65];
    grant_session_hash(e->session_id, hash);
    if (f->nonce_len != e->nonce_len || memcmp(f->nonce, e->nonce, e->nonce_len))
        return refuse(err, "nonce", "is not the one of this request: it answers another one");
    if (strcmp(f->session_hash, hash))
        return refuse(err, "session", "is another one");
    if (strcmp(f->instance_id, e->instance_id))
        return refuse(err, "instanceId", "is that of another program run");
    if (strcmp(f->host_id, e->host_id))
        return refuse(err, "hostId", "is that of another host");
    if (strcmp(f->feature, e->feature))
        return refuse(err, "license", "is of another feature");
    return 0;
}

int grant_verify(struct grant_facts *out, struct arena *arena, const struct grant_texts *texts,
                 const struct grant_expected *expected, const struct crypto_ca *vendor_ca,
                 struct error *err)
{
    struct crypto_cert *cert = NULL;
    struct server_license server;
    struct grant_delegation delegation;
    struct grant_facts facts;
    size_t len = strnlen(texts->certificate, GRANT_PART_MAX_BYTES + 1);
    int r = len > GRANT_PART_MAX_BYTES ? refuse(err, "certificate", "is too long")
                                       : crypto_cert_load_pem(&cert, texts->certificate, len, err);
    if (!r)
        r = check_server(&server, cert, vendor_ca, err);
    if (!r)
        r = check_delegation(&delegation, arena, cert, &server, texts->delegation, err);
    if (!r)
        r = check_payload(&facts, arena, texts, &delegation, err);
    if (!r)
        r = check_times(&facts, &delegation, &server, err);
    if (!r)
        r = check_expected(&facts, expected, err);
    crypto_cert_free(&cert);
    if (!r && out)
        *out = facts;
    return r ? -EACCES : 0;
}
