#include "services/borrow/core/book.h"

#include <stdlib.h>
#include <string.h>

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

// ---- shared texts ----

static uint64_t text_hash(struct ledger_text text)
{
    uint64_t h = 0xcbf29ce484222325; // FNV-1a
    for (size_t i = 0; i < text.len; i++)
        h = (h ^ (uint8_t)text.p[i]) * 0x100000001b3;
    return h;
}

static struct book_part *part_take(struct book *b, struct ledger_text text)
{
    uint64_t hash = text_hash(text);
    for (size_t i = b->parts_len; i-- > 0;) {
        struct book_part *p = b->parts[i];
        if (p->hash == hash && p->len == text.len && !memcmp(p->text, text.p, text.len))
            return p->refs++, p;
    }
    if (b->parts_len == b->parts_cap) {
        b->parts_cap = b->parts_cap ? 2 * b->parts_cap : 16;
        b->parts = must(realloc(b->parts, b->parts_cap * sizeof *b->parts));
    }
    struct book_part *p = must(malloc(sizeof *p + text.len));
    *p = (struct book_part){.refs = 1, .len = text.len, .hash = hash};
    memcpy(p->text, text.p, text.len);
    b->parts[b->parts_len++] = p;
    return p;
}

static void part_drop(struct book *b, struct book_part *part)
{
    if (!part || --part->refs)
        return;
    for (size_t i = 0; i < b->parts_len; i++) {
        if (b->parts[i] == part) {
            b->parts[i] = b->parts[--b->parts_len];
            break;
        }
    }
    free(part);
}

// ---- entries ----

static void entry_free(struct book *b, struct book_entry *e)
{
    part_drop(b, e->vendor);
    part_drop(b, e->certificate);
    free(e->own);
    free(e);
}

void book_fini(struct book *b)
{
    for (size_t i = 0; i < b->len; i++)
        entry_free(b, b->entries[i]);
    free(b->entries);
    free(b->parts);
    *b = (struct book){0};
}

// Where the borrow ID is, or belongs.
static size_t place_of(const struct book *b, const char *borrow_id)
{
    size_t low = 0, high = b->len;
    // A ledger comes sorted.
    if (high && strcmp(b->entries[high - 1]->fields.borrow_id, borrow_id) < 0)
        return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(b->entries[middle]->fields.borrow_id, borrow_id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct book_entry *book_add(struct book *b, const struct borrow_fields *fields)
{
    if (b->len == b->cap) {
        b->cap = b->cap ? 2 * b->cap : 64;
        b->entries = must(realloc(b->entries, b->cap * sizeof *b->entries));
    }
    size_t at = place_of(b, fields->borrow_id);
    memmove(&b->entries[at + 1], &b->entries[at], (b->len - at) * sizeof *b->entries);
    struct book_entry *e = b->entries[at] = must(calloc(1, sizeof *e));
    b->len++;
    b->unwritten++;
    e->fields = *fields;
    return e;
}

void book_written(struct book *b, struct book_entry *e, uint64_t sequence)
{
    b->unwritten -= !e->since;
    e->since = sequence;
}

void book_remove(struct book *b, struct book_entry *entry)
{
    size_t at = place_of(b, entry->fields.borrow_id);
    memmove(&b->entries[at], &b->entries[at + 1], (b->len - at - 1) * sizeof *b->entries);
    b->len--;
    b->unwritten -= !entry->since;
    entry_free(b, entry);
}

void book_set_texts(struct book *b, struct book_entry *e, struct ledger_text vendor,
                    struct ledger_text own, struct ledger_text certificate)
{
    e->vendor = part_take(b, vendor);
    e->certificate = part_take(b, certificate);
    e->own = must(malloc(own.len + 1));
    memcpy(e->own, own.p, own.len);
    e->own_len = own.len;
}

void book_load(struct book *b, const struct ledger *ledger)
{
    for (size_t i = 0; i < ledger->records_len; i++) {
        const struct ledger_record *r = &ledger->records[i];
        struct book_entry *e = book_add(b, r->fields);
        book_set_texts(b, e, r->vendor, r->own, r->certificate);
        book_written(b, e, ledger->sequence);
        e->granted = true;
    }
}

void book_expire(struct book *b, struct wall_time now)
{
    size_t kept = 0;
    for (size_t i = 0; i < b->len; i++) {
        struct book_entry *e = b->entries[i];
        if (e->fields.valid_until.s <= now.s && e->since && !e->waiters)
            entry_free(b, e);
        else
            b->entries[kept++] = e;
    }
    b->len = kept;
}

struct book_entry *book_find(const struct book *b, const char *borrow_id)
{
    size_t at = place_of(b, borrow_id);
    return at < b->len && !strcmp(b->entries[at]->fields.borrow_id, borrow_id) ? b->entries[at]
                                                                               : NULL;
}

struct book_entry *book_same(const struct book *b, const struct rules_ask *ask,
                             struct wall_time now)
{
    for (size_t i = 0; i < b->len; i++) {
        const struct borrow_fields *f = &b->entries[i]->fields;
        if (f->valid_until.s != ask->until.s) // quicker than what follows
            continue;
        const struct rules_held held = {f->uuid, f->feature, f->host_id,
                                        book_period(b->entries[i])};
        if (now.s < f->valid_until.s && rules_same(ask, &held, now))
            return b->entries[i];
    }
    return NULL;
}

bool book_fits(const struct book *b, const char *uuid, const char *feature, struct interval period,
               uint32_t count, struct interval *conflict)
{
    struct interval_set others = {0};
    for (size_t i = 0; i < b->len; i++) {
        const struct borrow_fields *f = &b->entries[i]->fields;
        struct interval other = book_period(b->entries[i]);
        if (interval_overlaps(other, period) && !strcmp(f->uuid, uuid) &&
            !strcmp(f->feature, feature))
            interval_set_add(&others, other);
    }
    // Most are far from full.
    bool fits = others.len < count || interval_set_fits(&others, period, count, conflict);
    interval_set_fini(&others);
    return fits;
}

size_t book_active(const struct book *b, struct wall_time now)
{
    size_t n = 0;
    for (size_t i = 0; i < b->len; i++)
        n += b->entries[i]->since && now.s < b->entries[i]->fields.valid_until.s;
    return n;
}

void book_record(const struct book_entry *e, struct ledger_record *out)
{
    *out = (struct ledger_record){.fields = &e->fields,
                                  .vendor = {e->vendor->text, e->vendor->len},
                                  .own = {e->own, e->own_len},
                                  .certificate = {e->certificate->text, e->certificate->len}};
}
