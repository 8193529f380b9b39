#include "tools/berth-vendor/restore_scan.h"

#include <stdlib.h>
#include <string.h>

struct pieces {
    struct ledger_text *items;
    size_t len, cap;
};

struct restore_scan {
    struct arena *arena;
    struct pieces licenses; // a block with its signature, with and without a certificate behind it
    struct pieces borrows;  // likewise
    struct pieces certificates;
};

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

struct restore_scan *restore_scan_new(void)
{
    struct restore_scan *s = must(calloc(1, sizeof *s));
    s->arena = arena_new(65536);
    return s;
}

void restore_scan_free(struct restore_scan **scan)
{
    struct restore_scan *s = *scan;
    if (!s)
        return;
    free(s->licenses.items);
    free(s->borrows.items);
    free(s->certificates.items);
    arena_free(&s->arena);
    free(s);
    *scan = NULL;
}

static void piece_add(struct pieces *p, const char *begin, const char *end)
{
    if (p->len == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 64;
        p->items = must(realloc(p->items, p->cap * sizeof *p->items));
    }
    p->items[p->len++] = (struct ledger_text){begin, (size_t)(end - begin)};
}

static int compare_pieces(const void *a, const void *b)
{
    const struct ledger_text *x = a, *y = b;
    int r = memcmp(x->p, y->p, x->len < y->len ? x->len : y->len);
    return r ? r : (x->len > y->len) - (x->len < y->len);
}

// Sorted, each once.
static void pieces_unify(struct pieces *p)
{
    size_t kept = 0;
    if (p->len)
        qsort(p->items, p->len, sizeof *p->items, compare_pieces);
    for (size_t i = 0; i < p->len; i++) {
        if (!kept || compare_pieces(&p->items[kept - 1], &p->items[i]))
            p->items[kept++] = p->items[i];
    }
    p->len = kept;
}

// ---- finding ----

struct cursor {
    const char *p, *end;
};

static bool begins(const struct cursor *c, const char *with)
{
    size_t len = strlen(with);
    return (size_t)(c->end - c->p) >= len && !memcmp(c->p, with, len);
}

static void skip_line(struct cursor *c)
{
    const char *lf = memchr(c->p, '\n', (size_t)(c->end - c->p));
    c->p = lf ? lf + 1 : c->end;
}

// Past the line that ends the block, and a signature line if there must be one. False: damaged.
static bool skip_block(struct cursor *c, const char *end_line, bool is_signed)
{
    for (skip_line(c); c->p < c->end && !begins(c, end_line); skip_line(c)) {
        if (begins(c, "-----BEGIN"))
            return false;
    }
    if (c->p == c->end)
        return false;
    skip_line(c);
    if (is_signed && !begins(c, "signature:"))
        return false;
    if (is_signed)
        skip_line(c);
    return true;
}

void restore_scan_add(struct restore_scan *s, const char *text, size_t len)
{
    static const char certificate[] = "-----BEGIN CERTIFICATE-----";
    struct cursor c = {text, text + len};
    while (c.p < c.end) {
        const char *begin = c.p;
        if (begins(&c, "-----BEGIN LICENSE-----")) {
            if (!skip_block(&c, "-----END LICENSE-----", true))
                continue;
            piece_add(&s->licenses, begin, c.p);
            struct cursor key = c; // that of the license key, or already that of the server
            if (begins(&key, certificate) && skip_block(&key, "-----END CERTIFICATE-----", false))
                piece_add(&s->licenses, begin, key.p);
        } else if (begins(&c, BORROW_BEGIN_LINE)) {
            if (skip_block(&c, BORROW_END_LINE, true))
                piece_add(&s->borrows, begin, c.p);
        } else if (begins(&c, certificate)) {
            if (skip_block(&c, "-----END CERTIFICATE-----", false))
                piece_add(&s->certificates, begin, c.p);
        } else {
            skip_line(&c);
        }
    }
}

// ---- proving ----

static bool contains(struct ledger_text text, const char *word)
{
    return memmem(text.p, text.len, word, strlen(word)) != NULL;
}

// What the borrow block claims, to pick the licenses that are worth trying.
static bool read_claim(struct ledger_text borrow, struct borrow_fields *out, const uint8_t **sig,
                       size_t *sig_len, struct arena *arena)
{
    struct license_file file;
    if (license_file_parse(arena, borrow.p, borrow.len, &file, NULL) || !file.borrow.signature_len)
        return false;
    uint8_t *copy = arena_alloc(arena, file.borrow.signature_len);
    memcpy(copy, file.borrow.signature, file.borrow.signature_len);
    *sig = copy;
    *sig_len = file.borrow.signature_len;
    return !borrow_block_parse(file.borrow.block, file.borrow.block_len, out, NULL);
}

static bool prove(const struct restore_scan *s, const struct crypto_ca *ca,
                  const struct borrow_fields *claim, struct ledger_record *record,
                  struct borrow_file *file)
{
    struct buf text BUF_CLEANUP = {0};
    for (size_t l = 0; l < s->licenses.len; l++) {
        struct ledger_text license = s->licenses.items[l];
        if (license.len > LEDGER_PART_BYTES_MAX || !contains(license, claim->uuid) ||
            !contains(license, claim->feature))
            continue;
        for (size_t i = 0; i < s->certificates.len; i++) {
            struct ledger_text certificate = s->certificates.items[i];
            buf_clear(&text);
            buf_add(&text, license.p, license.len);
            buf_add(&text, record->own.p, record->own.len);
            buf_add(&text, certificate.p, certificate.len);
            if (borrow_file_verify(file, text.data, text.len, ca, NULL))
                continue;
            record->vendor = license;
            record->certificate = certificate;
            return true;
        }
    }
    return false;
}

static int compare_records(const void *a, const void *b)
{
    const struct ledger_record *x = a, *y = b;
    return strcmp(x->fields->borrow_id, y->fields->borrow_id);
}

// Written as a server writes it, whatever an editor has made of it.
static struct ledger_text write_own(const struct borrow_fields *claim, const uint8_t *sig,
                                    size_t sig_len, struct arena *arena)
{
    struct buf own BUF_CLEANUP = {0};
    borrow_block_write_signed(claim, sig, sig_len, &own);
    return (struct ledger_text){arena_strndup(arena, own.data, own.len), own.len};
}

void restore_scan_prove(struct restore_scan *s, const struct crypto_ca *vendor_ca,
                        const char *server_id, struct wall_time now, struct restored *out)
{
    *out = (struct restored){0};
    pieces_unify(&s->licenses);
    pieces_unify(&s->borrows);
    pieces_unify(&s->certificates);
    out->records = arena_zalloc(s->arena, (s->borrows.len + 1) * sizeof *out->records);
    for (size_t i = 0; i < s->borrows.len; i++) {
        struct borrow_fields *claim = arena_zalloc(s->arena, sizeof *claim);
        struct ledger_record record = {.fields = claim};
        struct borrow_file file;
        const uint8_t *sig;
        size_t sig_len;
        bool good = read_claim(s->borrows.items[i], claim, &sig, &sig_len, s->arena);
        if (good)
            record.own = write_own(claim, sig, sig_len, s->arena);
        if (!good || !prove(s, vendor_ca, claim, &record, &file))
            out->unproven++;
        else if (strcmp(file.server.server_id, server_id))
            out->foreign++;
        else if (claim->valid_until.s <= now.s)
            out->ended++;
        else
            out->records[out->records_len++] = record;
    }
    // One borrow may have been found twice, with line ends of two kinds.
    size_t kept = 0;
    if (out->records_len)
        qsort(out->records, out->records_len, sizeof *out->records, compare_records);
    for (size_t i = 0; i < out->records_len; i++) {
        if (!kept || compare_records(&out->records[kept - 1], &out->records[i]))
            out->records[kept++] = out->records[i];
    }
    out->records_len = kept;
}
