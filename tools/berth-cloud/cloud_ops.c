#include "tools/berth-cloud/cloud_ops.h"

#include "common/clock.h"
#include "common/crypto.h"

#include <stdio.h>

#define METRIC(id, type, name, labels, help) {type, name, labels, help},
static const struct metric_def metric_defs[] = {
#include "tools/berth-cloud/metrics.def"
};
#undef METRIC

struct census {
    const struct cloud_ops *o;
    int64_t now_s;
    unsigned by_status[STORE_STATUSES];
    unsigned ledgers;
};

static void count(void *ctx, const struct store_server *server)
{
    struct census *c = ctx;
    c->by_status[store_status(server, c->now_s, c->o->policy)]++;
    c->ledgers += server->head.present;
}

static void collect(void *ctx)
{
    struct cloud_ops *o = ctx;
    struct error err = {""};
    struct census c = {.o = o, .now_s = clock_wall().s};
    metric_set(o->metrics, M_CONNECTIONS, o->connections(o->ctx));
    metric_set(o->metrics, M_CERTIFICATE_EXPIRY, (double)(o->certificate_until.s - c.now_s));
    if (store_each(o->store, count, &c, &err) < 0)
        return;
    for (int i = 0; i < STORE_STATUSES; i++)
        metric_set(o->metrics, M_SERVERS, c.by_status[i], store_status_name((enum store_status)i));
    metric_set(o->metrics, M_LEDGERS, c.ledgers);
}

static void nothing(void *ctx, const struct store_server *server)
{
}

static size_t conditions(void *ctx, struct ops_condition *out, size_t max)
{
    struct cloud_ops *o = ctx;
    struct error err = {""};
    if (max < 2)
        return 0;
    out[0] = (struct ops_condition){.name = "state"};
    out[0].ok = store_each(o->store, nothing, NULL, &err) == 0;
    snprintf(out[0].reason, sizeof out[0].reason, "%.150s", err.text);
    out[1] = (struct ops_condition){.name = "certificate"};
    out[1].ok = clock_wall().s < o->certificate_until.s;
    if (!out[1].ok)
        snprintf(out[1].reason, sizeof out[1].reason, "the backend's TLS certificate has expired");
    return 2;
}

void cloud_ops_init(struct cloud_ops *o)
{
    o->metrics = metrics_new(metric_defs, M_COUNT);
    o->ops = (struct ops){.metrics = o->metrics, .conditions = conditions, .ctx = o};
}

int cloud_ops_listen(struct cloud_ops *o, struct loop *loop, const char *address, struct error *err)
{
    if (address == NULL)
        return 0;
    metrics_on_collect(o->metrics, collect, o);
    int r = ops_listen(&o->listener, loop, address, &o->ops, err);
    if (r < 0)
        error_prefix(err, "--ops %s", address);
    return r;
}

int cloud_ops_certificate(struct cloud_ops *o, const char *path, struct error *err)
{
    struct crypto_cert *cert = NULL;
    int r = crypto_cert_load_file(&cert, path, err);
    if (r == 0)
        o->certificate_until = crypto_cert_not_after(cert);
    crypto_cert_free(&cert);
    return r;
}

void cloud_ops_fini(struct cloud_ops *o)
{
    http_server_free(&o->listener);
    metrics_free(&o->metrics);
}
