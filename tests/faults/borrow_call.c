// Speaks to berth-borrow as the gateway does, without one: for test_kill.py, which restarts it a
// thousand times.
//   borrow_call URL UUID FEATURE HOST SECONDS   borrows from now on; then lists
// Waits at most SECONDS for the process, and for each answer. Prints "borrowed ID" or
// "refused CODE MESSAGE" (1011: no answer), then one line "listed ID" for each borrow. Exits 3 if
// the process was not reached or went away before it listed.
#include "borrow.pb-c.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/rpc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PERIOD_S (2 * 86400)

struct caller {
    struct loop *loop;
    struct rpc_client *client;
    struct loop_timer deadline;
    Berth__BorrowLicenseCall call;
    int code;
};

static void on_listed(const Berth__ListBorrowedReply *reply, void *ctx)
{
    struct caller *c = ctx;
    for (size_t i = 0; reply && i < reply->n_borrowed; i++)
        printf("listed %s\n", reply->borrowed[i]->borrow_id);
    c->code = reply ? 0 : 3;
    loop_stop(c->loop);
}

static void on_borrowed(const Berth__BorrowedLicense *reply, void *ctx)
{
    struct caller *c = ctx;
    const Berth__Error *error = rpc_client_error(c->client);
    if (reply)
        printf("borrowed %s\n", reply->borrow_id);
    else
        printf("refused %d %s\n", error->code, error->message ? error->message : "");
    const Berth__Empty empty = BERTH__EMPTY__INIT;
    berth__borrow__list_borrowed(rpc_client_service(c->client), &empty, on_listed, c);
}

static void on_connected(void *ctx)
{
    struct caller *c = ctx;
    berth__borrow__borrow_license(rpc_client_service(c->client), &c->call, on_borrowed, c);
}

static void on_deadline(void *ctx)
{
    struct caller *c = ctx;
    c->code = 3;
    loop_stop(c->loop);
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    struct caller c = {.code = 3};
    int64_t wait_ms = 1000 * atoll(argv[5]);
    berth__borrow_license_call__init(&c.call);
    c.call.uuid = argv[2];
    c.call.feature = argv[3];
    c.call.host_id = argv[4];
    c.call.valid_until_s = clock_wall().s + PERIOD_S;
    (void)log_init("borrow_call", LOG_ERROR, LOG_TEXT, NULL);
    if (loop_new(&c.loop) || rpc_client_new(&c.client, c.loop, argv[1], BERTH__ROLE__GATEWAY,
                                            &berth__borrow__descriptor, "borrow", wait_ms, NULL))
        return 2;
    rpc_client_on_connect(c.client, on_connected, &c);
    loop_timer_init(&c.deadline, on_deadline, &c);
    loop_timer_arm(c.loop, &c.deadline, mono_after(clock_mono(), wait_ms));
    loop_run(c.loop);
    rpc_client_free(&c.client);
    loop_free(&c.loop);
    return c.code;
}
