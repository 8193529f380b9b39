// The calls of proto/pool.proto: checks what came, asks the core, answers in the words of api.md.
#include "services/pool/internal.h"

#include "common/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INVALID_PARAMS (-32602)
#define SESSION_INVALID 1003
#define UNAUTHORIZED 1009
#define UNAVAILABLE 1011
#define SESSIONS_PAGE 200 // at most some 400 KiB

char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

struct pool_service *service_of(Berth__Pool_Service *rpc)
{
    return (struct pool_service *)(void *)((char *)rpc - offsetof(struct pool_service, rpc));
}

void fail_field(void *data, const char *field, const char *reason)
{
    Berth__Error e = BERTH__ERROR__INIT;
    char message[256];
    snprintf(message, sizeof message, "%s: %s", field, reason);
    e.code = INVALID_PARAMS;
    e.field = text(field);
    e.reason = text(reason);
    e.message = message;
    rpc_fail(data, &e);
}

void fail_session(void *data, enum pool_session_state state)
{
    static const char *const messages[POOL_SESSION_STATES] = {
        [POOL_SESSION_UNKNOWN] = "there is no such session: request a new one",
        [POOL_SESSION_EXPIRED] = "the session was not revalidated in time: request a new one",
        [POOL_SESSION_RETURNED] = "the session was returned: request a new one",
        [POOL_SESSION_ENDED] = "an administrator ended the session: request a new one",
        [POOL_SESSION_DISPLACED] =
            "the license has no seat for this session any more, since it was borrowed or has fewer "
            "seats now: request a new one",
        [POOL_SESSION_LICENSE_EXPIRED] =
            "the license of this session has expired: request a new one, and ask for a new license "
            "file if that fails",
        [POOL_SESSION_LICENSE_WITHDRAWN] =
            "the license of this session was withdrawn from the server: request a new one",
    };
    Berth__Error e = BERTH__ERROR__INIT;
    e.code = SESSION_INVALID;
    e.reason = text(pool_session_state_name(state));
    e.message = text(messages[state]);
    rpc_fail(data, &e);
}

void fail_unavailable(void *data, const char *service, const char *message)
{
    Berth__Error e = BERTH__ERROR__INIT;
    e.code = UNAVAILABLE;
    e.service = text(service);
    e.message = text(message);
    rpc_fail(data, &e);
}

bool may_call(void *data, unsigned callers)
{
    Berth__Role role = rpc_caller_role(data);
    unsigned caller = role == BERTH__ROLE__GATEWAY || role == BERTH__ROLE__TOOL ? CALLER_CLIENTS
                      : role == BERTH__ROLE__BORROW                             ? CALLER_BORROW
                                                                                : 0;
    if (caller & callers)
        return true;
    Berth__Error e = BERTH__ERROR__INIT;
    e.code = UNAUTHORIZED;
    e.message = text("this process may not call this of berth-pool");
    rpc_fail(data, &e);
    return false;
}

// Without the borrows it is not known which seats there are. Once they were told they hold, also
// when borrow is away.
bool may_issue(struct pool_service *s, bool request, void *data)
{
    Berth__Error e = BERTH__ERROR__INIT;
    bool licensed = verdict_watch_may_issue(s->verdict, &e);
    if (licensed && s->open)
        return true;
    if (request)
        metric_add(s->metrics, M_DENIALS, 1,
                   licensed                ? "borrow"
                   : e.code == UNAVAILABLE ? "trust"
                                           : "not-licensed");
    if (licensed)
        fail_unavailable(
            data, "borrow",
            "the server does not know yet which seats are borrowed, and gives out none "
            "until it does: try again in a few seconds; if it stays so, berth-borrow "
            "does not run, and its log says why");
    else
        rpc_fail(data, &e);
    return false;
}

void ref_fill(struct ref *r, const struct pool_license_ref *from)
{
    berth__license_ref__init(&r->message);
    r->message.feature = text(from->feature);
    r->message.uuid = text(from->uuid);
    r->message.version = text(from->version);
    r->message.edition = text(edition_name(from->edition));
    r->message.modules = modules_format(from->modules, r->modules);
}

// ---- ListLicenses ----

static void fill_borrows(struct pool_service *s, struct arena *a, size_t i, size_t len,
                         Berth__LicenseInfo *info)
{
    info->n_borrowed = len;
    info->borrowed = arena_alloc(a, (len + 1) * sizeof *info->borrowed);
    for (size_t k = 0; k < len; k++) {
        struct pool_borrow b;
        pool_license_borrow(s->pool, i, k, &b);
        Berth__Interval *interval = arena_alloc(a, sizeof *interval);
        berth__interval__init(interval);
        interval->valid_from_s = b.from.s;
        interval->valid_until_s = b.until.s;
        interval->host_id = text(b.host_id);
        info->borrowed[k] = interval;
    }
}

static Berth__LicenseInfo *license_info(struct pool_service *s, struct arena *a, size_t i)
{
    struct pool_license l;
    pool_license_at(s->pool, i, &l);
    Berth__LicenseInfo *info = arena_alloc(a, sizeof *info);
    struct ref *ref = arena_alloc(a, sizeof *ref);
    berth__license_info__init(info);
    ref_fill(ref, &l.ref);
    info->license = &ref->message;
    info->count = l.count;
    info->available = l.available;
    info->has_valid_from_s = l.valid_from.s != WALL_MIN.s;
    info->valid_from_s = l.valid_from.s;
    info->has_valid_until_s = l.valid_until.s != WALL_MAX.s;
    info->valid_until_s = l.valid_until.s;
    fill_borrows(s, a, i, l.borrows_len, info);
    return info;
}

static void list_licenses(Berth__Pool_Service *rpc, const Berth__Empty *input,
                          Berth__ListLicensesReply_Closure closure, void *data)
{
    struct pool_service *s = service_of(rpc);
    (void)input;
    if (!may_call(data, CALLER_CLIENTS | CALLER_BORROW))
        return;
    struct arena *a = arena_new(16384);
    Berth__ListLicensesReply reply = BERTH__LIST_LICENSES_REPLY__INIT;
    reply.n_licenses = pool_license_count(s->pool, service_now(s));
    reply.licenses = arena_alloc(a, (reply.n_licenses + 1) * sizeof *reply.licenses);
    for (size_t i = 0; i < reply.n_licenses; i++)
        reply.licenses[i] = license_info(s, a, i);
    closure(&reply, data);
    arena_free(&a);
}

// ---- one session ----

static void revalidate_session(Berth__Pool_Service *rpc, const Berth__RevalidateSessionCall *input,
                               Berth__RevalidateSessionReply_Closure closure, void *data)
{
    struct pool_service *s = service_of(rpc);
    if (!may_call(data, CALLER_CLIENTS) || !may_issue(s, false, data))
        return;
    if (input->has_nonce &&
        (input->nonce.len < NONCE_MIN_BYTES || input->nonce.len > NONCE_MAX_BYTES)) {
        fail_field(data, "nonce", "16 to 64 bytes");
        return;
    }
    struct session_id id;
    uint32_t within_s = 0;
    enum pool_session_state state = POOL_SESSION_UNKNOWN;
    bool known = !session_id_parse(input->session_id, strlen(input->session_id), &id);
    if (input->has_nonce && !proof_possible(s, known ? &id : NULL, data))
        return;
    if (known)
        state = pool_revalidate(s->pool, &id, service_now(s), &within_s);
    if (state) {
        fail_session(data, state);
        return;
    }
    struct grantor_grant grant = {.message = BERTH__GRANT__INIT};
    Berth__RevalidateSessionReply reply = BERTH__REVALIDATE_SESSION_REPLY__INIT;
    reply.revalidate_within_s = within_s;
    reply.grant = input->has_nonce ? &grant.message : NULL;
    if (!input->has_nonce || proof_make(s, &id, input->nonce, within_s, &grant, data))
        closure(&reply, data);
    grantor_clear(&grant);
}

static void answer_ended(enum pool_session_state state, Berth__Empty_Closure closure, void *data)
{
    if (state) {
        fail_session(data, state);
        return;
    }
    Berth__Empty reply = BERTH__EMPTY__INIT;
    closure(&reply, data);
}

// Needs no verdict: a seat may always be given back.
static void return_session(Berth__Pool_Service *rpc, const Berth__ReturnSessionCall *input,
                           Berth__Empty_Closure closure, void *data)
{
    struct pool_service *s = service_of(rpc);
    if (!may_call(data, CALLER_CLIENTS))
        return;
    struct session_id id;
    enum pool_session_state state = POOL_SESSION_UNKNOWN;
    if (!session_id_parse(input->session_id, strlen(input->session_id), &id))
        state = pool_return(s->pool, &id, service_now(s));
    answer_ended(state, closure, data);
}

static void end_session(Berth__Pool_Service *rpc, const Berth__EndSessionCall *input,
                        Berth__Empty_Closure closure, void *data)
{
    struct pool_service *s = service_of(rpc);
    if (!may_call(data, CALLER_CLIENTS))
        return;
    struct session_id id;
    enum pool_session_state state = POOL_SESSION_UNKNOWN;
    if (!session_id_parse(input->session_id, strlen(input->session_id), &id))
        state = pool_end(s->pool, &id, service_now(s));
    if (!state)
        log_info("session.ended", LOG_ID("session", input->session_id),
                 LOG_S("msg", "ended by an administrator"));
    answer_ended(state, closure, data);
}

// ---- ListSessions ----

static char *copy(struct arena *a, const char *s)
{
    return s ? arena_strndup(a, s, strlen(s)) : NULL;
}

static Berth__SessionInfo *session_info(struct arena *a, const struct pool_session *from)
{
    Berth__SessionInfo *info = arena_alloc(a, sizeof *info);
    Berth__ClientInfo *client = arena_alloc(a, sizeof *client);
    struct ref *ref = arena_alloc(a, sizeof *ref);
    berth__session_info__init(info);
    berth__client_info__init(client);
    const struct pool_license_ref license = {
        copy(a, from->license.feature), copy(a, from->license.uuid), copy(a, from->license.version),
        from->license.edition, from->license.modules};
    ref_fill(ref, &license);
    client->hostname = copy(a, from->client.hostname);
    client->host_id = copy(a, from->client.host_id);
    client->user = copy(a, from->client.user);
    client->application = copy(a, from->client.application);
    client->pid = copy(a, from->client.pid);
    client->address = copy(a, from->client.address);
    info->session_id = arena_alloc(a, SESSION_ID_TEXT_BYTES);
    session_id_format(&from->id, info->session_id);
    info->license = &ref->message;
    info->client = client;
    info->since_s = from->since.s;
    info->last_seen_s = from->last_seen.s;
    info->expires_s = from->expires.s;
    return info;
}

static void list_sessions(Berth__Pool_Service *rpc, const Berth__ListSessionsCall *input,
                          Berth__ListSessionsReply_Closure closure, void *data)
{
    struct pool_service *s = service_of(rpc);
    if (!may_call(data, CALLER_CLIENTS))
        return;
    uint64_t cursor = 0;
    if (input->has_cursor && input->cursor.len == sizeof cursor)
        memcpy(&cursor, input->cursor.data, sizeof cursor);
    struct arena *a = arena_new(16384);
    Berth__SessionInfo *page[SESSIONS_PAGE];
    Berth__ListSessionsReply reply = BERTH__LIST_SESSIONS_REPLY__INIT;
    reply.sessions = page;
    struct pool_session session;
    while (reply.n_sessions < SESSIONS_PAGE &&
           pool_session_next(s->pool, &cursor, service_now(s), &session))
        page[reply.n_sessions++] = session_info(a, &session);
    reply.has_cursor = reply.n_sessions == SESSIONS_PAGE;
    reply.cursor.data = (uint8_t *)&cursor;
    reply.cursor.len = sizeof cursor;
    closure(&reply, data);
    arena_free(&a);
}

void handlers_init(struct pool_service *s)
{
    // An RPC without a handler of its name here does not compile.
    s->rpc = (Berth__Pool_Service)BERTH__POOL__INIT();
}
