// Seats of a license: count - borrows now - live sessions, and which sessions are beyond ([B5]).
#include "services/pool/core/alloc.h"
#include "services/pool/core/pool_internal.h"

void seats_update(struct pool *p, uint32_t license)
{
    struct license *l = catalog_at(&p->catalog, license);
    while (l->before_cut > l->capacity) {
        l->cut = l->cut == SESSION_NONE ? l->tail : session_at(&p->sessions, l->cut)->license_prev;
        l->before_cut--;
    }
    while (l->before_cut < l->capacity && l->cut != SESSION_NONE) {
        l->cut = session_at(&p->sessions, l->cut)->license_next;
        l->before_cut++;
    }
    l->cut_seq = l->cut == SESSION_NONE ? UINT64_MAX : session_at(&p->sessions, l->cut)->seq;
    classes_set_free(&p->classes, l, l->capacity > l->live);
}

void seats_update_all(struct pool *p)
{
    for (uint32_t i = 0; i < p->catalog.len; i++) {
        if (catalog_at(&p->catalog, i))
            seats_update(p, i);
    }
}

static void link_newest(struct pool *p, uint32_t n)
{
    struct session *s = session_at(&p->sessions, n);
    struct license *l = catalog_at(&p->catalog, s->license);
    s->license_prev = l->tail;
    s->license_next = SESSION_NONE;
    if (l->tail == SESSION_NONE)
        l->head = n;
    else
        session_at(&p->sessions, l->tail)->license_next = n;
    l->tail = n;
    l->live++;
    if (l->cut == SESSION_NONE)
        l->before_cut++;
}

void seats_take(struct pool *p, uint32_t n)
{
    link_newest(p, n);
    seats_update(p, session_at(&p->sessions, n)->license);
}

void seats_release(struct pool *p, uint32_t n)
{
    struct session *s = session_at(&p->sessions, n);
    struct license *l = catalog_at(&p->catalog, s->license);
    if (l->cut == n)
        l->cut = s->license_next;
    else if (s->seq < l->cut_seq)
        l->before_cut--;
    if (s->license_prev == SESSION_NONE)
        l->head = s->license_next;
    else
        session_at(&p->sessions, s->license_prev)->license_next = s->license_next;
    if (s->license_next == SESSION_NONE)
        l->tail = s->license_prev;
    else
        session_at(&p->sessions, s->license_next)->license_prev = s->license_prev;
    l->live--;
    seats_update(p, s->license);
}

struct aged {
    uint64_t seq;
    uint32_t session;
};

static int aged_compare(const void *x, const void *y)
{
    const struct aged *a = x, *b = y;
    return (a->seq > b->seq) - (a->seq < b->seq);
}

void seats_relink_all(struct pool *p)
{
    struct aged *all = alloc_zeroed(p->sessions.live, sizeof *all);
    size_t len = 0;
    for (uint32_t n = 0; n < p->sessions.used; n++) {
        const struct session *s = session_at(&p->sessions, n);
        if (s->live)
            all[len++] = (struct aged){s->seq, n};
    }
    qsort(all, len, sizeof *all, aged_compare);
    for (uint32_t i = 0; i < p->catalog.len; i++) {
        struct license *l = catalog_at(&p->catalog, i);
        if (!l)
            continue;
        l->head = l->tail = l->cut = SESSION_NONE;
        l->live = l->before_cut = 0;
    }
    for (size_t i = 0; i < len; i++)
        link_newest(p, all[i].session);
    free(all);
    seats_update_all(p);
}
