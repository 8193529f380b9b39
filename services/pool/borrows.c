// What berth-borrow asks and says: licenses with their text, and which seats are borrowed. Its
// ledger is the truth; pool knows what it was told.
#include "services/pool/internal.h"

#include "common/core/arena.h"
#include "common/log.h"

#include <stdlib.h>
#include <string.h>

#define NOT_FOUND 1008
#define BORROWS_MAX 100000 // as the ledger

// The pages of a SetBorrows that has not ended.
struct borrow_pages {
    struct arena *arena;
    struct pool_borrow_entry *entries;
    size_t len, cap;
};

static void pages_free(struct pool_service *s)
{
    struct borrow_pages *pages = s->pages;
    s->pages = NULL;
    if (!pages)
        return;
    arena_free(&pages->arena);
    free(pages->entries);
    free(pages);
}

static void pages_begin(struct pool_service *s)
{
    pages_free(s);
    s->pages = calloc(1, sizeof *s->pages);
    if (!s->pages)
        abort();
    s->pages->arena = arena_new(16384);
}

static const char *copy(struct arena *a, const char *text)
{
    return arena_strndup(a, text, strlen(text));
}

static void pages_add(struct borrow_pages *p, const struct pool_borrow_entry *e)
{
    if (p->len == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 64;
        p->entries = reallocarray(p->entries, p->cap, sizeof *p->entries);
        if (!p->entries)
            abort();
    }
    p->entries[p->len++] = (struct pool_borrow_entry){
        .uuid = copy(p->arena, e->uuid),
        .feature = copy(p->arena, e->feature),
        .borrow = {e->borrow.from, e->borrow.until, copy(p->arena, e->borrow.host_id)},
        .borrow_id = copy(p->arena, e->borrow_id),
    };
}

// False: answered already.
static bool read_seat(const Berth__BorrowedSeat *seat, struct pool_borrow_entry *out, void *data)
{
    const struct {
        const char *text;
        size_t max;
    } texts[] = {{seat->borrow_id, 64},
                 {seat->uuid, 36},
                 {seat->feature, LICENSE_FEATURE_MAX},
                 {seat->period->host_id, 64}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (!*texts[i].text || strlen(texts[i].text) > texts[i].max) {
            fail_field(data, "borrows", "a text of a borrow is empty or too long");
            return false;
        }
    }
    *out = (struct pool_borrow_entry){
        .uuid = seat->uuid,
        .feature = seat->feature,
        .borrow = {{seat->period->valid_from_s},
                   {seat->period->valid_until_s},
                   seat->period->host_id},
        .borrow_id = seat->borrow_id,
    };
    if (out->borrow.from.s < out->borrow.until.s)
        return true;
    fail_field(data, "borrows", "a period does not end after it begins");
    return false;
}

void set_borrows(Berth__Pool_Service *rpc, const Berth__SetBorrowsCall *input,
                 Berth__Empty_Closure closure, void *data)
{
    struct pool_service *s = service_of(rpc);
    if (!may_call(data, CALLER_BORROW))
        return;
    if (input->first)
        pages_begin(s);
    if (!s->pages) {
        fail_field(data, "first", "no page came before this one");
        return;
    }
    for (size_t i = 0; i < input->n_borrows; i++) {
        struct pool_borrow_entry e;
        if (!read_seat(input->borrows[i], &e, data))
            return;
        if (s->pages->len == BORROWS_MAX) {
            fail_field(data, "borrows", "more than 100,000");
            return;
        }
        pages_add(s->pages, &e);
    }
    if (input->last) {
        pool_set_borrows(s->pool, s->pages->entries, s->pages->len, service_now(s));
        log_info("borrows.known", LOG_I("borrows", (int64_t)s->pages->len));
        pages_free(s);
        borrows_known(s);
    }
    Berth__Empty reply = BERTH__EMPTY__INIT;
    closure(&reply, data);
}

void add_borrow(Berth__Pool_Service *rpc, const Berth__AddBorrowCall *input,
                Berth__Empty_Closure closure, void *data)
{
    struct pool_service *s = service_of(rpc);
    struct pool_borrow_entry e;
    if (!may_call(data, CALLER_BORROW) || !read_seat(input->borrow, &e, data))
        return;
    if (s->pages) {
        // They replace all there is when their last one comes, and must not lose this one.
        fail_field(data, "borrow", "the pages of SetBorrows have not ended");
        return;
    }
    pool_add_borrow(s->pool, &e, service_now(s));
    Berth__Empty reply = BERTH__EMPTY__INIT;
    closure(&reply, data);
}

// ---- FindLicense ----

void license_texts_clear(struct pool_service *s)
{
    for (size_t i = 0; i < s->texts_len; i++)
        license_set_free(&s->texts[i].set);
    free(s->texts);
    s->texts = NULL;
    s->texts_len = 0;
}

void find_license(Berth__Pool_Service *rpc, const Berth__FindLicenseCall *input,
                  Berth__FindLicenseReply_Closure closure, void *data)
{
    struct pool_service *s = service_of(rpc);
    struct pool_license l;
    if (!may_call(data, CALLER_BORROW))
        return;
    if (!pool_license_find(s->pool, input->uuid, input->feature, service_now(s), &l)) {
        Berth__Error e = BERTH__ERROR__INIT;
        e.code = NOT_FOUND;
        e.message = text("this server has no such license; ListLicensesV1 lists those that it has");
        rpc_fail(data, &e);
        return;
    }
    const struct license_record *r = s->texts[l.tag].record;
    struct ref ref;
    ref_fill(&ref, &l.ref);
    Berth__FindLicenseReply reply = BERTH__FIND_LICENSE_REPLY__INIT;
    reply.license = &ref.message;
    reply.count = l.count;
    reply.has_valid_from_s = l.valid_from.s != WALL_MIN.s;
    reply.valid_from_s = l.valid_from.s;
    reply.has_valid_until_s = l.valid_until.s != WALL_MAX.s;
    reply.valid_until_s = l.valid_until.s;
    reply.block = (ProtobufCBinaryData){r->whole_len, (uint8_t *)(uintptr_t)r->whole};
    reply.certificate = text(r->certificate);
    closure(&reply, data);
}

void borrows_fini(struct pool_service *s)
{
    pages_free(s);
    license_texts_clear(s);
}
