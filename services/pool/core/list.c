// What the pool shows: its licenses and its sessions.
#include "services/pool/core/alloc.h"
#include "services/pool/core/pool_internal.h"

#include <string.h>

size_t pool_license_count(struct pool *p, struct pool_now now)
{
    pool_advance(p, &now);
    return p->catalog.listed_len;
}

static void show_license(const struct pool *p, const struct license *l, struct pool_license *out)
{
    const struct license_record *r = license_in_force(l);
    *out = (struct pool_license){
        .ref = license_ref(l),
        .count = r->count,
        .valid_from = r->valid_from,
        .valid_until = r->valid_until,
        .issued = r->issued,
        .validity = l->validity,
        .borrowed = l->borrowed,
        .live = l->live,
        .tag = r->tag,
        .issue_tie = r->issue_tie,
        .borrows_len = l->borrows_len - l->ended_len,
    };
    if (l->validity == POOL_VALID && l->capacity > l->live && p->hold.ms <= p->mono.ms)
        out->available = l->capacity - l->live;
}

void pool_license_at(struct pool *p, size_t i, struct pool_license *out)
{
    show_license(p, catalog_at(&p->catalog, p->catalog.listed[i]), out);
}

bool pool_license_find(struct pool *p, const char *uuid, const char *feature, struct pool_now now,
                       struct pool_license *out)
{
    pool_advance(p, &now);
    uint32_t n = catalog_find(&p->catalog, uuid, feature);
    const struct license *l = n == LICENSE_NONE ? NULL : catalog_at(&p->catalog, n);
    if (!l || !l->records_len || l->foreign)
        return false;
    show_license(p, l, out);
    return true;
}

void pool_license_borrow(struct pool *p, size_t i, size_t k, struct pool_borrow *out)
{
    const struct license *l = catalog_at(&p->catalog, p->catalog.listed[i]);
    const struct license_borrow *b = &l->borrows[l->ended_len + k];
    *out = (struct pool_borrow){b->from, b->until, b->host_id};
}

static void show_session(struct pool *p, uint32_t n, struct pool_now now, struct pool_session *out)
{
    const struct session *s = session_at(&p->sessions, n);
    size_t size = facts_size(s->facts);
    p->shown_facts = alloc_resized(p->shown_facts, size, 1);
    memcpy(p->shown_facts, s->facts, size);
    struct facts f;
    facts_unpack(p->shown_facts, &f);
    *out = (struct pool_session){
        .id = s->id,
        .license = license_ref(catalog_at(&p->catalog, s->license)),
        .requested = f.requested,
        .instance_id = f.instance_id,
        .client = f.client,
        .since = {s->since_s},
        .last_seen = {s->last_seen_s},
        .expires = {now.wall.s + (s->expires_ms - now.mono.ms + 999) / 1000}, // not before its end
    };
}

bool pool_session_get(struct pool *p, const struct session_id *id, struct pool_now now,
                      struct pool_session *out)
{
    pool_advance(p, &now);
    uint32_t n = session_find(&p->sessions, id);
    if (n == SESSION_NONE || session_at(&p->sessions, n)->expires_ms <= now.mono.ms)
        return false;
    show_session(p, n, now, out);
    return true;
}

bool pool_session_next(struct pool *p, uint64_t *cursor, struct pool_now now,
                       struct pool_session *out)
{
    pool_advance(p, &now);
    while (*cursor < p->sessions.used) {
        uint32_t n = (uint32_t)(*cursor)++;
        const struct session *s = session_at(&p->sessions, n);
        if (!s->live || s->expires_ms <= now.mono.ms)
            continue;
        show_session(p, n, now, out);
        return true;
    }
    return false;
}

size_t pool_session_count(const struct pool *p)
{
    return p->sessions.live;
}
