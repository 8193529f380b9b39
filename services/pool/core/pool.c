#include "services/pool/core/pool_internal.h"

#include "services/pool/core/alloc.h"

#include <string.h>

// A refused request frees due sessions in portions and tries again after each; and no more than
// this many at once, so that others do not wait for it.
#define SWEEP_PORTION 512
#define SWEEP_MAX 65536
#define SWEEP_FEW 64
#define EVENT_MAX_MS (3600 * 1000)
#define BORROW_MEMORY_S 86400 // a clock may be set back

struct pool *pool_new(const struct pool_settings *settings, const uint8_t key[static 16])
{
    struct pool *p = alloc_zeroed(1, sizeof *p);
    memcpy(&p->key, key, sizeof p->key);
    session_table_init(&p->sessions);
    catalog_init(&p->catalog, &p->key);
    classes_init(&p->classes, &p->key);
    tombs_init(&p->tombs);
    p->next_seq = 1;
    pool_set_settings(p, settings);
    return p;
}

void pool_free(struct pool **pp)
{
    struct pool *p = *pp;
    if (!p)
        return;
    session_table_fini(&p->sessions);
    classes_fini(&p->classes);
    catalog_fini(&p->catalog);
    tombs_fini(&p->tombs);
    clients_fini(&p->clients);
    free(p->shown_facts);
    free(p);
    *pp = NULL;
}

void pool_set_settings(struct pool *p, const struct pool_settings *settings)
{
    p->settings = *settings;
    if (!settings->max_per_client) {
        clients_fini(&p->clients);
        return;
    }
    if (p->clients.slots)
        return;
    clients_init(&p->clients);
    for (uint32_t n = 0; n < p->sessions.used; n++) {
        const struct session *s = session_at(&p->sessions, n);
        if (!s->live)
            continue;
        struct facts f;
        facts_unpack(s->facts, &f);
        clients_add(&p->clients, client_hash(p, &f.client));
    }
}

static void refresh(struct pool *p, struct wall_time now, bool records_changed)
{
    if (catalog_refresh(&p->catalog, now) || records_changed)
        classes_build(&p->classes, &p->catalog);
    seats_update_all(p);
}

void pool_advance(struct pool *p, struct pool_now *now)
{
    if (now->mono.ms < p->mono.ms)
        now->mono = p->mono;
    p->mono = now->mono;
    if (!catalog_is_current(&p->catalog, now->wall))
        refresh(p, now->wall, false);
}

void pool_load(struct pool *p, const struct pool_record *records, size_t len, struct pool_now now)
{
    classes_fini(&p->classes); // they point to records that are about to go
    catalog_load(&p->catalog, records, len);
    refresh(p, now.wall, true);
}

void pool_set_borrows(struct pool *p, const struct pool_borrow_entry *entries, size_t len,
                      struct pool_now now)
{
    catalog_clear_borrows(&p->catalog);
    for (size_t i = 0; i < len; i++)
        catalog_add_borrow(&p->catalog, &entries[i]);
    pool_advance(p, &now);
}

void pool_add_borrow(struct pool *p, const struct pool_borrow_entry *entry, struct pool_now now)
{
    catalog_forget_borrows(&p->catalog, entry->uuid, entry->feature,
                           (struct wall_time){now.wall.s - BORROW_MEMORY_S});
    catalog_add_borrow(&p->catalog, entry);
    pool_advance(p, &now);
}

// ---- Request ----

// The live session of this key, or SESSION_NONE. One that may not go on is ended here, as it would
// be at its revalidation.
static uint32_t find_existing(struct pool *p, const struct pool_request *request, uint32_t hash,
                              struct mono_time now, struct facts *f)
{
    uint32_t n = SESSION_NONE;
    while ((n = session_find_key(&p->sessions, hash, n)) != SESSION_NONE) {
        const struct session *s = session_at(&p->sessions, n);
        facts_unpack(s->facts, f);
        const struct license *l = catalog_at(&p->catalog, s->license);
        if (!strncmp(f->instance_id, request->instance_id, POOL_TEXT_MAX_BYTES) &&
            !strcmp(l->feature, request->feature))
            break;
    }
    if (n == SESSION_NONE)
        return n;
    enum pool_session_state state = session_check(p, n, now);
    if (state == POOL_SESSION_OK)
        return n;
    session_end(p, n, state);
    return SESSION_NONE;
}

static bool same_request(const struct match_terms *a, const struct match_terms *b)
{
    return a->edition == b->edition && a->modules == b->modules &&
           !version_compare(a->version, b->version);
}

static void result_session(const struct pool *p, uint32_t n, struct pool_result *out)
{
    const struct session *s = session_at(&p->sessions, n);
    out->id = s->id;
    out->revalidate_within_s = interval_s(p);
    out->license = license_ref(catalog_at(&p->catalog, s->license));
}

static void grant(struct pool *p, const struct pool_request *request, uint32_t license,
                  const struct session_id *id, uint32_t hash, struct pool_now now,
                  struct pool_result *out)
{
    if (session_find(&p->sessions, id) != SESSION_NONE)
        abort();
    uint32_t n = session_add(&p->sessions, id, request->instance_id != NULL, hash);
    struct session *s = session_at(&p->sessions, n);
    s->facts = facts_pack(request);
    s->seq = p->next_seq++;
    s->since_s = s->last_seen_s = wall_u32(now.wall);
    s->expires_ms = now.mono.ms + p->settings.revalidation_interval_ms;
    s->license = license;
    s->license_epoch = catalog_at(&p->catalog, license)->epoch;
    wheel_file(&p->sessions, n);
    seats_take(p, n);
    if (p->clients.slots)
        clients_add(&p->clients, client_hash(p, &request->client));
    journal_begin(p, n);
    result_session(p, n, out);
}

// The earliest moment at which a session can expire or a borrow end, in whole seconds.
static uint32_t retry_after(const struct pool *p, struct pool_now now)
{
    int64_t after_ms = p->hold.ms > now.mono.ms ? p->hold.ms : wheel_next_ms(&p->sessions).ms;
    after_ms = after_ms == INT64_MAX ? INT64_MAX - 999 : after_ms - now.mono.ms;
    int64_t after_s = (after_ms + 999) / 1000;
    int64_t change = p->catalog.next.s;
    if (change != INT64_MAX && change - now.wall.s < after_s)
        after_s = change - now.wall.s;
    if (after_s > interval_s(p))
        return interval_s(p);
    return after_s < 1 ? 1 : (uint32_t)after_s;
}

static bool over_client_limit(const struct pool *p, uint64_t client)
{
    return p->clients.slots && clients_get(&p->clients, client) >= p->settings.max_per_client;
}

// Decides for a request that has no session yet; frees due seats if there is none free.
static enum pool_outcome choose(struct pool *p, const struct pool_request *request,
                                struct pool_now now, uint32_t *license, struct plan **plan)
{
    uint64_t client = p->clients.slots ? client_hash(p, &request->client) : 0;
    *plan = classes_plan(&p->classes, request->feature, &request->terms);
    // So that a better license is not passed over whose seat is due but not yet noticed.
    size_t few = SWEEP_FEW;
    sessions_sweep(p, now.mono, true, &few);
    for (size_t left = SWEEP_MAX;;) {
        bool limited = over_client_limit(p, client);
        bool held = p->hold.ms > now.mono.ms;
        *license = limited || held ? LICENSE_NONE : plan_choose(&p->classes, &p->catalog, *plan);
        if (*license != LICENSE_NONE)
            return POOL_GRANTED;
        if (!(*plan)->len)
            return POOL_NO_LICENSE;
        size_t budget = left < SWEEP_PORTION ? left : SWEEP_PORTION;
        left -= budget;
        bool some = sessions_sweep(p, now.mono, true, &budget);
        if (!some && (budget || !left))
            return limited ? POOL_CLIENT_LIMIT : POOL_NO_SEAT;
    }
}

enum pool_outcome pool_request(struct pool *p, const struct pool_request *request,
                               struct session_id random, struct pool_now now,
                               struct pool_result *out)
{
    pool_advance(p, &now);
    out->considered_len = 0;
    out->omitted = out->retry_after_s = 0;
    uint32_t hash = 0;
    if (request->instance_id) {
        hash = key_hash(p, request->instance_id, request->feature);
        struct facts f;
        uint32_t n = find_existing(p, request, hash, now.mono, &f);
        if (n != SESSION_NONE) {
            bool same = same_request(&f.requested, &request->terms);
            out->outcome = same ? POOL_EXISTING : POOL_INSTANCE_CONFLICT;
            if (same) {
                session_prolong(p, n, now);
                result_session(p, n, out);
            }
            p->stats.outcomes[out->outcome]++;
            return out->outcome;
        }
    }
    uint32_t license;
    struct plan *plan;
    out->outcome = choose(p, request, now, &license, &plan);
    p->stats.outcomes[out->outcome]++;
    if (out->outcome == POOL_GRANTED) {
        grant(p, request, license, &random, hash, now, out);
        return out->outcome;
    }
    if (out->outcome != POOL_CLIENT_LIMIT) {
        enum match_reason first;
        plan_explain(&p->classes, &p->catalog, plan, out, &first);
        p->stats.denials[first]++;
    }
    if (out->outcome != POOL_NO_LICENSE)
        out->retry_after_s = retry_after(p, now);
    return out->outcome;
}

// ---- Sessions ----

static enum pool_session_state refuse(struct pool *p, const struct session_id *id)
{
    enum pool_session_state reason = tombs_find(&p->tombs, id);
    p->stats.refused[reason]++;
    return reason;
}

enum pool_session_state pool_revalidate(struct pool *p, const struct session_id *id,
                                        struct pool_now now, uint32_t *within_s)
{
    pool_advance(p, &now);
    uint32_t n = session_find(&p->sessions, id);
    if (n == SESSION_NONE)
        return refuse(p, id);
    enum pool_session_state state = session_check(p, n, now.mono);
    if (state == POOL_SESSION_DISPLACED) {
        // Older ones that are due live no more and do not count.
        size_t budget = SWEEP_MAX;
        sessions_sweep(p, now.mono, true, &budget);
        state = session_check(p, n, now.mono);
    }
    if (state != POOL_SESSION_OK) {
        session_end(p, n, state);
        p->stats.refused[state]++;
        return state;
    }
    session_prolong(p, n, now);
    p->stats.revalidated++;
    *within_s = interval_s(p);
    return POOL_SESSION_OK;
}

static enum pool_session_state end_by(struct pool *p, const struct session_id *id,
                                      struct pool_now now, enum pool_session_state reason)
{
    pool_advance(p, &now);
    uint32_t n = session_find(&p->sessions, id);
    if (n == SESSION_NONE)
        return refuse(p, id);
    if (session_at(&p->sessions, n)->expires_ms > now.mono.ms) {
        session_end(p, n, reason);
        return POOL_SESSION_OK;
    }
    session_end(p, n, POOL_SESSION_EXPIRED);
    p->stats.refused[POOL_SESSION_EXPIRED]++;
    return POOL_SESSION_EXPIRED;
}

enum pool_session_state pool_return(struct pool *p, const struct session_id *id,
                                    struct pool_now now)
{
    return end_by(p, id, now, POOL_SESSION_RETURNED);
}

enum pool_session_state pool_end(struct pool *p, const struct session_id *id, struct pool_now now)
{
    return end_by(p, id, now, POOL_SESSION_ENDED);
}

void pool_hold(struct pool *p, struct mono_time until)
{
    p->hold = until;
}

bool pool_tick(struct pool *p, struct pool_now now, size_t budget)
{
    pool_advance(p, &now);
    sessions_sweep(p, now.mono, false, &budget);
    return budget == 0;
}

struct mono_time pool_next_event(struct pool *p, struct pool_now now)
{
    pool_advance(p, &now);
    struct mono_time next = wheel_next_ms(&p->sessions);
    int64_t change = p->catalog.next.s;
    if (change == INT64_MAX)
        return next;
    int64_t after_ms =
        change - now.wall.s > EVENT_MAX_MS / 1000 ? EVENT_MAX_MS : (change - now.wall.s) * 1000;
    struct mono_time turn = mono_after(now.mono, after_ms);
    return turn.ms < next.ms ? turn : next;
}

void pool_stats_get(const struct pool *p, struct pool_stats *out)
{
    *out = p->stats;
}
