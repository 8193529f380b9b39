#include "services/borrow/core/ledger.h"

#include "common/core/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT_LINE "berth-ledger 1"

static int text_compare(const struct ledger_text *a, const struct ledger_text *b)
{
    if (a->p == b->p && a->len == b->len)
        return 0;
    int r = memcmp(a->p, b->p, a->len < b->len ? a->len : b->len);
    return r ? r : (a->len > b->len) - (a->len < b->len);
}

static int compare_texts(const void *a, const void *b)
{
    return text_compare(a, b);
}

static bool text_same(struct ledger_text a, struct ledger_text b)
{
    return a.p == b.p && a.len == b.len;
}

static int compare_records(const void *a, const void *b)
{
    const struct ledger_record *x = a, *y = b;
    return strcmp(x->fields->borrow_id, y->fields->borrow_id);
}

static void sort_records(struct ledger *ledger)
{
    struct ledger_record *r = ledger->records;
    size_t i = 1;
    while (i < ledger->records_len && compare_records(&r[i - 1], &r[i]) < 0)
        i++;
    if (i < ledger->records_len) // they come sorted nearly always
        qsort(r, ledger->records_len, sizeof *r, compare_records);
}

// The texts that records share, sorted, each once. To be freed. Neighbours mostly share them.
static struct ledger_text *collect_parts(const struct ledger *ledger, size_t *len)
{
    size_t n = 0;
    const struct ledger_record *r = ledger->records;
    struct ledger_text *parts = malloc((2 * ledger->records_len + 1) * sizeof *parts);
    if (!parts)
        abort();
    for (size_t i = 0; i < ledger->records_len; i++) {
        if (!i || !text_same(r[i].vendor, r[i - 1].vendor))
            parts[n++] = r[i].vendor;
        if (!i || !text_same(r[i].certificate, r[i - 1].certificate))
            parts[n++] = r[i].certificate;
    }
    qsort(parts, n, sizeof *parts, compare_texts);
    *len = 0;
    for (size_t i = 0; i < n; i++) {
        if (!*len || text_compare(&parts[*len - 1], &parts[i]))
            parts[(*len)++] = parts[i];
    }
    return parts;
}

static size_t part_index(const struct ledger_text *parts, size_t len, struct ledger_text part)
{
    const struct ledger_text *found = bsearch(&part, parts, len, sizeof *parts, compare_texts);
    return (size_t)(found - parts);
}

static void add_part(struct buf *out, struct ledger_text text)
{
    buf_printf(out, "part %zu\n", text.len);
    buf_add(out, text.p, text.len);
    buf_add_char(out, '\n');
}

// The heading of a record is that of the one before in most cases, and then it is not made again.
static void add_records(const struct ledger *ledger, const struct ledger_text *parts,
                        size_t parts_len, struct buf *out)
{
    struct buf heading BUF_CLEANUP = {0};
    for (size_t i = 0; i < ledger->records_len; i++) {
        const struct ledger_record *r = &ledger->records[i], *last = i ? r - 1 : NULL;
        if (!last || r->own.len != last->own.len || !text_same(r->vendor, last->vendor) ||
            !text_same(r->certificate, last->certificate)) {
            buf_clear(&heading);
            buf_printf(&heading, "vendor: %zu\ncertificate: %zu\nown %zu\n",
                       part_index(parts, parts_len, r->vendor),
                       part_index(parts, parts_len, r->certificate), r->own.len);
        }
        buf_add(out, heading.data, heading.len);
        buf_add(out, r->own.p, r->own.len);
        buf_add_char(out, '\n');
    }
}

void ledger_encode(struct ledger *ledger, struct buf *out)
{
    char hex[65];
    size_t parts_len, bytes = 1024;
    sort_records(ledger);
    struct ledger_text *parts = collect_parts(ledger, &parts_len);
    for (size_t i = 0; i < parts_len; i++)
        bytes += parts[i].len + 32;
    for (size_t i = 0; i < ledger->records_len; i++)
        bytes += ledger->records[i].own.len + 64;
    buf_reserve(out, bytes);
    hex_encode(ledger->previous, sizeof ledger->previous, hex);
    buf_printf(out, FORMAT_LINE "\nserver-id: %s\nepoch: %s\nsequence: %" PRIu64 "\n",
               ledger->server_id, ledger->epoch, ledger->sequence);
    buf_printf(out, "previous: %s\nparts: %zu\nborrows: %zu\n", hex, parts_len,
               ledger->records_len);
    for (size_t i = 0; i < parts_len; i++)
        add_part(out, parts[i]);
    add_records(ledger, parts, parts_len, out);
    free(parts);
}

struct reader {
    const char *start, *p, *end;
    bool bad;
};

// The rest of a line that begins with the name and one blank.
static struct ledger_text read_value(struct reader *r, const char *name)
{
    size_t name_len = strlen(name), left = (size_t)(r->end - r->p);
    const char *lf = r->bad || !left ? NULL : memchr(r->p, '\n', left);
    size_t line = lf ? (size_t)(lf - r->p) : 0;
    if (!lf || line <= name_len + 1 || memcmp(r->p, name, name_len) || r->p[name_len] != ' ') {
        r->bad = true;
        return (struct ledger_text){"", 0};
    }
    struct ledger_text value = {r->p + name_len + 1, line - name_len - 1};
    r->p = lf + 1;
    return value;
}

static void read_word(struct reader *r, const char *name, char *out, size_t cap)
{
    struct ledger_text value = read_value(r, name);
    r->bad |= value.len >= cap;
    for (size_t i = 0; i < value.len; i++)
        r->bad |= value.p[i] < '!' || value.p[i] > '~';
    size_t len = r->bad ? 0 : value.len;
    memcpy(out, value.p, len);
    out[len] = '\0';
}

static uint64_t read_number(struct reader *r, const char *name, uint64_t max)
{
    uint64_t n = 0;
    struct ledger_text value = read_value(r, name);
    if (!r->bad && parse_u64(value.p, value.len, 0, max, &n))
        r->bad = true;
    return r->bad ? 0 : n;
}

static void read_hex(struct reader *r, const char *name, uint8_t *out, size_t bytes)
{
    struct ledger_text value = read_value(r, name);
    if (!r->bad && hex_decode(value.p, value.len, out, bytes) != (int)bytes)
        r->bad = true;
}

static struct ledger_text read_text(struct reader *r, const char *name)
{
    size_t len = (size_t)read_number(r, name, LEDGER_PART_BYTES_MAX);
    if (r->bad || (size_t)(r->end - r->p) <= len || r->p[len] != '\n') {
        r->bad = true;
        return (struct ledger_text){"", 0};
    }
    struct ledger_text text = {r->p, len};
    r->p += len + 1;
    return text;
}

static struct ledger_text read_part(struct reader *r, const char *name,
                                    const struct ledger_text *parts, size_t len)
{
    uint64_t i = len ? read_number(r, name, len - 1) : 0;
    r->bad |= !len;
    return r->bad ? (struct ledger_text){"", 0} : parts[i];
}

static void read_epoch(struct reader *r, char out[static LEDGER_EPOCH_LEN + 1])
{
    uint8_t id[LEDGER_EPOCH_LEN / 2];
    read_word(r, "epoch:", out, LEDGER_EPOCH_LEN + 1);
    if (!r->bad && hex_decode(out, strlen(out), id, sizeof id) != (int)sizeof id)
        r->bad = true;
    if (!r->bad)
        hex_encode(id, sizeof id, out); // in the one spelling
}

// What the borrow is stands in its own text; the signature in it is not looked at here.
static void read_fields(struct reader *r, struct ledger_text own, struct borrow_fields *out)
{
    static const char begin[] = BORROW_BEGIN_LINE "\n", end[] = BORROW_END_LINE "\n";
    const char *block = own.p + strlen(begin);
    bool begins = !r->bad && own.len > strlen(begin) && !memcmp(own.p, begin, strlen(begin));
    const char *stop = begins ? memmem(block, own.len - strlen(begin), end, strlen(end)) : NULL;
    if (!stop || borrow_block_parse(block, (size_t)(stop - block), out, NULL))
        r->bad = true;
}

static void read_record(struct reader *r, struct ledger_record *record,
                        struct borrow_fields *fields, const struct ledger_text *parts,
                        size_t parts_len)
{
    record->vendor = read_part(r, "vendor:", parts, parts_len);
    record->certificate = read_part(r, "certificate:", parts, parts_len);
    record->own = read_text(r, "own");
    read_fields(r, record->own, fields);
    record->fields = fields;
}

// Counts are bounded by the length of the text before anything is allocated for them.
static void read_body(struct reader *r, struct ledger *out, struct arena *arena)
{
    uint64_t most = (uint64_t)(r->end - r->start) / 8;
    uint64_t records_max = most < LEDGER_RECORDS_MAX ? most : LEDGER_RECORDS_MAX;
    size_t parts_len = (size_t)read_number(r, "parts:", 2 * records_max);
    size_t n = (size_t)read_number(r, "borrows:", records_max);
    if (r->bad)
        return;
    struct ledger_text *parts = arena_alloc(arena, (parts_len + 1) * sizeof *parts);
    out->records = arena_zalloc(arena, (n + 1) * sizeof *out->records);
    struct borrow_fields *fields = arena_alloc(arena, (n + 1) * sizeof *fields);
    for (size_t i = 0; i < parts_len && !r->bad; i++)
        parts[i] = read_text(r, "part");
    for (size_t i = 0; i < n && !r->bad; i++) {
        read_record(r, &out->records[i], &fields[i], parts, parts_len);
        r->bad |= i && compare_records(&out->records[i - 1], &out->records[i]) >= 0;
    }
    out->records_len = n;
    r->bad |= r->p != r->end;
}

int ledger_decode(struct ledger *out, struct arena *arena, const char *text, size_t len,
                  struct error *err)
{
    struct reader r = {text, text, text + len, false};
    *out = (struct ledger){0};
    if (len > LEDGER_BYTES_MAX)
        return error_set(err, "the ledger is larger than %d bytes", LEDGER_BYTES_MAX), -EINVAL;
    if (len <= strlen(FORMAT_LINE) || memcmp(text, FORMAT_LINE "\n", strlen(FORMAT_LINE) + 1))
        return error_set(err, "the first line is not '" FORMAT_LINE "'"), -EINVAL;
    r.p += strlen(FORMAT_LINE) + 1;
    read_word(&r, "server-id:", out->server_id, sizeof out->server_id);
    read_epoch(&r, out->epoch);
    out->sequence = read_number(&r, "sequence:", UINT64_MAX);
    read_hex(&r, "previous:", out->previous, sizeof out->previous);
    read_body(&r, out, arena);
    if (r.bad) {
        error_set(err, "it is malformed at or after byte %zu", (size_t)(r.p - text));
        return -EINVAL;
    }
    struct buf again BUF_CLEANUP = {0};
    ledger_encode(out, &again);
    if (again.len != len || memcmp(again.data, text, len))
        return error_set(err, "it is not written in the one way that a ledger is written"), -EINVAL;
    return 0;
}
