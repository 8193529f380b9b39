#include "services/trust/cloud_request.h"

#include "common/core/text.h"

#include <string.h>

static void add_hex(struct buf *out, const char *name, const uint8_t hash[static 32])
{
    char hex[65];
    hex_encode(hash, 32, hex);
    buf_printf(out, ",\"%s\":\"%s\"", name, hex);
}

static void add_ledger(struct buf *out, const struct trust_ledger *ledger)
{
    if (!ledger->head.present) {
        buf_add_str(out, "null");
        return;
    }
    buf_printf(out, "{\"sequence\":%llu", (unsigned long long)ledger->head.sequence);
    add_hex(out, "hash", ledger->head.hash);
    buf_printf(out, ",\"epoch\":\"%s\"", ledger->head.epoch);
    if (ledger->has_previous)
        add_hex(out, "previous", ledger->previous);
    buf_add_char(out, '}');
}

void cloud_request_write(struct buf *out, const struct cloud_request *r)
{
    buf_add_str(out, "{\"format\":1,\"serverId\":");
    buf_add_json_string(out, r->server_id, strlen(r->server_id));
    buf_add_str(out, ",\"token\":");
    buf_add_json_string(out, r->token, strlen(r->token));
    buf_printf(out, ",\"version\":\"%s\",\"uptimeSeconds\":%lld,\"ledger\":", BERTH_VERSION,
               (long long)r->uptime_s);
    add_ledger(out, r->ledger);
    if (r->place->known)
        buf_printf(out, ",\"place\":{\"boot\":\"%s\",\"folder\":\"%s\",\"bootAgeSeconds\":%lld}",
                   r->place->boot, r->place->folder, (long long)r->boot_age_s);
    buf_add_char(out, '}');
}
