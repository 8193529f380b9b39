#include "common/core/license_block.h"

#include "common/core/borrow_block.h"
#include "common/core/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEGIN_LINE "-----BEGIN LICENSE-----"
#define END_LINE "-----END LICENSE-----"
#define PEM_BEGIN "-----BEGIN CERTIFICATE-----"
#define PEM_END "-----END CERTIFICATE-----"
#define SERVER_KEY "server="
#define SIGNATURE_KEY "signature:"

const char *license_refusal_name(enum license_refusal r)
{
    static const char *const names[LICENSE_REFUSALS] = {
        [LICENSE_OK] = "ok",
        [LICENSE_TOO_LARGE] = "too-large",
        [LICENSE_ENCODING] = "encoding",
        [LICENSE_SYNTAX] = "syntax",
        [LICENSE_FORMAT] = "format",
        [LICENSE_FIELD] = "field",
        [LICENSE_MUST] = "must",
        [LICENSE_UNSIGNED] = "unsigned",
        [LICENSE_UNKNOWN_KEY] = "unknown-key",
        [LICENSE_REVOKED_KEY] = "revoked-key",
        [LICENSE_SIGNATURE] = "signature",
        [LICENSE_SERVER_ID] = "server-id",
        [LICENSE_IO] = "io",
        [LICENSE_BORROWED] = "borrowed",
    };
    return names[r];
}

struct line {
    const char *p;
    size_t len; // without line end and trailing blanks
    const char *next;
};

struct parser {
    struct arena *arena;
    const char *p, *end;
    unsigned line; // number of the line that next_line gave last
    struct license_file *out;
    size_t blocks_cap, servers_cap, certificates_cap;
    struct license_block *expects_signature; // END was the last line
    bool borrow_expects_signature;
    struct error *err;
};

static enum license_refusal refuse(struct parser *s, enum license_refusal r, const char *what)
{
    error_set(s->err, "line %u: %s", s->line, what);
    return r;
}

// 1: a line; 0: the end; -1: too long.
static int next_line(struct parser *s, struct line *out)
{
    if (s->p == s->end)
        return 0;
    s->line++;
    const char *lf = memchr(s->p, '\n', (size_t)(s->end - s->p));
    const char *stop = lf ? lf : s->end;
    if (stop - s->p > LICENSE_LINE_MAX_BYTES)
        return -1;
    *out = (struct line){s->p, (size_t)(stop - s->p), lf ? lf + 1 : s->end};
    if (out->len && out->p[out->len - 1] == '\r') // CRLF; any other CR is a byte like others
        out->len--;
    while (out->len && (out->p[out->len - 1] == ' ' || out->p[out->len - 1] == '\t'))
        out->len--;
    s->p = out->next;
    return 1;
}

static bool line_is(const struct line *l, const char *text)
{
    return l->len == strlen(text) && !memcmp(l->p, text, l->len);
}

static bool line_begins(const struct line *l, const char *text)
{
    return l->len >= strlen(text) && !memcmp(l->p, text, strlen(text));
}

// Doubles an array in the arena when it is full.
static void *grow(struct arena *a, void *items, size_t len, size_t *cap, size_t item_bytes)
{
    if (len < *cap)
        return items;
    size_t bigger = *cap ? *cap * 2 : 4;
    void *copy = arena_alloc(a, bigger * item_bytes);
    if (len)
        memcpy(copy, items, len * item_bytes);
    *cap = bigger;
    return copy;
}

// Appends the line, normalised: without trailing blanks and CR, with LF.
static char *add_normalised(char *o, const struct line *l)
{
    memcpy(o, l->p, l->len);
    o[l->len] = '\n';
    return o + l->len + 1;
}

// Reads the lines of a block up to its END line. Writes the label and the normalised block.
static enum license_refusal read_block(struct parser *s, const char *end_line, const char *label,
                                       char **text, size_t *text_len, const char **end)
{
    // The end first, so that exactly as much is allocated as the block can need.
    const char *first = s->p;
    struct line l;
    int r;
    while ((r = next_line(s, &l)) > 0 && !line_is(&l, end_line)) {
        if (line_begins(&l, "-----"))
            return refuse(s, LICENSE_SYNTAX, "a block has no END line");
    }
    if (r < 0)
        return refuse(s, LICENSE_TOO_LARGE, "the line is longer than 4 KiB");
    if (r == 0)
        return refuse(s, LICENSE_SYNTAX, "the file ends inside a block");
    *end = l.p;
    size_t label_len = strlen(label);
    char *o = *text = arena_alloc(s->arena, label_len + (size_t)(l.p - first) + 1);
    memcpy(o, label, label_len);
    o += label_len;
    struct parser again = {.p = first, .end = *end};
    while (next_line(&again, &l) > 0)
        o = add_normalised(o, &l);
    *text_len = (size_t)(o - *text);
    *o = '\0';
    return LICENSE_OK;
}

static enum license_refusal parse_block(struct parser *s, const char *begin)
{
    if (s->out->blocks_len == LICENSE_BLOCKS_MAX)
        return refuse(s, LICENSE_TOO_LARGE, "more than 1,000 license blocks in one file");
    s->out->blocks =
        grow(s->arena, s->out->blocks, s->out->blocks_len, &s->blocks_cap, sizeof *s->out->blocks);
    struct license_block *b = &s->out->blocks[s->out->blocks_len++];
    *b = (struct license_block){
        .line = s->line, .raw = s->p, .whole = begin, .refusal = LICENSE_UNSIGNED};
    snprintf(b->reason, sizeof b->reason, "no signature line directly after END");
    const char *end;
    enum license_refusal r =
        read_block(s, END_LINE, LICENSE_SIGN_LABEL, &b->signed_text, &b->signed_len, &end);
    b->raw_len = r ? 0 : (size_t)(end - b->raw);
    s->expects_signature = b;
    return r;
}

static enum license_refusal parse_borrow(struct parser *s, const struct line *begin)
{
    struct license_borrow_block *b = &s->out->borrow;
    if (b->line)
        return refuse(s, LICENSE_SYNTAX, "more than one borrow block");
    *b = (struct license_borrow_block){
        .line = s->line, .raw = begin->p, .certificates_before = s->out->certificates_len};
    char *text;
    const char *end;
    enum license_refusal r = read_block(s, BORROW_END_LINE, "", &text, &b->block_len, &end);
    b->block = text;
    b->raw_len = (size_t)(s->p - b->raw);
    s->borrow_expects_signature = true;
    return r;
}

// "signature: server <base64>"
static void parse_borrow_signature(struct license_borrow_block *b, const struct line *l)
{
    static const char key[] = SIGNATURE_KEY " server ";
    size_t at = strlen(key);
    int n = line_begins(l, key)
                ? base64_decode(l->p + at, l->len - at, b->signature, sizeof b->signature)
                : 0;
    b->signature_len = n > 0 ? (size_t)n : 0;
    b->raw_len = (size_t)(l->next - b->raw);
}

// "signature: <key id> <base64>"
static void parse_signature(struct license_block *b, const struct line *l)
{
    const char *p = l->p + strlen(SIGNATURE_KEY);
    const char *end = l->p + l->len;
    while (p < end && *p == ' ')
        p++;
    uint8_t id[8];
    const char *blank = p < end ? memchr(p, ' ', (size_t)(end - p)) : NULL;
    size_t id_len = blank ? (size_t)(blank - p) : 0;
    bool good = id_len == 16 && hex_decode(p, id_len, id, sizeof id) == 8;
    if (good) {
        hex_encode(id, sizeof id, b->key_id);
        for (p = blank; p < end && *p == ' ';)
            p++;
        good = base64_decode(p, (size_t)(end - p), b->signature, sizeof b->signature) == 64;
    }
    b->refusal = good ? LICENSE_OK : LICENSE_SYNTAX;
    b->whole_len = (size_t)(l->next - b->whole);
    snprintf(b->reason, sizeof b->reason, "%s",
             good ? "" : "the signature line is not 'signature: <key id> <base64>'");
}

static enum license_refusal parse_certificate(struct parser *s, const struct line *begin)
{
    struct line l;
    int r;
    do {
        r = next_line(s, &l);
    } while (r > 0 && !line_is(&l, PEM_END));
    if (r < 0)
        return refuse(s, LICENSE_TOO_LARGE, "the line is longer than 4 KiB");
    if (r == 0)
        return refuse(s, LICENSE_SYNTAX, "the file ends inside a certificate");
    struct license_file *out = s->out;
    out->certificates = grow(s->arena, out->certificates, out->certificates_len,
                             &s->certificates_cap, sizeof *out->certificates);
    out->certificates[out->certificates_len++] =
        arena_strndup(s->arena, begin->p, (size_t)(l.next - begin->p));
    return LICENSE_OK;
}

static enum license_refusal parse_outside(struct parser *s, const struct line *l)
{
    struct license_block *signing = s->expects_signature;
    bool borrow_signing = s->borrow_expects_signature;
    s->expects_signature = NULL;
    s->borrow_expects_signature = false;
    if (line_is(l, BEGIN_LINE))
        return parse_block(s, l->p);
    if (line_is(l, BORROW_BEGIN_LINE))
        return parse_borrow(s, l);
    if (borrow_signing && line_begins(l, SIGNATURE_KEY)) {
        parse_borrow_signature(&s->out->borrow, l);
        return LICENSE_OK;
    }
    if (signing && line_begins(l, SIGNATURE_KEY)) {
        parse_signature(signing, l);
        return LICENSE_OK;
    }
    if (!l->len || *l->p == '#')
        return LICENSE_OK;
    if (line_is(l, PEM_BEGIN))
        return parse_certificate(s, l);
    if (line_begins(l, SERVER_KEY)) {
        struct license_file *out = s->out;
        size_t key = strlen(SERVER_KEY);
        out->servers =
            grow(s->arena, out->servers, out->servers_len, &s->servers_cap, sizeof *out->servers);
        out->servers[out->servers_len++] = arena_strndup(s->arena, l->p + key, l->len - key);
        return LICENSE_OK;
    }
    return refuse(s, LICENSE_SYNTAX,
                  "text outside a license block: only comments (#), server=, signature: directly "
                  "after END, and certificates may stand there");
}

enum license_refusal license_file_parse(struct arena *arena, const char *text, size_t len,
                                        struct license_file *out, struct error *err)
{
    *out = (struct license_file){0};
    struct parser s = {.arena = arena, .p = text, .end = text + len, .out = out, .err = err};
    if (len > LICENSE_FILE_MAX_BYTES)
        return refuse(&s, LICENSE_TOO_LARGE, "the file is larger than 1 MiB");
    if (!utf8_valid(text, len) || (len && memchr(text, 0, len)))
        return refuse(&s, LICENSE_ENCODING, "the file is not UTF-8 text");
    if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        s.p += 3;
    struct line l;
    int r;
    while ((r = next_line(&s, &l)) > 0) {
        enum license_refusal refusal = parse_outside(&s, &l);
        if (refusal)
            return refusal;
    }
    return r < 0 ? refuse(&s, LICENSE_TOO_LARGE, "the line is longer than 4 KiB") : LICENSE_OK;
}
