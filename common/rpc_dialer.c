#include "common/rpc_internal.h"

#include <stdlib.h>

struct rpc_dialer {
    struct loop *loop;
    void (*fn)(void *ctx, nng_stream *stream);
    void *ctx;
    struct crypto_tls_identity *identity; // NULL: no TLS

    nng_stream_dialer *dialer;
    nng_aio *aio;
    struct loop_post dialed;
    bool dialing;
};

static void on_dial_done(void *ctx) // on a thread of nng
{
    struct rpc_dialer *d = ctx;
    loop_post(d->loop, &d->dialed);
}

static void on_dialed(void *ctx)
{
    struct rpc_dialer *d = ctx;
    d->dialing = false;
    d->fn(d->ctx, nng_aio_result(d->aio) ? NULL : nng_aio_get_output(d->aio, 0));
}

int rpc_dialer_new(struct rpc_dialer **out, struct loop *loop, const char *url, int64_t timeout_ms,
                   void (*fn)(void *ctx, nng_stream *stream), void *ctx)
{
    nng_stream_dialer *dialer;
    struct crypto_tls_identity *identity = NULL;
    int r = rpc_tls_identity(&url, &identity);
    if (!r)
        r = rpc_errno(nng_stream_dialer_alloc(&dialer, url));
    if (r) {
        crypto_tls_identity_free(&identity);
        return r;
    }
    struct rpc_dialer *d = calloc(1, sizeof *d);
    if (!d || nng_aio_alloc(&d->aio, on_dial_done, d))
        abort();
    nng_aio_set_timeout(d->aio, (nng_duration)timeout_ms);
    d->loop = loop;
    d->fn = fn;
    d->ctx = ctx;
    d->identity = identity;
    d->dialer = dialer;
    d->dialed = (struct loop_post){.fn = on_dialed, .ctx = d};
    *out = d;
    return 0;
}

void rpc_dialer_dial(struct rpc_dialer *d)
{
    d->dialing = true;
    nng_stream_dialer_dial(d->dialer, d->aio);
}

void rpc_dialer_free(struct rpc_dialer **dialer)
{
    struct rpc_dialer *d = *dialer;
    if (!d)
        return;
    nng_stream_dialer_close(d->dialer);
    nng_aio_stop(d->aio);
    // A connection that was made, but not yet taken by on_dialed.
    if (d->dialing && nng_aio_result(d->aio) == 0)
        nng_stream_free(nng_aio_get_output(d->aio, 0));
    nng_aio_free(d->aio);
    nng_stream_dialer_free(d->dialer);
    loop_post_cancel(d->loop, &d->dialed);
    crypto_tls_identity_free(&d->identity);
    free(d);
    *dialer = NULL;
}

struct crypto_tls *rpc_dialer_tls(const struct rpc_dialer *d)
{
    return d->identity ? crypto_tls_new(d->identity, false) : NULL;
}
