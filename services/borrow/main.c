// berth-borrow: the signed ledger of borrowed licenses.
#include "common/daemon.h"
#include "common/rpc.h"
#include "services/borrow/service.h"

int main(int argc, char **argv)
{
    static const struct daemon_def def = {
        .name = "berth-borrow",
        .summary = "Keeps the ledger of borrowed licenses.",
        .load_keys = rpc_keys_load,
        .start = borrow_start,
        .reload = borrow_reload,
        .free = borrow_free,
        .health = borrow_health,
        .ready = borrow_ready,
    };
    return daemon_main(argc, argv, &def);
}
