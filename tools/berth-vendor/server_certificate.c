// The certificate that is a server license, of either variant.
#include "tools/berth-vendor/vendor.h"

#include "common/clock.h"
#include "common/core/buf.h"
#include "common/core/text.h"
#include "common/server_license.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define YEAR_S (365LL * 86400)
#define BACKDATE_S 3600

int server_id_check(const char *id)
{
    size_t len = strlen(id);
    if (len >= 1 && len <= 64 &&
        strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len)
        return 0;
    return vendor_fault("--server-id: \"%s\" is not 1 to 64 of A-Z a-z 0-9 . _ -", id);
}

int server_order_validity(struct server_order *o, const struct vendor *vendor, const char *until)
{
    struct wall_time now = clock_wall();
    struct wall_time ca_end = crypto_cert_not_after(vendor->ca_cert);
    o->not_after.s = now.s + YEAR_S < ca_end.s ? now.s + YEAR_S : ca_end.s;
    if (until && vendor_time("--valid-until", until, WALL_DATE_END, &o->not_after))
        return 1;
    if (o->not_after.s > ca_end.s)
        return vendor_fault("--valid-until: the vendor's CA itself ends before that");
    o->not_before.s = now.s - BACKDATE_S;
    if (o->not_after.s <= now.s) {
        fprintf(stderr, "berth-vendor: warning: --valid-until is in the past\n");
        o->not_before.s = o->not_after.s - BACKDATE_S;
    }
    return 0;
}

static char *extension_json(const struct server_order *o, const struct vendor *vendor)
{
    struct buf json = {0};
    buf_printf(&json, "{\"format\":1,\"variant\":\"%s\",\"addons\":[%s],\"licenseKeys\":[",
               o->variant, o->borrow ? "\"borrow\"" : "");
    for (size_t i = 0; i < vendor->keys_len; i++) {
        char text[45];
        base64_encode(vendor->keys[i].public_key, 32, text);
        buf_printf(&json, "%s\"%s\"", i ? "," : "", text);
    }
    buf_add_char(&json, ']');
    size_t url = o->cloud_url ? strlen(o->cloud_url) : 0;
    while (url && o->cloud_url[url - 1] == '/')
        url--;
    if (url)
        buf_printf(&json, ",\"cloudUrl\":\"%.*s\"", (int)url, o->cloud_url);
    buf_add_char(&json, '}');
    return json.data;
}

int server_certificate_issue(struct crypto_cert **out, const struct server_order *o,
                             const struct vendor *vendor, const struct crypto_key *key,
                             struct error *err)
{
    char *json = extension_json(o, vendor);
    struct crypto_issue what = {
        .common_name = o->server_id,
        .not_before = o->not_before,
        .not_after = o->not_after,
        .usage = USAGE_SERVER_LICENSE,
        .extension_json = json,
    };
    int r = crypto_cert_issue(out, &what, key, vendor->ca_cert, vendor->ca_key, err);
    free(json);
    if (r)
        return r;
    // What is given away has been read back with the server's own eyes.
    struct crypto_ca *ca = NULL;
    struct server_license license;
    char *pem = crypto_cert_pem(vendor->ca_cert);
    r = crypto_ca_load_pem(&ca, pem, strlen(pem), err);
    if (!r)
        r = server_license_read(&license, *out, ca, clock_wall(), err);
    if (r == 1 && o->not_after.s <= clock_wall().s)
        r = 0; // expired, as it was ordered
    crypto_ca_free(&ca);
    free(pem);
    return r;
}
