#include "common/server_license.h"

#include "common/core/text.h"
#include "common/json.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int bad(struct error *err, const char *what)
{
    error_set(err, "the certificate's license extension is not as it must be: %s", what);
    return -EINVAL;
}

static bool is_id(const char *s)
{
    for (; *s; s++) {
        if (!isalnum((unsigned char)*s) && !strchr("._-", *s))
            return false;
    }
    return true;
}

static bool is_url(const char *s)
{
    if (strncmp(s, "https://", 8) != 0 || !s[8])
        return false;
    for (; *s; s++) {
        if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f)
            return false;
    }
    return true;
}

// A string member into out; false if it is not there or too long.
static bool take_string(const cJSON *object, const char *key, char *out, size_t cap)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    if (!s || strlen(s) >= cap)
        return false;
    snprintf(out, cap, "%s", s);
    return true;
}

static bool take_addons(struct server_license *out, const cJSON *addons)
{
    if (!cJSON_IsArray(addons))
        return false;
    const cJSON *item;
    cJSON_ArrayForEach(item, addons)
    {
        const char *s = cJSON_GetStringValue(item);
        if (!s || !*s || strlen(s) >= sizeof *out->addons || !is_id(s) ||
            out->addons_len == SERVER_LICENSE_ADDONS_MAX)
            return false;
        snprintf(out->addons[out->addons_len++], sizeof *out->addons, "%s", s);
    }
    return true;
}

static bool take_keys(struct server_license *out, const cJSON *keys)
{
    if (!cJSON_IsArray(keys))
        return false;
    const cJSON *item;
    cJSON_ArrayForEach(item, keys)
    {
        const char *s = cJSON_GetStringValue(item);
        if (!s || out->license_keys_len == SERVER_LICENSE_KEYS_MAX ||
            base64_decode(s, strlen(s), out->license_keys[out->license_keys_len], 32) != 32)
            return false;
        out->license_keys_len++;
    }
    return true; // none: license files come with certificates of their keys
}

static int parse_extension(struct server_license *out, const cJSON *root, struct error *err)
{
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(root, "format");
    if (!cJSON_IsNumber(format) || format->valuedouble != 1)
        return bad(err, "format must be 1");
    if (!take_string(root, "variant", out->variant, sizeof out->variant))
        return bad(err, "variant is missing");
    bool cloud = !strcmp(out->variant, "cloud-ready");
    if (!cloud && strcmp(out->variant, "on-premises") != 0)
        return bad(err, "variant is neither on-premises nor cloud-ready");
    if (!take_addons(out, cJSON_GetObjectItemCaseSensitive(root, "addons")))
        return bad(err, "addons");
    if (!take_keys(out, cJSON_GetObjectItemCaseSensitive(root, "licenseKeys")))
        return bad(err, "licenseKeys");
    for (size_t i = 0; !cloud && i < out->addons_len; i++) {
        if (!strcmp(out->addons[i], "borrow"))
            return bad(err, "the addon borrow exists only for cloud-ready");
    }
    if (cloud && (!take_string(root, "cloudUrl", out->cloud_url, sizeof out->cloud_url) ||
                  !is_url(out->cloud_url)))
        return bad(err, "cloudUrl must be an https:// URL");
    return 0;
}

int server_license_read(struct server_license *out, const struct crypto_cert *cert,
                        const struct crypto_ca *vendor_ca, struct wall_time now,
                        struct error *err)
{
    *out = (struct server_license){0};
    int verdict = crypto_cert_verify(cert, vendor_ca, USAGE_SERVER_LICENSE, now, err);
    if (verdict < 0)
        return verdict;
    if (crypto_cert_common_name(cert, out->server_id, sizeof out->server_id) ||
        !is_id(out->server_id))
        return bad(err, "the common name is no server ID");
    out->not_before = crypto_cert_not_before(cert);
    out->not_after = crypto_cert_not_after(cert);

    char *json;
    size_t len;
    int r = crypto_cert_extension(cert, OID_SERVER_LICENSE_EXTENSION, &json, &len);
    if (r) {
        error_set(err, "the certificate is no server license (it has no license extension)");
        return r;
    }
    struct arena *arena = arena_new(4096);
    struct error why;
    cJSON *root = json_parse(arena, json, len, &why);
    r = root ? parse_extension(out, root, err) : bad(err, why.text);
    arena_free(&arena);
    free(json);
    return r < 0 ? r : verdict;
}
