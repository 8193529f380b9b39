#include "services/pool/core/classes.h"

#include "services/pool/core/alloc.h"

#include <string.h>

void classes_init(struct classes *c, const struct siphash_key *key)
{
    *c = (struct classes){.key = *key};
}

static void plan_clear(struct plan *plan)
{
    free(plan->classes);
    free(plan->ranks);
    free(plan->misses);
    bitset_fini(&plan->free);
    *plan = (struct plan){0};
}

void classes_fini(struct classes *c)
{
    for (uint32_t i = 0; i < PLANS_MAX; i++)
        plan_clear(&c->plans[i]);
    for (uint32_t i = 0; i < c->len; i++) {
        bitset_fini(&c->items[i].free);
        free(c->items[i].positions);
    }
    free(c->items);
    free(c->members);
    c->items = NULL;
    c->members = NULL;
    c->len = 0;
}

struct member {
    struct license *license;
    uint32_t number;
};

static int member_compare(const void *x, const void *y)
{
    const struct license *a = ((const struct member *)x)->license;
    const struct license *b = ((const struct member *)y)->license;
    const struct license_record *ra = license_in_force(a), *rb = license_in_force(b);
    int order = strcmp(a->feature, b->feature);
    if (!order)
        order = version_compare(ra->terms.version, rb->terms.version);
    if (!order)
        order = (int)ra->terms.edition - (int)rb->terms.edition;
    if (!order)
        order = ra->terms.modules - rb->terms.modules;
    if (!order && ra->valid_until.s != rb->valid_until.s)
        order = ra->valid_until.s < rb->valid_until.s ? -1 : 1;
    return order ? order : strcmp(a->uuid, b->uuid);
}

static bool same_class(const struct license_class *k, const struct license *l)
{
    const struct match_terms *t = &license_in_force(l)->terms;
    return !strcmp(k->feature, l->feature) && k->terms.edition == t->edition &&
           k->terms.modules == t->modules && !version_compare(k->terms.version, t->version);
}

static void class_begin(struct classes *c, const struct license *l, uint32_t first)
{
    struct license_class *k = &c->items[c->len++];
    *k = (struct license_class){
        .feature = l->feature, .terms = license_in_force(l)->terms, .first = first};
    if (c->len == 1 || strcmp(k[-1].feature, k->feature))
        k->version_rank = 0;
    else
        k->version_rank =
            k[-1].version_rank + (version_compare(k[-1].terms.version, k->terms.version) != 0);
}

// The valid licenses in the order of `members`; on the heap.
static struct member *sort_members(const struct catalog *catalog, uint32_t *len)
{
    struct member *sorted = alloc_zeroed(catalog->listed_len, sizeof *sorted);
    *len = 0;
    for (uint32_t i = 0; i < catalog->len; i++) {
        struct license *l = catalog_at(catalog, i);
        if (!l)
            continue;
        l->class_number = l->member = LICENSE_NONE;
        if (l->records_len && !l->foreign && l->validity == POOL_VALID)
            sorted[(*len)++] = (struct member){l, i};
    }
    qsort(sorted, *len, sizeof *sorted, member_compare);
    return sorted;
}

void classes_build(struct classes *c, struct catalog *catalog)
{
    classes_fini(c);
    uint32_t members_len;
    struct member *sorted = sort_members(catalog, &members_len);
    c->members = alloc_zeroed(members_len, sizeof *c->members);
    c->items = alloc_zeroed(members_len, sizeof *c->items);
    for (uint32_t i = 0; i < members_len; i++) {
        struct license *l = sorted[i].license;
        c->members[i] = sorted[i].number;
        if (!c->len || !same_class(&c->items[c->len - 1], l))
            class_begin(c, l, i);
        l->class_number = c->len - 1;
        l->member = c->items[c->len - 1].len++;
    }
    free(sorted);
    for (uint32_t i = 0; i < c->len; i++)
        bitset_init(&c->items[i].free, c->items[i].len);
}

void classes_set_free(struct classes *c, const struct license *l, bool free_seat)
{
    if (l->class_number == LICENSE_NONE)
        return;
    struct license_class *k = &c->items[l->class_number];
    if (bitset_has(&k->free, l->member) == free_seat)
        return;
    bitset_put(&k->free, l->member, free_seat);
    bool before = k->free_len > 0;
    k->free_len += free_seat ? 1 : -1u;
    bool after = k->free_len > 0;
    if (before == after)
        return;
    for (uint64_t plans = k->plans; plans; plans &= plans - 1) {
        int p = __builtin_ctzll(plans);
        bitset_put(&c->plans[p].free, k->positions[p], after);
    }
}

// ---- Plans ----

static uint64_t request_hash(const struct classes *c, const char *feature,
                             const struct match_terms *terms)
{
    char text[sizeof terms->version.n + 3 + LICENSE_FEATURE_MAX];
    memcpy(text, terms->version.n, sizeof terms->version.n);
    char *o = text + sizeof terms->version.n;
    *o++ = (char)terms->edition;
    *o++ = (char)(terms->modules & 0xff);
    *o++ = (char)(terms->modules >> 8);
    size_t len = strnlen(feature, LICENSE_FEATURE_MAX);
    memcpy(o, feature, len);
    uint64_t hash = siphash(&c->key, text, (size_t)(o - text) + len);
    return hash ? hash : 1;
}

static bool plan_is_for(const struct plan *plan, const char *feature,
                        const struct match_terms *terms)
{
    return plan->terms.edition == terms->edition && plan->terms.modules == terms->modules &&
           !version_compare(plan->terms.version, terms->version) &&
           !strncmp(plan->feature, feature, LICENSE_FEATURE_MAX);
}

static int u64_compare(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

static uint32_t feature_begin(const struct classes *c, const char *feature)
{
    uint32_t low = 0, high = c->len;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (strcmp(c->items[mid].feature, feature) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

// Rank and version in the upper half, the class in the lower: 8 and 24 bits; 16 million versions of
// one feature are more than files can hold.
static void plan_order(struct classes *c, struct plan *plan)
{
    uint32_t begin = feature_begin(c, plan->feature), end = begin;
    while (end < c->len && !strcmp(c->items[end].feature, plan->feature))
        end++;
    uint64_t *keys = alloc_zeroed(end - begin, sizeof *keys);
    for (uint32_t i = begin; i < end; i++) {
        const struct license_class *k = &c->items[i];
        if (match_terms_check(&k->terms, &plan->terms) != MATCH_SERVES)
            continue;
        uint64_t rank = (uint64_t)match_rank(&k->terms, &plan->terms) << 24 | k->version_rank;
        keys[plan->len++] = rank << 32 | i;
    }
    qsort(keys, plan->len, sizeof *keys, u64_compare);
    plan->classes = alloc_zeroed(plan->len, sizeof *plan->classes);
    plan->ranks = alloc_zeroed(plan->len, sizeof *plan->ranks);
    for (uint32_t i = 0; i < plan->len; i++) {
        plan->classes[i] = (uint32_t)keys[i];
        plan->ranks[i] = (uint32_t)(keys[i] >> 32);
    }
    free(keys);
}

static void plan_make(struct classes *c, uint32_t number, const char *feature,
                      const struct match_terms *terms)
{
    struct plan *plan = &c->plans[number];
    uint64_t bit = 1ULL << number;
    for (uint32_t i = 0; i < plan->len; i++)
        c->items[plan->classes[i]].plans &= ~bit;
    plan_clear(plan);
    memcpy(plan->feature, feature, strnlen(feature, LICENSE_FEATURE_MAX));
    plan->terms = *terms;
    plan_order(c, plan);
    bitset_init(&plan->free, plan->len);
    for (uint32_t i = 0; i < plan->len; i++) {
        struct license_class *k = &c->items[plan->classes[i]];
        if (!k->positions)
            k->positions = alloc_zeroed(PLANS_MAX, sizeof *k->positions);
        k->plans |= bit;
        k->positions[number] = i;
        if (k->free_len)
            bitset_put(&plan->free, i, true);
    }
}

struct plan *classes_plan(struct classes *c, const char *feature, const struct match_terms *terms)
{
    if (strnlen(feature, LICENSE_FEATURE_MAX + 1) > LICENSE_FEATURE_MAX)
        feature = ""; // no license has either
    uint64_t hash = request_hash(c, feature, terms);
    uint32_t oldest = 0;
    c->uses++;
    for (uint32_t i = 0; i < PLANS_MAX; i++) {
        struct plan *plan = &c->plans[i];
        if (plan->hash == hash && plan_is_for(plan, feature, terms)) {
            plan->last_use = c->uses;
            return plan;
        }
        if (plan->last_use < c->plans[oldest].last_use)
            oldest = i;
    }
    plan_make(c, oldest, feature, terms);
    c->plans[oldest].hash = hash;
    c->plans[oldest].last_use = c->uses;
    return &c->plans[oldest];
}

static uint32_t class_first_free(const struct classes *c, uint32_t class_number)
{
    const struct license_class *k = &c->items[class_number];
    return c->members[k->first + bitset_next(&k->free, 0)];
}

uint32_t plan_choose(const struct classes *c, const struct catalog *catalog,
                     const struct plan *plan)
{
    uint32_t at = bitset_next(&plan->free, 0);
    if (at == BITSET_NONE)
        return LICENSE_NONE;
    uint32_t best = class_first_free(c, plan->classes[at]);
    const struct license *b = catalog_at(catalog, best);
    uint32_t rank = plan->ranks[at];
    while ((at = bitset_next(&plan->free, at + 1)) != BITSET_NONE && plan->ranks[at] == rank) {
        uint32_t other = class_first_free(c, plan->classes[at]);
        const struct license *o = catalog_at(catalog, other);
        int64_t until = license_in_force(o)->valid_until.s,
                least = license_in_force(b)->valid_until.s;
        if (until < least || (until == least && strcmp(o->uuid, b->uuid) < 0)) {
            best = other;
            b = o;
        }
    }
    return best;
}
