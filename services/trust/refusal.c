#include "services/trust/refusal.h"

#include "common/rpc.h"

#include <stdio.h>

static char *text(const char *s)
{
    return (char *)(uintptr_t)s; // protobuf-c has no const
}

void refuse_params(void *closure_data, const char *field)
{
    Berth__Error error = BERTH__ERROR__INIT;
    error.code = -32602;
    error.field = text(field);
    error.reason = error.message = text("not of the form that proto/trust.proto says");
    rpc_fail(closure_data, &error);
}

void refuse_reason(void *closure_data, const char *reason, const char *message)
{
    Berth__Error error = BERTH__ERROR__INIT;
    error.code = 1004;
    error.reason = text(reason);
    error.message = text(message);
    rpc_fail(closure_data, &error);
}

void refuse_verdict(void *closure_data, const Berth__Verdict *verdict)
{
    refuse_reason(closure_data, verdict->reason, verdict->message);
}

void refuse_no_addon(void *closure_data)
{
    Berth__Error error = BERTH__ERROR__INIT;
    error.code = 1005;
    error.reason = text("addon");
    error.message = text("The server license has no addon borrow. Ask the vendor for it.");
    rpc_fail(closure_data, &error);
}

void refuse_role(void *closure_data, const char *method)
{
    char message[128];
    Berth__Error error = BERTH__ERROR__INIT;
    snprintf(message, sizeof message, "This process may not call %s of trust.", method);
    error.code = 1009;
    error.message = message;
    rpc_fail(closure_data, &error);
}

void refuse_unavailable(void *closure_data, const char *service, const char *message)
{
    Berth__Error error = BERTH__ERROR__INIT;
    error.code = 1011;
    error.service = text(service);
    error.message = text(message);
    rpc_fail(closure_data, &error);
}
