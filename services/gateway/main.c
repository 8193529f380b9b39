// berth-gateway: HTTPS for clients and administrators; everything else is asked of the others.
#include "common/daemon.h"
#include "common/rpc.h"
#include "services/gateway/health.h"
#include "services/gateway/service.h"

int main(int argc, char **argv)
{
    static const struct daemon_def def = {
        .name = "berth-gateway",
        .summary = "Answers clients over HTTPS and passes their calls to pool and borrow.",
        .load_keys = rpc_keys_load,
        .start = gateway_start,
        .reload = gateway_reload,
        .stop = gateway_stop,
        .free = gateway_free,
        .health = health_command,
        .ready = gateway_ready,
    };
    return daemon_main(argc, argv, &def);
}
