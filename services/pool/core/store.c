// Sessions over a restart: the store's format. Numbers are little-endian.
//   header  "BERTHSES", u32 version, u32 check sum
//   record  u32 size of the body, u32 check sum of size and body, body
//   body    u8 1, id, u64 seq, u32 since, u32 last seen, u8 + uuid, u8 + feature, facts   (begun)
//           u8 2, id, u8 reason                                                            (ended)
//           u8 3, boot ID of 36 characters                                                (origin)
//           u8 4, u8 mark                                                                   (mark)
// The check sum finds torn writes and bad disks, not forgers: who can write here runs pool.
#include "services/pool/core/alloc.h"
#include "services/pool/core/pool_internal.h"

#include <errno.h>
#include <string.h>

#define MAGIC "BERTHSES"
#define FORMAT 1
#define HEADER_BYTES 16
#define BODY_MAX_BYTES 8192 // seven strings of POOL_TEXT_MAX_BYTES, and some

enum { BODY_BEGUN = 1, BODY_ENDED = 2, BODY_ORIGIN = 3, BODY_MARK = 4 };

static const struct siphash_key sum_key = {{0x42657274682d7365ULL, 0x7373696f6e732d31ULL}};

static void put(struct buf *out, uint64_t v, size_t bytes)
{
    char little[8];
    for (size_t i = 0; i < sizeof little; i++)
        little[i] = (char)(v >> (8 * i) & 0xff);
    buf_add(out, little, bytes);
}

static uint64_t get(const char *p, size_t bytes)
{
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++)
        v |= (uint64_t)(uint8_t)p[i] << (8 * i);
    return v;
}

static void put_text(struct buf *out, const char *s)
{
    size_t len = strlen(s);
    put(out, len, 1);
    buf_add(out, s, len);
}

void pool_write_header(struct buf *out)
{
    size_t at = out->len;
    buf_add_str(out, MAGIC);
    put(out, FORMAT, 4);
    put(out, siphash(&sum_key, out->data + at, HEADER_BYTES - 4) & UINT32_MAX, 4);
}

static uint32_t body_sum(const char *body, size_t len)
{
    struct siphash_key key = sum_key;
    key.k[0] ^= len;
    return (uint32_t)siphash(&key, body, len);
}

// Leaves room for size and sum; record_finish fills it.
static size_t record_begin(struct buf *out)
{
    size_t at = out->len;
    put(out, 0, 8);
    return at;
}

static void record_finish(struct buf *out, size_t at)
{
    size_t len = out->len - at - 8;
    uint32_t sum = body_sum(out->data + at + 8, len);
    for (size_t i = 0; i < 4; i++) {
        out->data[at + i] = (char)(len >> (8 * i) & 0xff);
        out->data[at + 4 + i] = (char)(sum >> (8 * i) & 0xff);
    }
}

static void write_begun(const struct pool *p, uint32_t n, struct buf *out)
{
    const struct session *s = session_at(&p->sessions, n);
    const struct license *l = catalog_at(&p->catalog, s->license);
    size_t at = record_begin(out);
    put(out, BODY_BEGUN, 1);
    buf_add(out, s->id.bytes, SESSION_ID_BYTES);
    put(out, s->seq, 8);
    put(out, s->since_s, 4);
    put(out, s->last_seen_s, 4);
    put_text(out, l->uuid);
    put_text(out, l->feature);
    buf_add(out, s->facts, facts_size(s->facts));
    record_finish(out, at);
}

void pool_set_journal(struct pool *p, struct buf *journal)
{
    p->journal = journal;
}

void journal_begin(struct pool *p, uint32_t n)
{
    if (p->journal)
        write_begun(p, n, p->journal);
}

void journal_end(struct pool *p, const struct session_id *id, enum pool_session_state reason)
{
    if (!p->journal)
        return;
    size_t at = record_begin(p->journal);
    put(p->journal, BODY_ENDED, 1);
    buf_add(p->journal, id->bytes, SESSION_ID_BYTES);
    put(p->journal, reason, 1);
    record_finish(p->journal, at);
}

void pool_write_origin(struct buf *out, const char *boot_id)
{
    size_t at = record_begin(out);
    put(out, BODY_ORIGIN, 1);
    buf_add(out, boot_id, strnlen(boot_id, POOL_BOOT_ID_BYTES - 1));
    record_finish(out, at);
}

void pool_write_mark(struct buf *out, enum pool_mark mark)
{
    size_t at = record_begin(out);
    put(out, BODY_MARK, 1);
    put(out, mark, 1);
    record_finish(out, at);
}

bool pool_write_sessions(struct pool *p, uint64_t *cursor, size_t max, struct buf *out)
{
    for (size_t i = 0; i < max && *cursor < p->sessions.used; i++) {
        uint32_t n = (uint32_t)(*cursor)++;
        const struct session *s = session_at(&p->sessions, n);
        if (s->live && s->expires_ms > p->mono.ms)
            write_begun(p, n, out);
    }
    return *cursor < p->sessions.used;
}

// ---- Reading ----

struct reader {
    const char *p, *end;
    bool bad;
};

static const char *take(struct reader *r, size_t len)
{
    if (r->bad || (size_t)(r->end - r->p) < len) {
        r->bad = true;
        return NULL;
    }
    r->p += len;
    return r->p - len;
}

static uint64_t take_number(struct reader *r, size_t bytes)
{
    const char *at = take(r, bytes);
    return at ? get(at, bytes) : 0;
}

// A text of 1 to cap - 1 bytes.
static void take_text(struct reader *r, char *out, size_t cap)
{
    size_t len = (size_t)take_number(r, 1);
    const char *at = take(r, len);
    if (!at || len >= cap || !len || memchr(at, 0, len)) {
        r->bad = true;
        len = 0;
    }
    if (len)
        memcpy(out, at, len);
    out[len] = '\0';
}

static bool restore_begun(struct pool *p, struct reader *r, struct mono_time now)
{
    struct session_id id = {{0}};
    char uuid[37], feature[LICENSE_FEATURE_MAX + 1];
    const char *id_at = take(r, SESSION_ID_BYTES);
    uint64_t seq = take_number(r, 8);
    uint32_t since = (uint32_t)take_number(r, 4);
    uint32_t last_seen = (uint32_t)take_number(r, 4);
    take_text(r, uuid, sizeof uuid);
    take_text(r, feature, sizeof feature);
    size_t facts_len = r->bad ? 0 : (size_t)(r->end - r->p);
    if (r->bad || !facts_well_formed(r->p, facts_len) || seq >= UINT64_MAX - 1)
        return false;
    memcpy(id.bytes, id_at, SESSION_ID_BYTES);
    if (session_find(&p->sessions, &id) != SESSION_NONE)
        return true;
    struct facts f;
    facts_unpack(r->p, &f);
    uint32_t hash = f.instance_id ? key_hash(p, f.instance_id, feature) : 0;
    uint32_t n = session_add(&p->sessions, &id, f.instance_id != NULL, hash);
    struct session *s = session_at(&p->sessions, n);
    s->facts = alloc_checked(malloc(facts_len));
    memcpy(s->facts, r->p, facts_len);
    s->seq = seq;
    s->since_s = since;
    s->last_seen_s = last_seen;
    s->license = catalog_need(&p->catalog, uuid, feature);
    s->expires_ms = now.ms + p->settings.revalidation_interval_ms;
    wheel_file(&p->sessions, n);
    if (p->clients.slots)
        clients_add(&p->clients, client_hash(p, &f.client));
    if (seq >= p->next_seq)
        p->next_seq = seq + 1;
    return true;
}

static bool restore_ended(struct pool *p, struct reader *r)
{
    struct session_id id;
    const char *id_at = take(r, SESSION_ID_BYTES);
    uint64_t reason = take_number(r, 1);
    if (r->bad || r->p != r->end || reason <= POOL_SESSION_UNKNOWN || reason >= POOL_SESSION_STATES)
        return false;
    memcpy(id.bytes, id_at, SESSION_ID_BYTES);
    tombs_add(&p->tombs, &id, (enum pool_session_state)reason);
    uint32_t n = session_find(&p->sessions, &id);
    if (n == SESSION_NONE)
        return true;
    if (p->clients.slots) {
        struct facts f;
        facts_unpack(session_at(&p->sessions, n)->facts, &f);
        clients_drop(&p->clients, client_hash(p, &f.client));
    }
    session_remove(&p->sessions, n); // not linked to its license yet
    return true;
}

static bool restore_origin(struct reader *r, struct pool_store_info *info)
{
    size_t len = (size_t)(r->end - r->p);
    if (len >= sizeof info->boot_id)
        return false;
    memcpy(info->boot_id, r->p, len);
    info->boot_id[len] = '\0';
    return true;
}

static bool restore_mark(struct reader *r, struct pool_store_info *info)
{
    uint64_t mark = take_number(r, 1);
    if (r->bad || r->p != r->end || mark < POOL_MARK_CLOSED || mark > POOL_MARK_HELD)
        return false;
    info->closed = mark == POOL_MARK_CLOSED;
    if (!info->closed)
        info->holding = mark == POOL_MARK_HOLDING;
    return true;
}

static bool restore_body(struct pool *p, const char *body, size_t len, struct mono_time now,
                         struct pool_store_info *info)
{
    struct reader r = {body, body + len, false};
    info->closed = false;
    switch (take_number(&r, 1)) {
    case BODY_BEGUN:
        return restore_begun(p, &r, now);
    case BODY_ENDED:
        return restore_ended(p, &r);
    case BODY_ORIGIN:
        return restore_origin(&r, info);
    case BODY_MARK:
        return restore_mark(&r, info);
    default:
        return false;
    }
}

// The size of the record that stands here, or 0: it is not whole.
static size_t whole_record(const char *at, size_t len)
{
    size_t body = len < 8 ? 0 : (size_t)get(at, 4);
    if (!body || body > BODY_MAX_BYTES || body > len - 8 ||
        body_sum(at + 8, body) != get(at + 4, 4))
        return 0;
    return 8 + body;
}

// Too short for what its size says, and nothing whole behind: not a record whose size was altered.
static bool is_cut_off(const char *at, size_t len)
{
    if (len >= 8 && (get(at, 4) > BODY_MAX_BYTES || get(at, 4) <= len - 8))
        return false;
    for (size_t i = 1; i < len; i++) {
        if (whole_record(at + i, len - i))
            return false;
    }
    return true;
}

int pool_restore(struct pool *p, const char *data, size_t len, struct pool_now now,
                 struct pool_store_info *info, struct error *err)
{
    *info = (struct pool_store_info){.good_len = 0};
    if (len < HEADER_BYTES || memcmp(data, MAGIC, 8) ||
        get(data + 12, 4) != (siphash(&sum_key, data, HEADER_BYTES - 4) & UINT32_MAX)) {
        error_set(err, "this is no file of sessions, or its beginning is damaged");
        return -EBADMSG;
    }
    if (get(data + 8, 4) != FORMAT) {
        error_set(err, "the file of sessions has format %u; this version knows %d",
                  (unsigned)get(data + 8, 4), FORMAT);
        return -EBADMSG;
    }
    pool_advance(p, &now);
    size_t at = HEADER_BYTES, size;
    while ((size = whole_record(data + at, len - at)) &&
           restore_body(p, data + at + 8, size - 8, now.mono, info))
        at += size;
    info->good_len = at;
    info->cut_off = at < len && is_cut_off(data + at, len - at);
    seats_relink_all(p);
    return 0;
}
