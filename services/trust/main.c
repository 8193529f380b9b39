// berth-trust: may this server issue now?
#include "common/daemon.h"
#include "common/rpc.h"
#include "services/trust/service.h"

int main(int argc, char **argv)
{
    static const struct daemon_def def = {
        .name = "berth-trust",
        .summary = "Checks the server license and tells the other processes the verdict.",
        .holds_keys = true,
        .load_keys = rpc_keys_load,
        .start = trust_start,
        .reload = trust_reload,
        .stop = trust_stop,
        .free = trust_free,
        .health = trust_health,
        .ready = trust_ready,
    };
    return daemon_main(argc, argv, &def);
}
