#include "services/trust/signer.h"

#include "common/clock.h"
#include "common/core/buf.h"
#include "common/core/text.h"
#include "common/grant.h"
#include "common/rpc.h"
#include "services/trust/refusal.h"

#include <stdlib.h>
#include <string.h>

#define PUBLIC_KEY_BYTES 32

// One call that waits for its signature: first the signature, then what becomes of it.
struct job {
    struct trust_signature signature;
    const struct signer *signer;
    void *closure_data;
    Berth__SignReply_Closure sign; // one of the two
    Berth__DelegateReply_Closure delegate;
    struct buf payload;
    struct wall_time until;
};

static struct job *job_new(const struct signer *s, void *closure_data,
                           void (*done)(struct trust_signature *signature))
{
    struct job *j = calloc(1, sizeof *j);
    if (j == NULL)
        abort();
    j->signer = s;
    j->closure_data = closure_data;
    j->signature.done = done;
    return j;
}

static void job_free(struct job *j)
{
    buf_fini(&j->payload);
    free(j);
}

static char *certificate(const struct signer *s)
{
    return (char *)(uintptr_t)s->def->certificate(s->source);
}

static void not_signed(const struct job *j)
{
    refuse_unavailable(j->closure_data, "trust",
                       "the key of the server license does not sign at the moment; try again");
}

// ---- what borrow has signed ----

static void on_signed(struct trust_signature *signature)
{
    struct job *j = (struct job *)signature;
    Berth__SignReply reply = BERTH__SIGN_REPLY__INIT;
    reply.signature = (ProtobufCBinaryData){signature->len, signature->bytes};
    reply.certificate = certificate(j->signer);
    if (signature->len > 0)
        j->sign(&reply, j->closure_data);
    else
        not_signed(j);
    job_free(j);
}

static const char *label_of(Berth__Purpose purpose)
{
    switch (purpose) {
    case BERTH__PURPOSE__BORROWED_FILE:
        return "berth-borrow-v1\n";
    case BERTH__PURPOSE__LEDGER:
        return "berth-ledger-v1\n";
    default:
        return NULL;
    }
}

void signer_sign(const struct signer *s, const Berth__SignCall *call,
                 Berth__SignReply_Closure closure, void *closure_data)
{
    const char *label = label_of(call->purpose);
    if (label == NULL || call->message.len > SIGN_MESSAGE_BYTES_MAX)
        return refuse_params(closure_data, label == NULL ? "purpose" : "message");
    // A ledger is signed at any time: it only says what was granted, and must stay readable.
    if (call->purpose == BERTH__PURPOSE__BORROWED_FILE) {
        if (!bulletin_may_issue(s->bulletin))
            return refuse_verdict(closure_data, &s->bulletin->verdict);
        if (!bulletin_has_addon(s->bulletin, "borrow"))
            return refuse_no_addon(closure_data);
    }
    struct job *j = job_new(s, closure_data, on_signed);
    j->sign = closure;
    crypto_sha256_labelled(label, call->message.data, call->message.len, j->signature.digest);
    s->def->sign(s->source, &j->signature);
}

// ---- pool's key for grants ----

static void add_base64(struct buf *out, const void *data, size_t len)
{
    buf_reserve(out, 4 * ((len + 2) / 3) + 1);
    out->len += base64_encode(data, len, out->data + out->len);
}

static void on_delegated(struct trust_signature *signature)
{
    struct job *j = (struct job *)signature;
    struct buf text BUF_CLEANUP = {0};
    Berth__DelegateReply reply = BERTH__DELEGATE_REPLY__INIT;
    if (signature->len == 0) {
        not_signed(j);
        return job_free(j);
    }
    buf_add_str(&text, "{\"format\":1,\"payload\":\"");
    add_base64(&text, j->payload.data, j->payload.len);
    buf_add_str(&text, "\",\"signature\":\"");
    add_base64(&text, signature->bytes, signature->len);
    buf_add_str(&text, "\"}");
    reply.delegation = (ProtobufCBinaryData){text.len, (uint8_t *)text.data};
    reply.certificate = certificate(j->signer);
    reply.valid_until_s = j->until.s;
    j->delegate(&reply, j->closure_data);
    job_free(j);
}

static void payload_write(struct buf *out, const ProtobufCBinaryData *key, const char *server_id,
                          struct wall_time from, struct wall_time until)
{
    char date[32];
    buf_add_str(out, "{\"format\":1,\"key\":\"");
    add_base64(out, key->data, key->len);
    buf_add_str(out, "\",\"serverId\":");
    buf_add_json_string(out, server_id, strlen(server_id));
    buf_printf(out, ",\"validFrom\":\"%s\"", wall_format(from, date));
    buf_printf(out, ",\"validUntil\":\"%s\"}", wall_format(until, date));
}

void signer_delegate(const struct signer *s, const Berth__DelegateCall *call,
                     Berth__DelegateReply_Closure closure, void *closure_data)
{
    const Berth__Verdict *v = &s->bulletin->verdict;
    if (call->public_key.len != PUBLIC_KEY_BYTES)
        return refuse_params(closure_data, "public_key");
    if (!bulletin_may_issue(s->bulletin))
        return refuse_verdict(closure_data, v);
    struct job *j = job_new(s, closure_data, on_delegated);
    struct wall_time from = clock_wall();
    j->delegate = closure;
    j->until = (struct wall_time){from.s + DELEGATION_S};
    if (j->until.s > v->license_until_s)
        j->until.s = v->license_until_s;
    payload_write(&j->payload, &call->public_key, v->server_id, from, j->until);
    crypto_sha256_labelled(GRANT_DELEGATION_LABEL, j->payload.data, j->payload.len,
                           j->signature.digest);
    s->def->sign(s->source, &j->signature);
}
