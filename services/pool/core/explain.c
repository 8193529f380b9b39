// Why a request was refused, license by license (licenses.md, "Matching").
#include "services/pool/core/alloc.h"
#include "services/pool/core/classes.h"

#include <string.h>

static struct miss license_miss(const struct license *l, uint32_t number, const struct plan *plan)
{
    const struct license_record *r = license_in_force(l);
    struct miss m = {.license = number};
    if (l->foreign)
        m.reason = MATCH_SERVER_ID;
    else if (strcmp(l->feature, plan->feature))
        m.reason = MATCH_FEATURE;
    else if (l->validity == POOL_EXPIRED)
        m.reason = MATCH_EXPIRED;
    else if (l->validity == POOL_NOT_YET_VALID)
        m.reason = MATCH_NOT_YET_VALID;
    else
        m.reason = match_terms_check(&r->terms, &plan->terms);
    if (m.reason == MATCH_MODULES_MISSING)
        m.missing = plan->terms.modules & (module_set)~r->terms.modules;
    return m;
}

// Less is nearer: the requested feature first; within it the later the reason stands in the list of
// reasons, the more has already fitted; then the fewer modules are missing.
static unsigned miss_distance(const struct license *l, const struct miss *m,
                              const struct plan *plan)
{
    unsigned other_feature = strcmp(l->feature, plan->feature) != 0;
    unsigned missing = modules_count(m->missing);
    return other_feature << 16 | (unsigned)(MATCH_REASONS - m->reason) << 8 | missing;
}

static void find_misses(const struct catalog *catalog, struct plan *plan)
{
    unsigned distances[POOL_CONSIDERED_MAX];
    plan->misses = alloc_zeroed(POOL_CONSIDERED_MAX, sizeof *plan->misses);
    for (uint32_t i = 0; i < catalog->all_len; i++) {
        const struct license *l = catalog_at(catalog, catalog->all[i]);
        struct miss m = license_miss(l, catalog->all[i], plan);
        if (m.reason == MATCH_SERVES)
            continue;
        unsigned distance = miss_distance(l, &m, plan);
        size_t at = plan->misses_len;
        while (at && distance < distances[at - 1])
            at--;
        if (at == POOL_CONSIDERED_MAX)
            continue;
        if (plan->misses_len < POOL_CONSIDERED_MAX)
            plan->misses_len++;
        size_t behind = plan->misses_len - 1 - at;
        memmove(&plan->misses[at + 1], &plan->misses[at], behind * sizeof *plan->misses);
        memmove(&distances[at + 1], &distances[at], behind * sizeof *distances);
        plan->misses[at] = m;
        distances[at] = distance;
    }
}

static void add(struct pool_result *out, const struct license *l, const struct miss *m)
{
    struct pool_considered *e = &out->considered[out->considered_len++];
    e->uuid = l->uuid;
    e->feature = l->feature;
    match_reason_format(m->reason, m->missing, e->reason);
}

void plan_explain(const struct classes *c, const struct catalog *catalog, struct plan *plan,
                  struct pool_result *out, enum match_reason *first)
{
    *first = MATCH_SERVES;
    out->considered_len = 0;
    for (uint32_t i = 0; i < plan->len; i++) {
        const struct license_class *k = &c->items[plan->classes[i]];
        for (uint32_t m = 0; m < k->len && out->considered_len < POOL_CONSIDERED_MAX; m++) {
            const struct license *l = catalog_at(catalog, c->members[k->first + m]);
            enum match_reason reason = l->capacity ? MATCH_ALL_IN_USE : MATCH_ALL_BORROWED;
            if (!out->considered_len)
                *first = reason;
            add(out, l, &(struct miss){.reason = reason});
        }
        if (out->considered_len == POOL_CONSIDERED_MAX)
            break;
    }
    if (!plan->misses)
        find_misses(catalog, plan);
    for (size_t i = 0; i < plan->misses_len && out->considered_len < POOL_CONSIDERED_MAX; i++) {
        if (!out->considered_len)
            *first = plan->misses[i].reason;
        add(out, catalog_at(catalog, plan->misses[i].license), &plan->misses[i]);
    }
    out->omitted = catalog->all_len - (uint32_t)out->considered_len;
}
