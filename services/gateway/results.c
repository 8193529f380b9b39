#include "services/gateway/results.h"

#include "borrow.pb-c.h"
#include "common/core/text.h"
#include "common/core/times.h"
#include "pool.pb-c.h"
#include "services/gateway/core/error_table.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CONSIDERED_MAX 32

void result_text(struct buf *out, const char *text)
{
    size_t len = strlen(text);
    if (utf8_valid(text, len)) {
        buf_add_json_string(out, text, len);
        return;
    }
    struct buf ascii BUF_CLEANUP = {0};
    for (const char *p = text; *p; p++)
        buf_add_char(&ascii, (unsigned char)*p < 0x80 ? *p : '?');
    buf_add_json_string(out, ascii.data, ascii.len);
}

// {"name":text or ,"name":text
static void add_text(struct buf *out, const char *begin, const char *text)
{
    buf_add_str(out, begin);
    result_text(out, text ? text : "");
}

static void add_time(struct buf *out, const char *begin, int64_t s)
{
    char text[32];
    buf_add_str(out, begin);
    buf_add_char(out, '"');
    buf_add_str(out, wall_format((struct wall_time){s}, text));
    buf_add_char(out, '"');
}

static void add_number(struct buf *out, const char *begin, uint32_t n)
{
    buf_add_str(out, begin);
    buf_add_u64(out, n);
}

static void add_base64(struct buf *out, const char *begin, ProtobufCBinaryData data)
{
    buf_add_str(out, begin);
    buf_add_char(out, '"');
    buf_reserve(out, 4 * ((data.len + 2) / 3) + 1);
    if (data.len)
        out->len += base64_encode(data.data, data.len, out->data + out->len);
    buf_add_char(out, '"');
}

static void add_license_members(struct buf *out, const Berth__LicenseRef *l)
{
    add_text(out, "\"feature\":", l->feature);
    add_text(out, ",\"uuid\":", l->uuid);
    add_text(out, ",\"version\":", l->version);
    add_text(out, ",\"edition\":", l->edition);
    add_text(out, ",\"modules\":", l->modules);
}

static void add_license(struct buf *out, const char *begin, const Berth__LicenseRef *l)
{
    buf_add_str(out, begin);
    buf_add_char(out, '{');
    add_license_members(out, l);
    buf_add_char(out, '}');
}

static void add_intervals(struct buf *out, const Berth__LicenseInfo *info)
{
    if (info->n_borrowed == 0)
        return;
    buf_add_str(out, ",\"borrowedIntervals\":[");
    for (size_t i = 0; i < info->n_borrowed; i++) {
        const Berth__Interval *b = info->borrowed[i];
        add_time(out, i ? ",{\"validFrom\":" : "{\"validFrom\":", b->valid_from_s);
        add_time(out, ",\"validUntil\":", b->valid_until_s);
        add_text(out, ",\"hostId\":", b->host_id);
        buf_add_char(out, '}');
    }
    buf_add_char(out, ']');
}

void result_list_licenses(struct buf *out, const void *reply)
{
    const Berth__ListLicensesReply *list = reply;
    buf_add_char(out, '[');
    for (size_t i = 0; i < list->n_licenses; i++) {
        const Berth__LicenseInfo *info = list->licenses[i];
        buf_add_str(out, i ? ",{" : "{");
        add_license_members(out, info->license);
        add_number(out, ",\"count\":", info->count);
        add_number(out, ",\"available\":", info->available);
        if (info->has_valid_from_s)
            add_time(out, ",\"validFrom\":", info->valid_from_s);
        if (info->has_valid_until_s)
            add_time(out, ",\"validUntil\":", info->valid_until_s);
        add_intervals(out, info);
        buf_add_char(out, '}');
    }
    buf_add_char(out, ']');
}

static void add_grant(struct buf *out, const Berth__Grant *grant)
{
    if (!grant)
        return;
    add_base64(out, ",\"grant\":{\"payload\":", grant->payload);
    add_base64(out, ",\"signature\":", grant->signature);
    add_base64(out, ",\"delegation\":", grant->delegation);
    add_text(out, ",\"certificate\":", grant->certificate);
    buf_add_char(out, '}');
}

void result_request_session(struct buf *out, const void *reply)
{
    const Berth__RequestSessionReply *session = reply;
    add_text(out, "{\"sessionId\":", session->session_id);
    add_number(out, ",\"revalidateWithin\":", session->revalidate_within_s);
    add_license(out, ",\"license\":", session->license);
    add_grant(out, session->grant);
    buf_add_char(out, '}');
}

void result_revalidate_session(struct buf *out, const void *reply)
{
    const Berth__RevalidateSessionReply *session = reply;
    add_number(out, "{\"revalidateWithin\":", session->revalidate_within_s);
    add_grant(out, session->grant);
    buf_add_char(out, '}');
}

void result_null(struct buf *out, const void *reply)
{
    buf_add_str(out, "null");
}

// Bytes of a license file. They are UTF-8, as license files are.
static void add_license_text(struct buf *out, ProtobufCBinaryData text)
{
    buf_add_str(out, ",\"license\":");
    const char *p = (const char *)text.data;
    bool good = text.len > 0 && utf8_valid(p, text.len) && !memchr(p, 0, text.len);
    buf_add_json_string(out, good ? p : "", good ? text.len : 0);
}

void result_borrowed(struct buf *out, const void *reply)
{
    const Berth__BorrowedLicense *b = reply;
    add_text(out, "{\"borrowId\":", b->borrow_id);
    add_text(out, ",\"uuid\":", b->uuid);
    add_text(out, ",\"feature\":", b->feature);
    add_text(out, ",\"hostId\":", b->host_id);
    add_time(out, ",\"validFrom\":", b->valid_from_s);
    add_time(out, ",\"validUntil\":", b->valid_until_s);
    add_text(out, ",\"fileName\":", b->file_name);
    if (b->has_license)
        add_license_text(out, b->license);
    buf_add_char(out, '}');
}

void result_list_borrowed(struct buf *out, const void *reply)
{
    const Berth__ListBorrowedReply *list = reply;
    buf_add_char(out, '[');
    for (size_t i = 0; i < list->n_borrowed; i++) {
        Berth__BorrowedLicense borrowed = *list->borrowed[i];
        borrowed.has_license = 0; // never in a list: it is usable
        if (i)
            buf_add_char(out, ',');
        result_borrowed(out, &borrowed);
    }
    buf_add_char(out, ']');
}

static void add_client(struct buf *out, const Berth__ClientInfo *client)
{
    const struct {
        const char *name, *text;
    } members[] = {
        {"\"hostname\":", client->hostname}, {"\"hostId\":", client->host_id},
        {"\"user\":", client->user},         {"\"application\":", client->application},
        {"\"pid\":", client->pid},           {"\"address\":", client->address},
    };
    const char *separator = "";
    buf_add_str(out, ",\"client\":{");
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (!members[i].text)
            continue;
        buf_add_str(out, separator);
        add_text(out, members[i].name, members[i].text);
        separator = ",";
    }
    buf_add_char(out, '}');
}

void result_sessions_page(struct buf *out, const void *reply)
{
    static const Berth__ClientInfo nobody = BERTH__CLIENT_INFO__INIT;
    const Berth__ListSessionsReply *page = reply;
    for (size_t i = 0; i < page->n_sessions; i++) {
        const Berth__SessionInfo *s = page->sessions[i];
        add_text(out, i ? ",{\"sessionId\":" : "{\"sessionId\":", s->session_id);
        add_license(out, ",\"license\":", s->license);
        add_client(out, s->client ? s->client : &nobody);
        add_time(out, ",\"since\":", s->since_s);
        add_time(out, ",\"lastSeen\":", s->last_seen_s);
        add_time(out, ",\"expires\":", s->expires_s);
        buf_add_char(out, '}');
    }
}

// ---- errors ----

static void add_considered(struct buf *out, const Berth__Error *e)
{
    size_t n = e->n_considered < CONSIDERED_MAX ? e->n_considered : CONSIDERED_MAX;
    uint32_t omitted = (e->has_omitted ? e->omitted : 0) + (uint32_t)(e->n_considered - n);
    buf_add_str(out, ",\"considered\":[");
    for (size_t i = 0; i < n; i++) {
        const Berth__Considered *c = e->considered[i];
        add_text(out, i ? ",{\"uuid\":" : "{\"uuid\":", c->uuid);
        add_text(out, ",\"feature\":", c->feature);
        add_text(out, ",\"reason\":", c->reason);
        buf_add_char(out, '}');
    }
    add_number(out, "],\"omitted\":", omitted);
}

static void add_data(struct buf *out, const struct error_kind *kind, const Berth__Error *e)
{
    size_t first = out->len;
    if (kind->name)
        add_text(out, ",\"name\":", kind->name);
    if (kind->data & ERROR_DATA_FIELD)
        add_text(out, ",\"field\":", e->field);
    if (kind->data & ERROR_DATA_REASON)
        add_text(out, ",\"reason\":", e->reason);
    if (kind->data & ERROR_DATA_CONSIDERED)
        add_considered(out, e);
    if (kind->data & ERROR_DATA_RETRY_AFTER)
        add_number(out, ",\"retryAfter\":", e->has_retry_after_s ? e->retry_after_s : 1);
    if (kind->data & ERROR_DATA_SERVICE)
        add_text(out, ",\"service\":", e->service);
    if (kind->data & ERROR_DATA_LIMIT)
        add_text(out, ",\"limit\":", e->limit);
    if (kind->data & ERROR_DATA_PERIOD && e->has_from_s && e->has_until_s) {
        add_time(out, ",\"from\":", e->from_s);
        add_time(out, ",\"until\":", e->until_s);
    }
    if (out->len > first)
        out->data[first] = '{'; // in place of the first comma
}

void result_error(struct buf *out, const Berth__Error *e)
{
    const struct error_kind *kind = error_kind_of(e->code);
    buf_printf(out, "{\"code\":%d,\"message\":", kind->code);
    result_text(out, e->message && *e->message ? e->message : kind->message);
    if (kind->name || kind->data) {
        buf_add_str(out, ",\"data\":");
        add_data(out, kind, e);
        buf_add_char(out, '}');
    }
    buf_add_char(out, '}');
}
