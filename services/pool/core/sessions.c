#include "common/core/text.h"
#include "services/pool/core/pool_internal.h"

#include <errno.h>
#include <string.h>

void session_id_format(const struct session_id *id, char out[static SESSION_ID_TEXT_BYTES])
{
    hex_encode(id->bytes, SESSION_ID_BYTES, out);
}

int session_id_parse(const char *text, size_t len, struct session_id *out)
{
    if (len != 2 * SESSION_ID_BYTES)
        return -EINVAL;
    for (size_t i = 0; i < len; i++) {
        if (text[i] >= 'A' && text[i] <= 'F')
            return -EINVAL;
    }
    return hex_decode(text, len, out->bytes, SESSION_ID_BYTES) == SESSION_ID_BYTES ? 0 : -EINVAL;
}

const char *pool_session_state_name(enum pool_session_state s)
{
    static const char *const names[POOL_SESSION_STATES] = {
        [POOL_SESSION_OK] = "ok",
        [POOL_SESSION_UNKNOWN] = "unknown",
        [POOL_SESSION_EXPIRED] = "expired",
        [POOL_SESSION_RETURNED] = "returned",
        [POOL_SESSION_ENDED] = "ended",
        [POOL_SESSION_DISPLACED] = "displaced",
        [POOL_SESSION_LICENSE_EXPIRED] = "license-expired",
        [POOL_SESSION_LICENSE_WITHDRAWN] = "license-withdrawn",
    };
    return names[s];
}

uint64_t client_hash(const struct pool *p, const struct pool_client *client)
{
    const char *name = client->host_id ? client->host_id : client->address;
    char text[POOL_TEXT_MAX_BYTES + 1];
    size_t len = name ? strnlen(name, POOL_TEXT_MAX_BYTES) : 0;
    text[0] = client->host_id ? 'h' : 'a';
    if (len)
        memcpy(text + 1, name, len);
    uint64_t hash = siphash(&p->key, text, len + 1);
    return hash ? hash : 1;
}

uint32_t key_hash(const struct pool *p, const char *instance_id, const char *feature)
{
    char text[POOL_TEXT_MAX_BYTES + 1 + LICENSE_FEATURE_MAX];
    size_t len = strnlen(instance_id, POOL_TEXT_MAX_BYTES);
    size_t feature_len = strnlen(feature, LICENSE_FEATURE_MAX);
    memcpy(text, instance_id, len);
    text[len++] = '\0';
    memcpy(text + len, feature, feature_len);
    return (uint32_t)siphash(&p->key, text, len + feature_len);
}

uint32_t interval_s(const struct pool *p)
{
    int64_t s = p->settings.revalidation_interval_ms / 1000;
    return s < 1 ? 1 : (uint32_t)s;
}

uint32_t wall_u32(struct wall_time t)
{
    return t.s < 0 ? 0 : t.s > UINT32_MAX ? UINT32_MAX : (uint32_t)t.s;
}

struct pool_license_ref license_ref(const struct license *l)
{
    return (struct pool_license_ref){l->feature, l->uuid, l->last_version_text,
                                     l->last_terms.edition, l->last_terms.modules};
}

void session_end(struct pool *p, uint32_t n, enum pool_session_state reason)
{
    struct session *s = session_at(&p->sessions, n);
    if (p->clients.slots) {
        struct facts f;
        facts_unpack(s->facts, &f);
        clients_drop(&p->clients, client_hash(p, &f.client));
    }
    tombs_add(&p->tombs, &s->id, reason);
    journal_end(p, &s->id, reason);
    p->stats.ended[reason]++;
    seats_release(p, n);
    session_remove(&p->sessions, n);
}

bool sessions_sweep(struct pool *p, struct mono_time now, bool running, size_t *budget)
{
    bool some = false;
    uint32_t n;
    while ((n = wheel_next_due(&p->sessions, now, running, budget)) != SESSION_NONE) {
        session_end(p, n, POOL_SESSION_EXPIRED);
        some = true;
    }
    return some;
}

static bool still_fits(struct session *s, const struct license *l)
{
    if (s->license_epoch == l->epoch)
        return true;
    struct facts f;
    facts_unpack(s->facts, &f);
    if (match_terms_check(&license_in_force(l)->terms, &f.requested) != MATCH_SERVES)
        return false;
    s->license_epoch = l->epoch;
    return true;
}

enum pool_session_state session_check(struct pool *p, uint32_t n, struct mono_time now)
{
    struct session *s = session_at(&p->sessions, n);
    if (s->expires_ms <= now.ms)
        return POOL_SESSION_EXPIRED;
    const struct license *l = catalog_at(&p->catalog, s->license);
    if (!l->records_len || l->foreign)
        return POOL_SESSION_LICENSE_WITHDRAWN;
    if (l->validity == POOL_EXPIRED)
        return POOL_SESSION_LICENSE_EXPIRED;
    if (l->validity == POOL_NOT_YET_VALID || !still_fits(s, l))
        return POOL_SESSION_LICENSE_WITHDRAWN;
    return s->seq >= l->cut_seq ? POOL_SESSION_DISPLACED : POOL_SESSION_OK;
}

void session_prolong(struct pool *p, uint32_t n, struct pool_now now)
{
    struct session *s = session_at(&p->sessions, n);
    int64_t expires = now.mono.ms + p->settings.revalidation_interval_ms;
    s->last_seen_s = wall_u32(now.wall);
    bool sooner = expires < s->expires_ms; // after a reload with a shorter interval
    s->expires_ms = expires;
    if (sooner)
        wheel_refile(&p->sessions, n);
}

void pool_prolong_all(struct pool *p, struct pool_now now)
{
    pool_advance(p, &now);
    for (uint32_t n = 0; n < p->sessions.used; n++) {
        struct session *s = session_at(&p->sessions, n);
        if (s->live)
            s->expires_ms = now.mono.ms + p->settings.revalidation_interval_ms;
    }
}
