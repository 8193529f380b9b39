// berth-pool: licenses and the sessions that hold their seats.
#include "common/daemon.h"
#include "common/rpc.h"
#include "services/pool/service.h"

int main(int argc, char **argv)
{
    static const struct daemon_def def = {
        .name = "berth-pool",
        .summary = "Loads license files and gives out their seats as sessions.",
        .load_keys = rpc_keys_load,
        .start = pool_service_start,
        .reload = pool_service_reload,
        .free = pool_service_free,
        .health = pool_service_health,
        .ready = pool_service_ready,
    };
    return daemon_main(argc, argv, &def);
}
