// RequestSession: who gets a session is told so when it is on disk, together with the others of the
// same turn.
#include "services/pool/internal.h"

#include "common/crypto.h"
#include "common/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_LICENSE 1001
#define NO_SEAT 1002
#define RATE_LIMITED 1010

#define INSTANCE_ID_MAX_BYTES (4 * 128) // 128 characters

// A request that got a session; its answer waits for the end of the turn. The strings of `license`
// hold until then, since licenses are loaded between turns.
struct granted {
    const Berth__RequestSessionCall *call;
    Berth__RequestSessionReply_Closure closure;
    void *data;
    struct session_id id;
    struct pool_license_ref license;
    uint32_t within_s;
    bool fresh; // by this very request
};

// False: answered already.
static bool read_request(const Berth__RequestSessionCall *c, struct pool_request *r, void *data)
{
    *r = (struct pool_request){.feature = c->feature, .instance_id = c->instance_id};
    const char *host_id = c->client ? c->client->host_id : NULL;
    size_t instance_len = c->instance_id ? strlen(c->instance_id) : 0;
    if (!*c->feature)
        fail_field(data, "feature", "must not be empty");
    else if (version_parse(c->version, strlen(c->version), &r->terms.version))
        fail_field(data, "version", "one to four numbers with dots, as 24.11");
    else if (edition_parse(c->edition, strlen(c->edition), &r->terms.edition) ||
             r->terms.edition == EDITION_STEADY_PROGRESS)
        fail_field(data, "edition", "must be Steady or Progress");
    else if (modules_parse(c->modules, strlen(c->modules), &r->terms.modules))
        fail_field(data, "modules",
                   "letters of " MODULE_LETTERS " in this order, each at most once");
    else if (c->instance_id && (!instance_len || instance_len > INSTANCE_ID_MAX_BYTES))
        fail_field(data, "instanceId", "1 to 128 characters");
    else if (c->has_nonce && (c->nonce.len < NONCE_MIN_BYTES || c->nonce.len > NONCE_MAX_BYTES))
        fail_field(data, "nonce", "16 to 64 bytes");
    else if (c->has_nonce && !c->instance_id)
        fail_field(data, "instanceId", "is required with a nonce");
    else if (c->has_nonce && !host_id)
        fail_field(data, "client.hostId", "is required with a nonce");
    else {
        if (c->client)
            r->client = (struct pool_client){.hostname = c->client->hostname,
                                             .host_id = host_id,
                                             .user = c->client->user,
                                             .application = c->client->application,
                                             .pid = c->client->pid,
                                             .address = c->client->address};
        return true;
    }
    return false;
}

static void fail_considered(const struct pool_service *s, const struct pool_result *r,
                            const struct pool_request *q, void *data)
{
    Berth__Error e = BERTH__ERROR__INIT;
    Berth__Considered items[POOL_CONSIDERED_MAX];
    Berth__Considered *list[POOL_CONSIDERED_MAX];
    char message[512];
    for (size_t i = 0; i < r->considered_len; i++) {
        berth__considered__init(&items[i]);
        items[i].uuid = text(r->considered[i].uuid);
        items[i].feature = text(r->considered[i].feature);
        items[i].reason = text(r->considered[i].reason);
        list[i] = &items[i];
    }
    e.n_considered = r->considered_len;
    e.considered = list;
    e.has_omitted = true;
    e.omitted = r->omitted;
    e.message = message;
    if (r->outcome == POOL_NO_LICENSE) {
        e.code = NO_LICENSE;
        snprintf(message, sizeof message,
                 r->considered_len
                     ? "no license on this server can serve %.64s: `considered` says why for each; "
                       "ask the administrator for a fitting license"
                     : "this server has no licenses at all (wanted: %.64s): ask the administrator "
                       "to install a license file",
                 q->feature);
    } else {
        e.code = NO_SEAT;
        e.has_retry_after_s = true;
        e.retry_after_s = r->retry_after_s;
        snprintf(message, sizeof message,
                 s->held_until.ms > loop_now(s->loop).ms
                     ? "the server lost sight of some sessions and must wait until they have run "
                       "out before it gives out seats of %.64s: try again in %u s"
                     : "all seats of the licenses that fit %.64s are taken: try again in %u s, or "
                       "close the application elsewhere",
                 q->feature, r->retry_after_s);
    }
    rpc_fail(data, &e);
}

static void fail_client_limit(const struct pool_result *r, void *data)
{
    Berth__Error e = BERTH__ERROR__INIT;
    e.code = RATE_LIMITED;
    e.has_retry_after_s = true;
    e.retry_after_s = r->retry_after_s;
    e.message = text("this client has as many sessions as it may have (sessions.max_per_client): "
                     "return one first");
    rpc_fail(data, &e);
}

static void fail_unwritable(void *data)
{
    fail_unavailable(data, "pool",
                     "the server cannot write its sessions to disk, and gives out no new one until "
                     "it can; those that live go on: the administrator must look at the disk of "
                     "sessions.state_dir");
}

static void answer_later(struct pool_service *s, const struct granted *g)
{
    if (s->granted_len == s->granted_cap) {
        s->granted_cap = s->granted_cap ? 2 * s->granted_cap : 64;
        s->granted = reallocarray(s->granted, s->granted_cap, sizeof *s->granted);
        if (!s->granted)
            abort();
    }
    s->granted[s->granted_len++] = *g;
}

void request_session(Berth__Pool_Service *rpc, const Berth__RequestSessionCall *input,
                     Berth__RequestSessionReply_Closure closure, void *data)
{
    struct pool_service *s = service_of(rpc);
    struct pool_request request;
    if (!may_call(data, CALLER_CLIENTS) || !read_request(input, &request, data) ||
        !may_issue(s, true, data) || (input->has_nonce && !proof_possible(s, NULL, data)))
        return;
    struct session_id random;
    crypto_random(&random, sizeof random);
    struct pool_result result;
    enum pool_outcome outcome = pool_request(s->pool, &request, random, service_now(s), &result);
    switch (outcome) {
    case POOL_GRANTED:
    case POOL_EXISTING:
        answer_later(s, &(struct granted){.call = input,
                                          .closure = closure,
                                          .data = data,
                                          .id = result.id,
                                          .license = result.license,
                                          .within_s = result.revalidate_within_s,
                                          .fresh = outcome == POOL_GRANTED});
        return;
    case POOL_INSTANCE_CONFLICT:
        fail_field(data, "instanceId",
                   "has a session with another version, edition or modules: return it first");
        return;
    case POOL_CLIENT_LIMIT:
        fail_client_limit(&result, data);
        return;
    case POOL_NO_LICENSE:
    case POOL_NO_SEAT:
    default:
        if (outcome == POOL_NO_SEAT && s->unwritable)
            fail_unwritable(data);
        else
            fail_considered(s, &result, &request, data);
        return;
    }
}

static void answer_granted(struct pool_service *s, const struct granted *g)
{
    struct ref ref;
    char id[SESSION_ID_TEXT_BYTES];
    struct grantor_grant grant = {.message = BERTH__GRANT__INIT};
    bool proven = g->call->has_nonce;
    if (proven && !proof_make(s, &g->id, g->call->nonce, g->within_s, &grant, g->data)) {
        grantor_clear(&grant);
        return; // the client does not know of the session, which runs out
    }
    ref_fill(&ref, &g->license);
    session_id_format(&g->id, id);
    Berth__RequestSessionReply reply = BERTH__REQUEST_SESSION_REPLY__INIT;
    reply.session_id = id;
    reply.revalidate_within_s = g->within_s;
    reply.license = &ref.message;
    reply.grant = proven ? &grant.message : NULL;
    g->closure(&reply, g->data);
    grantor_clear(&grant);
    log_debug("session.granted", LOG_ID("session", id), LOG_S("uuid", g->license.uuid),
              LOG_S("feature", g->license.feature));
}

void requests_answer(struct pool_service *s, bool written)
{
    for (size_t i = 0; i < s->granted_len; i++) {
        const struct granted *g = &s->granted[i];
        struct pool_session session;
        if (!written && g->fresh)
            pool_end(s->pool, &g->id, service_now(s));
        if (written || pool_session_get(s->pool, &g->id, service_now(s), &session))
            answer_granted(s, g);
        else
            fail_unwritable(g->data);
    }
    s->granted_len = 0;
}
