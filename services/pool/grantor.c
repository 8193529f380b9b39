#include "services/pool/grantor.h"

#include "common/clock.h"
#include "common/log.h"
#include "trust.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CALL_TIMEOUT_MS 4000 // a dongle signs slowly
#define RETRY_MS 1000
#define NOT_LICENSED 1004
#define NOT_LICENSED_MS 30000 // a better verdict wakes us
// Clocks of two hosts differ; a grant's time is put into the delegation's if it misses it by no
// more.
#define SKEW_S 60

struct grantor {
    struct loop *loop;
    struct rpc_client *client;
    struct crypto_key *key;
    uint8_t public_key[ED25519_PUBLIC_BYTES];
    struct loop_timer again;
    bool asking, ready;
    struct mono_time asked_at;

    struct buf delegation, certificate; // empty: none yet
    struct grant_delegation terms;
    struct mono_time renew_at;
};

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static void ask_at(struct grantor *g, struct mono_time when)
{
    loop_timer_arm(g->loop, &g->again, when);
}

// Whether it is what was asked for. The signature is for clients: they trust only the certificate.
static bool delegation_fits(struct grantor *g, const Berth__DelegateReply *reply,
                            struct grant_delegation *terms)
{
    struct error err = {{0}};
    struct arena *arena = arena_new(4096);
    int r = grant_read_delegation(terms, arena, (const char *)reply->delegation.data,
                                  reply->delegation.len, &err);
    arena_free(&arena);
    if (!r && memcmp(terms->key, g->public_key, sizeof g->public_key))
        error_set(&err, "it is for another key");
    else if (!r && terms->from.s < terms->until.s)
        return true;
    log_warn("grants.delegation_refused", LOG_S("msg", err.text));
    return false;
}

static void on_delegated(const Berth__DelegateReply *reply, void *data)
{
    struct grantor *g = data;
    struct grant_delegation terms;
    g->asking = false;
    if (!reply || !delegation_fits(g, reply, &terms)) {
        bool licensed = reply || rpc_client_error(g->client)->code != NOT_LICENSED;
        ask_at(g, mono_after(clock_mono(), licensed ? RETRY_MS : NOT_LICENSED_MS));
        return;
    }
    g->terms = terms;
    buf_clear(&g->delegation);
    buf_add(&g->delegation, reply->delegation.data, reply->delegation.len);
    buf_clear(&g->certificate);
    buf_add_str(&g->certificate, reply->certificate);
    // Half of its life, counted from when it was asked for, on a clock that nobody sets.
    int64_t life_ms = (terms.until.s - terms.from.s) * 1000;
    g->renew_at = mono_after(g->asked_at, life_ms / 2 > RETRY_MS ? life_ms / 2 : RETRY_MS);
    ask_at(g, g->renew_at);
    if (!g->ready)
        log_info("grants.ready", LOG_S("server_id", terms.server_id));
    g->ready = true;
}

static void ask(void *ctx)
{
    struct grantor *g = ctx;
    if (g->asking)
        return;
    Berth__DelegateCall call = BERTH__DELEGATE_CALL__INIT;
    call.public_key = (ProtobufCBinaryData){sizeof g->public_key, g->public_key};
    g->asking = true;
    g->asked_at = clock_mono();
    berth__trust__delegate(rpc_client_service(g->client), &call, on_delegated, g);
}

void grantor_wake(struct grantor *g, const char *server_id)
{
    if (g->delegation.len && strcmp(g->terms.server_id, server_id)) // of another dongle
        buf_clear(&g->delegation);
    if (!g->delegation.len || clock_mono().ms >= g->renew_at.ms)
        ask(g);
}

bool grantor_ready(const struct grantor *g)
{
    return g->ready;
}

// The time that the grant will carry; false: the delegation at hand does not cover it.
static bool time_of_grant(struct grantor *g, struct wall_time *out)
{
    const struct grant_delegation *d = &g->terms;
    *out = clock_wall();
    if (!g->delegation.len || out->s < d->from.s - SKEW_S || out->s >= d->until.s + SKEW_S)
        return false;
    if (out->s < d->from.s)
        *out = d->from;
    if (out->s >= d->until.s)
        out->s = d->until.s - 1;
    return clock_mono().ms < g->renew_at.ms + (d->until.s - d->from.s) * 500;
}

bool grantor_can_sign(struct grantor *g)
{
    struct wall_time ignored;
    if (time_of_grant(g, &ignored))
        return true;
    ask(g);
    return false;
}

int grantor_sign(struct grantor *g, struct grant_facts *facts, struct grantor_grant *out)
{
    if (!time_of_grant(g, &facts->time))
        return -EAGAIN;
    facts->server_id = g->terms.server_id;
    grant_write_payload(&out->payload, facts);
    if (grant_sign(g->key, &out->payload, out->signature))
        return -EAGAIN;
    berth__grant__init(&out->message);
    out->message.payload = (ProtobufCBinaryData){out->payload.len, (uint8_t *)out->payload.data};
    out->message.signature = (ProtobufCBinaryData){sizeof out->signature, out->signature};
    out->message.delegation =
        (ProtobufCBinaryData){g->delegation.len, (uint8_t *)g->delegation.data};
    out->message.certificate = g->certificate.data;
    return 0;
}

void grantor_clear(struct grantor_grant *grant)
{
    buf_fini(&grant->payload);
}

int grantor_new(struct grantor **out, struct loop *loop, const char *trust_url,
                const struct rpc_metrics *metrics)
{
    struct grantor *g = must(calloc(1, sizeof *g));
    g->loop = loop;
    loop_timer_init(&g->again, ask, g);
    int r = crypto_key_new_ed25519(&g->key);
    if (!r)
        r = crypto_key_public_raw(g->key, g->public_key);
    if (!r)
        r = rpc_client_new(&g->client, loop, trust_url, BERTH__ROLE__POOL,
                           &berth__trust__descriptor, "trust", CALL_TIMEOUT_MS, metrics);
    if (r) {
        grantor_free(&g);
        return r;
    }
    *out = g;
    return 0;
}

void grantor_free(struct grantor **grantor)
{
    struct grantor *g = *grantor;
    if (!g)
        return;
    rpc_client_free(&g->client); // an open call fails, and arms the timer
    loop_timer_cancel(g->loop, &g->again);
    crypto_key_free(&g->key);
    buf_fini(&g->delegation);
    buf_fini(&g->certificate);
    free(g);
    *grantor = NULL;
}
