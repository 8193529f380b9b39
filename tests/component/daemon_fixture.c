// A service under daemon_main that does what the environment says: used by test_daemon.py.
#include "common/daemon.h"
#include "common/log.h"
#include "common/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct service {
    struct ops ops;
    struct http_server *listener;
    struct loop *loop;
    struct metrics *metrics;
    struct loop_timer fail_timer;
};

static bool says(const char *what)
{
    const char *plan = getenv("FIXTURE_PLAN");
    return plan && strstr(plan, what);
}

static bool is_ready(void)
{
    const char *path = getenv("FIXTURE_READY");
    return !path || !access(path, F_OK);
}

static size_t conditions(void *ctx, struct ops_condition *out, size_t max)
{
    (void)ctx;
    if (max < 2)
        return 0;
    out[0] = (struct ops_condition){.name = "always", .ok = true};
    out[1] = (struct ops_condition){.name = "file", .ok = is_ready()};
    if (!out[1].ok)
        snprintf(out[1].reason, sizeof out[1].reason, "the \"file\" is not there");
    return 2;
}

static void fail_now(void *ctx)
{
    struct service *s = ctx;
    daemon_fail(s->loop, DAEMON_EXIT_CONFIG, "the state cannot be written");
}

static int start(struct loop *loop, const struct config *config, void **service, struct error *err)
{
    static const struct metric_def defs[] = {
        {METRIC_COUNTER, "berth_fixture_total", "", "Things that the fixture did."}};
    if (says("refuse")) {
        error_set(err, "no license\nlooked in /x");
        return DAEMON_EXIT_CONFIG;
    }
    struct service *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    s->loop = loop;
    s->metrics = metrics_new(defs, 1);
    metric_add(s->metrics, 0, 1);
    s->ops = (struct ops){.metrics = s->metrics, .conditions = conditions, .ctx = s};
    loop_timer_init(&s->fail_timer, fail_now, s);
    if (says("fail"))
        loop_timer_arm(loop, &s->fail_timer, loop_now(loop));
    *service = s;
    return ops_listen(&s->listener, loop, config->ops.pool, &s->ops, err) ? DAEMON_EXIT_FAULT : 0;
}

static int reload(void *service, const struct config *config, struct error *err)
{
    (void)service;
    if (config->sessions.max_per_client != 13)
        return 0;
    error_set(err, "thirteen is not possible");
    return -1;
}

static void stop(void *service)
{
    struct service *s = service;
    log_info("fixture.stop");
    if (!says("deaf"))
        daemon_stopped(s->loop);
}

static void service_free(void *service)
{
    struct service *s = service;
    http_server_free(&s->listener);
    metrics_free(&s->metrics);
    free(s);
}

static int health(const struct config *config, bool alive)
{
    return ops_health_check(config->ops.pool, alive);
}

static bool ready(void *service)
{
    struct service *s = service;
    return ops_ready(&s->ops);
}

int main(int argc, char **argv)
{
    static const struct daemon_def def = {
        .name = "berth-fixture",
        .summary = "is tested",
        .start = start,
        .reload = reload,
        .stop = stop,
        .free = service_free,
        .health = health,
        .ready = ready,
    };
    return daemon_main(argc, argv, &def);
}
