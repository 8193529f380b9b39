// Shared by service.c (life), handlers.c (RPC) and report.c (metrics, health, log).
#pragma once

#include "common/clock.h"
#include "common/core/license_block.h"
#include "common/ops.h"
#include "common/rpc.h"
#include "common/verdict_watch.h"
#include "pool.pb-c.h"
#include "services/pool/core/pool.h"
#include "services/pool/grantor.h"
#include "services/pool/journal.h"
#include "services/pool/scan.h"
#include "services/pool/watcher.h"

#define METRIC(id, type, name, labels, help) M_##id,
enum pool_metric {
#include "services/pool/metrics.def"
    M_COUNT
};
#undef METRIC

struct pool_service {
    struct ops ops; // first: the listener's handlers expect it there
    Berth__Pool_Service rpc;
    struct loop *loop;
    struct metrics *metrics;
    struct pool_settings settings;
    struct pool *pool;
    struct rpc_server *server; // NULL until licenses were looked at
    struct rpc_metrics rpc_metrics;
    char *rpc_url;
    struct verdict_watch *verdict;
    struct grantor *grantor;
    struct http_server *listener;
    struct watcher *watcher;
    struct crypto_ca *vendor_ca;
    struct loop_timer tick;
    struct journal *journal;
    struct loop_timer settle;
    struct mono_time held_until; // sessions may be missing until then
    bool unwritable;             // the journal is
    bool loaded;                 // license files were looked at with the keys of a verdict
    bool borrows_known;          // borrow has told of them once
    bool open;                   // both: sessions may begin and go on
    // The texts of the licenses in the catalog, by their tag.
    struct license_text {
        struct license_set *set;
        const struct license_record *record;
    } * texts;
    size_t texts_len;
    struct borrow_pages *pages; // NULL: none are under way
    struct granted *granted;    // answered when the journal is written
    size_t granted_len, granted_cap;
    uint8_t keys_digest[32];
    unsigned refused[LICENSE_REFUSALS];
};

static inline struct pool_now service_now(const struct pool_service *s)
{
    return (struct pool_now){clock_wall(), loop_now(s->loop)};
}

// handlers.c: s->rpc, ready for rpc_server_new.
void handlers_init(struct pool_service *s);

// request.c: RequestSession
void request_session(Berth__Pool_Service *rpc, const Berth__RequestSessionCall *input,
                     Berth__RequestSessionReply_Closure closure, void *data);
// Answers the requests of this turn that got a session; `written`: it is on disk.
void requests_answer(struct pool_service *s, bool written);

// borrows.c: what borrow calls
void set_borrows(Berth__Pool_Service *rpc, const Berth__SetBorrowsCall *input,
                 Berth__Empty_Closure closure, void *data);
void add_borrow(Berth__Pool_Service *rpc, const Berth__AddBorrowCall *input,
                Berth__Empty_Closure closure, void *data);
void find_license(Berth__Pool_Service *rpc, const Berth__FindLicenseCall *input,
                  Berth__FindLicenseReply_Closure closure, void *data);
void borrows_fini(struct pool_service *s);
void license_texts_clear(struct pool_service *s);

// proof.c. False: answered already. id (may be NULL): of the session that it will be for.
bool proof_possible(struct pool_service *s, const struct session_id *id, void *data);
bool proof_make(struct pool_service *s, const struct session_id *id, ProtobufCBinaryData nonce,
                uint32_t within_s, struct grantor_grant *out, void *data);

// service.c: what may begin once borrow has said which seats are borrowed
void borrows_known(struct pool_service *s);

// Shared by the files of handlers.
#define NONCE_MIN_BYTES 16
#define NONCE_MAX_BYTES 64
struct ref {
    Berth__LicenseRef message;
    char modules[12];
};
void ref_fill(struct ref *r, const struct pool_license_ref *from);
char *text(const char *s); // protobuf-c has no const; nothing here writes to them
struct pool_service *service_of(Berth__Pool_Service *rpc);
void fail_session(void *data, enum pool_session_state state);                // 1003
void fail_unavailable(void *data, const char *service, const char *message); // 1011
void fail_field(void *data, const char *field, const char *reason);
enum { CALLER_CLIENTS = 1, CALLER_BORROW = 2 }; // who speaks for clients or administrators; borrow
bool may_call(void *data, unsigned callers);    // false: answered already
bool may_issue(struct pool_service *s, bool request, void *data); // request: is counted as denied

// report.c
extern const struct metric_def pool_metric_defs[];
void report_collect(void *ctx);
size_t report_conditions(void *ctx, struct ops_condition *out, size_t max);
// Logs what the new catalog is.
void report_catalog(struct pool_service *s);
