// Grants in answers: what a client proves its session with.
#include "services/pool/internal.h"

#include <string.h>

#define CANNOT_SIGN                                                                                \
    "the server cannot sign grants at the moment, since berth-trust has not certified its key: "   \
    "try again in a few seconds"

// What was said when the session began: a session cannot be shared with another host.
static bool names_client(const struct pool_session *session, void *data)
{
    if (session->instance_id && session->client.host_id)
        return true;
    fail_field(data, "nonce",
               "the session was requested without instanceId and client.hostId, which a grant must "
               "name");
    return false;
}

bool proof_possible(struct pool_service *s, const struct session_id *id, void *data)
{
    struct pool_session session;
    if (id && pool_session_get(s->pool, id, service_now(s), &session) &&
        !names_client(&session, data))
        return false;
    if (grantor_can_sign(s->grantor))
        return true;
    fail_unavailable(data, "trust", CANNOT_SIGN);
    return false;
}

bool proof_make(struct pool_service *s, const struct session_id *id, ProtobufCBinaryData nonce,
                uint32_t within_s, struct grantor_grant *out, void *data)
{
    struct pool_session session;
    char text_id[SESSION_ID_TEXT_BYTES], modules[12];
    if (!pool_session_get(s->pool, id, service_now(s), &session)) {
        fail_session(data, POOL_SESSION_UNKNOWN); // it lived a moment ago
        return false;
    }
    if (!names_client(&session, data))
        return false;
    struct grant_facts facts = {
        .nonce = nonce.data,
        .nonce_len = nonce.len,
        .instance_id = session.instance_id,
        .host_id = session.client.host_id,
        .feature = session.license.feature,
        .uuid = session.license.uuid,
        .version = session.license.version,
        .edition = edition_name(session.license.edition),
        .modules = modules_format(session.license.modules, modules),
        .revalidate_within_s = within_s,
    };
    session_id_format(id, text_id);
    grant_session_hash(text_id, facts.session_hash);
    if (!grantor_sign(s->grantor, &facts, out))
        return true;
    fail_unavailable(data, "trust", CANNOT_SIGN);
    return false;
}
