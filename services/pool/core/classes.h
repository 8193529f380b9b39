// Finding the license for a request without looking at all of them. Licenses that are valid now are
// grouped into classes of the same feature and terms; a plan is the order of preference of the
// classes for one kind of request. Free seats are kept as bits, so that full ones cost nothing.
#pragma once

#include "services/pool/core/bitset.h"
#include "services/pool/core/catalog.h"

#define PLANS_MAX 64 // kinds of request that are remembered; a bit of `plans` each

struct license_class {
    const char *feature; // the catalog's
    struct match_terms terms;
    uint32_t version_rank; // order of its version among those of the feature
    uint32_t first, len;   // in `members`
    struct bitset free;    // members with a free seat
    uint32_t free_len;
    uint64_t plans;      // those that it is part of
    uint32_t *positions; // by plan; NULL until there is one
};

struct miss {
    uint32_t license;
    enum match_reason reason;
    module_set missing;
};

struct plan {
    uint64_t hash; // 0: unused
    uint64_t last_use;
    char feature[LICENSE_FEATURE_MAX + 1];
    struct match_terms terms;
    uint32_t len;
    uint32_t *classes;   // the best first
    uint32_t *ranks;     // equal for classes between which expiry and UUID decide
    struct bitset free;  // positions of classes with a free seat
    struct miss *misses; // the nearest that do not serve; NULL until asked for
    size_t misses_len;
};

struct classes {
    struct license_class *items; // by feature, version, edition, modules
    uint32_t len;
    uint32_t *members; // licenses; within a class by expiry, then UUID
    struct plan plans[PLANS_MAX];
    uint64_t uses;
    struct siphash_key key;
};

void classes_init(struct classes *c, const struct siphash_key *key);
void classes_fini(struct classes *c);
// Groups the valid licenses anew. No seat is free until classes_set_free says so. Plans are
// dropped.
void classes_build(struct classes *c, struct catalog *catalog);
void classes_set_free(struct classes *c, const struct license *l, bool free_seat);

// The plan for this kind of request; it holds until the next call of this or of classes_build.
struct plan *classes_plan(struct classes *c, const char *feature, const struct match_terms *terms);
// The license with a free seat that is to be taken, or LICENSE_NONE.
uint32_t plan_choose(const struct classes *c, const struct catalog *catalog,
                     const struct plan *plan);
// Why not: those that would serve first, then the nearest misses.
void plan_explain(const struct classes *c, const struct catalog *catalog, struct plan *plan,
                  struct pool_result *out, enum match_reason *first);
