// What is to be seen of the backend: metrics, and the conditions of its health; over plain HTTP at
// a listener of its own, since the one for servers is open to the Internet.
#pragma once

#include "common/ops.h"
#include "common/server_license.h"
#include "tools/berth-cloud/store.h"

#define METRIC(id, type, name, labels, help) M_##id,
enum cloud_metric {
#include "tools/berth-cloud/metrics.def"
    M_COUNT
};
#undef METRIC

struct cloud_ops {
    struct ops ops;
    struct metrics *metrics;
    struct http_server *listener;
    struct store *store;
    const struct lease_policy *policy;
    unsigned (*connections)(void *ctx);
    void *ctx;
    struct wall_time certificate_until; // of the backend's TLS certificate
};

// Makes the metrics; `store` may be set later, the others before.
void cloud_ops_init(struct cloud_ops *o);
// address NULL: no listener.
int cloud_ops_listen(struct cloud_ops *o, struct loop *loop, const char *address,
                     struct error *err);
int cloud_ops_certificate(struct cloud_ops *o, const char *path, struct error *err);
void cloud_ops_fini(struct cloud_ops *o);
