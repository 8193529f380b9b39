#include "tests/unit/pool_model.h"

#include <string.h>

const char *const model_features[FEATURES + 1] = {"MVTec_HALCON", "MVTec_HDevelop", "other"};
const char *const model_uuids[UUIDS] = {
    "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b",
    "00000000-0000-4000-8000-00000000000c", "00000000-0000-4000-8000-00000000000d"};
int license_of(const struct license_fields *f)
{
    int u = 0, t = 0;
    while (strcmp(model_uuids[u], f->uuid))
        u++;
    while (strcmp(model_features[t], f->feature))
        t++;
    return u * FEATURES + t;
}

static bool model_newer(const struct model *m, size_t a, size_t b)
{
    if (m->records[a].issued.s != m->records[b].issued.s)
        return m->records[a].issued.s > m->records[b].issued.s;
    return memcmp(m->signatures[a], m->signatures[b], 64) > 0;
}

int model_record(const struct model *m, int license)
{
    int best = -1, newest = -1;
    for (size_t i = 0; i < m->records_len; i++) {
        if (license_of(&m->records[i]) != license || m->foreign[i])
            continue;
        if (newest < 0 || model_newer(m, i, (size_t)newest))
            newest = (int)i;
        if (m->records[i].valid_from.s <= m->now.wall.s &&
            (best < 0 || model_newer(m, i, (size_t)best)))
            best = (int)i;
    }
    return best >= 0 ? best : newest;
}

uint32_t model_borrowed(const struct model *m, int license)
{
    uint32_t n = 0;
    for (size_t i = 0; i < m->borrows_len; i++)
        n += m->borrows[i].license == license && m->borrows[i].from.s <= m->now.wall.s &&
             m->borrows[i].until.s > m->now.wall.s;
    return n;
}

bool model_live(const struct model *m, const struct model_session *s)
{
    return s->state == POOL_SESSION_OK && s->expires_ms > m->now.mono.ms;
}

uint32_t model_live_before(const struct model *m, int license, size_t end)
{
    uint32_t n = 0;
    for (size_t i = m->first_live; i < end; i++)
        n += m->sessions[i].license == license && model_live(m, &m->sessions[i]);
    return n;
}

static bool model_covers(enum edition l, enum edition r, struct version v)
{
    if (l == r || l == EDITION_STEADY_PROGRESS)
        return true;
    return l == EDITION_PROGRESS && r == EDITION_STEADY &&
           (v.n[0] > 24 || (v.n[0] == 24 && v.n[1] >= 11));
}

static bool model_can_serve(const struct license_fields *f, const struct match_terms *r)
{
    return (f->modules & r->modules) == r->modules &&
           version_compare(f->version, r->version) >= 0 &&
           model_covers(f->edition, r->edition, r->version);
}

static int model_step(const struct license_fields *f, const struct match_terms *r)
{
    bool same_edition = f->edition == r->edition || f->edition == EDITION_STEADY_PROGRESS;
    if (!same_edition)
        return 4;
    if (version_compare(f->version, r->version))
        return 3;
    return f->modules == r->modules ? 1 : 2;
}

static bool model_prefers(const struct license_fields *a, const struct license_fields *b,
                          const struct match_terms *r)
{
    int sa = model_step(a, r), sb = model_step(b, r);
    if (sa != sb)
        return sa < sb;
    int pa = a->edition != r->edition, pb = b->edition != r->edition;
    if (pa != pb && sa < 4)
        return pa < pb;
    int ma = __builtin_popcount(a->modules), mb = __builtin_popcount(b->modules);
    if (ma != mb)
        return ma < mb;
    int v = version_compare(a->version, b->version);
    if (v)
        return v < 0;
    if (a->valid_until.s != b->valid_until.s)
        return a->valid_until.s < b->valid_until.s;
    return strcmp(a->uuid, b->uuid) < 0;
}

enum pool_session_state model_check(const struct model *m, size_t at)
{
    const struct model_session *s = &m->sessions[at];
    if (s->state != POOL_SESSION_OK)
        return s->state;
    if (s->expires_ms <= m->now.mono.ms)
        return POOL_SESSION_EXPIRED;
    int r = model_record(m, s->license);
    if (r < 0)
        return POOL_SESSION_LICENSE_WITHDRAWN;
    const struct license_fields *f = &m->records[r];
    if (f->valid_until.s <= m->now.wall.s)
        return POOL_SESSION_LICENSE_EXPIRED;
    if (f->valid_from.s > m->now.wall.s || !model_can_serve(f, &s->terms))
        return POOL_SESSION_LICENSE_WITHDRAWN;
    uint32_t borrowed = model_borrowed(m, s->license);
    uint32_t older = model_live_before(m, s->license, at);
    return (uint64_t)older + borrowed >= f->count ? POOL_SESSION_DISPLACED : POOL_SESSION_OK;
}

enum pool_outcome model_request(struct model *m, int feature, const struct match_terms *terms,
                                int instance, int host, int *license, size_t *existing)
{
    for (size_t i = m->first_live; instance >= 0 && i < m->sessions_len; i++) {
        struct model_session *s = &m->sessions[i];
        if (s->state != POOL_SESSION_OK || s->instance != instance ||
            s->license % FEATURES != feature)
            continue;
        s->state = model_check(m, i);
        if (s->state != POOL_SESSION_OK)
            continue;
        *existing = i;
        bool same = !version_compare(s->terms.version, terms->version) &&
                    s->terms.edition == terms->edition && s->terms.modules == terms->modules;
        return same ? POOL_EXISTING : POOL_INSTANCE_CONFLICT;
    }
    int best = -1;
    bool some = false;
    for (int l = feature; l < UUIDS * FEATURES; l += FEATURES) {
        int r = feature < FEATURES ? model_record(m, l) : -1;
        if (r < 0)
            continue;
        const struct license_fields *f = &m->records[r];
        if (f->valid_from.s > m->now.wall.s || f->valid_until.s <= m->now.wall.s ||
            !model_can_serve(f, terms))
            continue;
        some = true;
        if (model_borrowed(m, l) + model_live_before(m, l, m->sessions_len) >= f->count)
            continue;
        if (best < 0 || model_prefers(f, &m->records[best], terms))
            best = r;
    }
    if (!some)
        return POOL_NO_LICENSE;
    uint32_t of_client = 0;
    for (size_t i = m->first_live; i < m->sessions_len; i++)
        of_client += model_live(m, &m->sessions[i]) && m->sessions[i].host == host;
    if (m->max_per_client && of_client >= m->max_per_client)
        return POOL_CLIENT_LIMIT;
    if (best < 0)
        return POOL_NO_SEAT;
    *license = license_of(&m->records[best]);
    return POOL_GRANTED;
}
