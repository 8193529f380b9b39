#include "services/pool/core/catalog.h"

#include "services/pool/core/alloc.h"

#include <stdio.h>
#include <string.h>

#define BUCKETS_MIN 64

void catalog_init(struct catalog *c, const struct siphash_key *key)
{
    *c = (struct catalog){.key = *key, .at = WALL_MAX, .next = WALL_MIN};
    c->buckets_len = BUCKETS_MIN;
    c->buckets = alloc_zeroed(c->buckets_len, sizeof *c->buckets);
    memset(c->buckets, 0xff, c->buckets_len * sizeof *c->buckets);
}

static void license_free(struct license *l)
{
    if (!l)
        return;
    license_clear_borrows(l);
    free(l->borrows);
    free(l->records);
    free(l);
}

void catalog_fini(struct catalog *c)
{
    for (uint32_t i = 0; i < c->len; i++)
        license_free(c->licenses[i]);
    free(c->licenses);
    free(c->buckets);
    free(c->listed);
    free(c->all);
}

static uint32_t *bucket_of(const struct catalog *c, const char *uuid, const char *feature)
{
    char text[37 + LICENSE_FEATURE_MAX + 1];
    int len = snprintf(text, sizeof text, "%s %s", uuid, feature);
    size_t used = len < (int)sizeof text ? (size_t)len : sizeof text - 1;
    return &c->buckets[siphash(&c->key, text, used) & (c->buckets_len - 1)];
}

uint32_t catalog_find(const struct catalog *c, const char *uuid, const char *feature)
{
    uint32_t n = *bucket_of(c, uuid, feature);
    while (n != LICENSE_NONE) {
        const struct license *l = c->licenses[n];
        if (!strcmp(l->uuid, uuid) && !strcmp(l->feature, feature))
            break;
        n = l->hash_next;
    }
    return n;
}

static void hash_all(struct catalog *c)
{
    memset(c->buckets, 0xff, c->buckets_len * sizeof *c->buckets);
    for (uint32_t i = 0; i < c->len; i++) {
        struct license *l = c->licenses[i];
        if (!l)
            continue;
        uint32_t *bucket = bucket_of(c, l->uuid, l->feature);
        l->hash_next = *bucket;
        *bucket = i;
    }
}

uint32_t catalog_need(struct catalog *c, const char *uuid, const char *feature)
{
    uint32_t n = catalog_find(c, uuid, feature);
    if (n != LICENSE_NONE)
        return n;
    if (c->len == c->cap) {
        c->cap = c->cap ? c->cap * 2 : BUCKETS_MIN;
        c->licenses = alloc_resized(c->licenses, c->cap, sizeof(struct license *));
    }
    if (c->len == c->buckets_len) {
        c->buckets_len *= 2;
        c->buckets = alloc_resized(c->buckets, c->buckets_len, sizeof *c->buckets);
        hash_all(c);
    }
    struct license *l = alloc_zeroed(1, sizeof *l);
    snprintf(l->uuid, sizeof l->uuid, "%s", uuid);
    snprintf(l->feature, sizeof l->feature, "%s", feature);
    l->head = l->tail = l->cut = l->class_number = l->member = LICENSE_NONE;
    l->cut_seq = UINT64_MAX;
    l->last_terms.edition = EDITION_STEADY;
    uint32_t *bucket = bucket_of(c, l->uuid, l->feature);
    l->hash_next = *bucket;
    *bucket = c->len;
    c->licenses[c->len] = l;
    return c->len++;
}

// ---- Loading ----

// By identity, those of this server first, then the newest first.
static int record_compare(const void *x, const void *y)
{
    const struct pool_record *const *a = x, *const *b = y;
    int order = strcmp((*a)->fields->feature, (*b)->fields->feature);
    if (!order)
        order = strcmp((*a)->fields->uuid, (*b)->fields->uuid);
    if (!order)
        order = (*a)->foreign - (*b)->foreign;
    if (order)
        return order;
    if ((*a)->fields->issued.s != (*b)->fields->issued.s)
        return (*a)->fields->issued.s > (*b)->fields->issued.s ? -1 : 1;
    return memcmp((*b)->signature, (*a)->signature, 64);
}

static bool same_identity(const struct pool_record *a, const struct pool_record *b)
{
    return !strcmp(a->fields->uuid, b->fields->uuid) &&
           !strcmp(a->fields->feature, b->fields->feature);
}

// Gives the license the records of one identity, sorted. The same block found in two files is one
// record; foreign records do not count beside ones of this server.
static void license_take_records(struct license *l, const struct pool_record **sorted, size_t len)
{
    l->records = alloc_zeroed(len, sizeof *l->records);
    l->foreign = sorted[0]->foreign;
    const struct pool_record *last = NULL;
    for (size_t i = 0; i < len && sorted[i]->foreign == l->foreign; i++) {
        const struct license_fields *f = sorted[i]->fields;
        bool same_issue = last && last->fields->issued.s == f->issued.s;
        if (same_issue && !memcmp(last->signature, sorted[i]->signature, 64))
            continue;
        struct license_record *r = &l->records[l->records_len++];
        *r = (struct license_record){
            .terms = {f->version, f->edition, f->modules},
            .count = f->count,
            .tag = sorted[i]->tag,
            .issued = f->issued,
            .valid_from = f->valid_from,
            .valid_until = f->valid_until,
        };
        memcpy(r->version_text, f->version_text, sizeof r->version_text);
        if (same_issue)
            r->issue_tie = r[-1].issue_tie = true;
        last = sorted[i];
    }
}

// Frees what nothing refers to and closes no gaps: numbers are kept by sessions.
static void drop_unused(struct catalog *c)
{
    for (uint32_t i = 0; i < c->len; i++) {
        struct license *l = c->licenses[i];
        if (l && !l->records_len && !l->live && !l->borrows_len) {
            license_free(l);
            c->licenses[i] = NULL;
        }
    }
    while (c->len && !c->licenses[c->len - 1])
        c->len--;
    hash_all(c);
}

void catalog_load(struct catalog *c, const struct pool_record *records, size_t len)
{
    for (uint32_t i = 0; i < c->len; i++) {
        struct license *l = c->licenses[i];
        if (!l)
            continue;
        free(l->records);
        l->records = NULL;
        l->records_len = l->in_force = 0;
        l->foreign = false;
    }
    const struct pool_record **sorted = alloc_zeroed(len, sizeof(struct pool_record *));
    for (size_t i = 0; i < len; i++)
        sorted[i] = &records[i];
    qsort(sorted, len, sizeof(struct pool_record *), record_compare);
    c->all = alloc_resized(c->all, len, sizeof *c->all);
    c->listed = alloc_resized(c->listed, len, sizeof *c->listed);
    c->all_len = c->listed_len = 0;
    for (size_t i = 0, n; i < len; i += n) {
        for (n = 1; i + n < len && same_identity(sorted[i], sorted[i + n]);)
            n++;
        uint32_t at = catalog_need(c, sorted[i]->fields->uuid, sorted[i]->fields->feature);
        struct license *l = c->licenses[at];
        license_take_records(l, sorted + i, n);
        c->all[c->all_len++] = at;
        if (!l->foreign)
            c->listed[c->listed_len++] = at;
    }
    free(sorted);
    drop_unused(c);
    c->at = WALL_MAX;
}

// ---- What is in force ----

static bool same_terms(const struct match_terms *a, const struct match_terms *b)
{
    return !version_compare(a->version, b->version) && a->edition == b->edition &&
           a->modules == b->modules;
}

// The newest whose valid-from has come; one still ahead takes over at that moment.
static bool refresh_record(struct catalog *c, struct license *l, struct wall_time now)
{
    uint32_t before = l->in_force;
    enum pool_validity validity_before = l->validity;
    l->in_force = 0;
    for (uint32_t i = 0; i < l->records_len; i++) {
        catalog_note_change(c, l->records[i].valid_from, now);
        if (l->records[i].valid_from.s <= now.s) {
            l->in_force = i;
            break;
        }
    }
    const struct license_record *r = license_in_force(l);
    catalog_note_change(c, r->valid_until, now);
    if (r->valid_until.s <= now.s)
        l->validity = POOL_EXPIRED;
    else
        l->validity = r->valid_from.s > now.s ? POOL_NOT_YET_VALID : POOL_VALID;
    if (!l->ever_loaded || !same_terms(&l->last_terms, &r->terms)) {
        l->last_terms = r->terms;
        l->epoch++;
    }
    l->ever_loaded = true;
    memcpy(l->last_version_text, r->version_text, sizeof l->last_version_text);
    return l->in_force != before || l->validity != validity_before;
}

bool catalog_refresh(struct catalog *c, struct wall_time now)
{
    bool changed = false;
    c->at = now;
    c->next = WALL_MAX;
    for (uint32_t i = 0; i < c->len; i++) {
        struct license *l = c->licenses[i];
        if (!l)
            continue;
        license_refresh_borrows(c, l, now);
        if (!l->records_len)
            continue; // its sessions end anyway: no need to move the cut over all of them
        changed |= refresh_record(c, l, now);
        uint32_t count = l->foreign ? 0 : license_in_force(l)->count;
        l->capacity = count > l->borrowed ? count - l->borrowed : 0;
    }
    return changed;
}
