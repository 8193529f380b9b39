#include "common/rpc_internal.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ACCEPT_RETRY_MS 100

struct rpc_listener {
    struct loop *loop;
    void (*fn)(void *ctx, nng_stream *stream);
    void *ctx;
    char *url, *socket_path;              // no path: TCP
    struct crypto_tls_identity *identity; // NULL: no TLS

    nng_stream_listener *listener;
    nng_aio *aio;
    struct loop_post accepted;
    struct loop_timer retry;
    bool accepting;
};

// ---- the socket ----

// Nobody but us may reach the socket, and a live server's is not taken away.
static int socket_prepare(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len >= sizeof addr.sun_path)
        return -ENAMETOOLONG;
    memcpy(addr.sun_path, path, len + 1);
    char *slash = strrchr(addr.sun_path, '/');
    if (slash && slash != addr.sun_path) {
        *slash = '\0';
        if (mkdir(addr.sun_path, 0700) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int r = connect(fd, (const struct sockaddr *)&addr, sizeof addr) < 0 ? errno : 0;
    close(fd);
    if (r != ECONNREFUSED)
        return r == ENOENT ? 0 : -EADDRINUSE;
    return unlink(path) < 0 ? -errno : 0;
}

static int listener_open(struct rpc_listener *l)
{
    static const char ipc[] = "ipc://";
    if (strncmp(l->url, ipc, sizeof ipc - 1) == 0) {
        l->socket_path = strdup(l->url + sizeof ipc - 1);
        if (!l->socket_path)
            abort();
        int r = socket_prepare(l->socket_path);
        if (r)
            return r;
    }
    const char *url = l->url;
    int r = rpc_tls_identity(&url, &l->identity);
    if (!r)
        r = rpc_errno(nng_stream_listener_alloc(&l->listener, url));
    if (!r && l->socket_path)
        r = rpc_errno(nng_stream_listener_set_int(l->listener, NNG_OPT_IPC_PERMISSIONS, 0600));
    if (!r)
        r = rpc_errno(nng_stream_listener_listen(l->listener));
    return r;
}

// ---- accepting ----

static bool user_allowed(const struct rpc_listener *l, nng_stream *stream)
{
    if (!l->socket_path)
        return true;
    uint64_t uid;
    if (nng_stream_get_uint64(stream, NNG_OPT_IPC_PEER_UID, &uid) == 0 &&
        (uid == 0 || uid == geteuid()))
        return true;
    log_warn("rpc.refused", LOG_S("url", l->url), LOG_S("msg", "a process of another user"));
    return false;
}

static void on_accept_done(void *ctx) // on a thread of nng
{
    struct rpc_listener *l = ctx;
    loop_post(l->loop, &l->accepted);
}

static void accept_next(void *ctx)
{
    struct rpc_listener *l = ctx;
    l->accepting = true;
    nng_stream_listener_accept(l->listener, l->aio);
}

static void on_accepted(void *ctx)
{
    struct rpc_listener *l = ctx;
    l->accepting = false;
    int r = nng_aio_result(l->aio);
    if (r) { // no descriptors left, most likely
        log_error("rpc.accept", LOG_S("url", l->url), LOG_S("msg", nng_strerror(r)));
        loop_timer_arm(l->loop, &l->retry, mono_after(clock_mono(), ACCEPT_RETRY_MS));
        return;
    }
    nng_stream *stream = nng_aio_get_output(l->aio, 0);
    if (user_allowed(l, stream))
        l->fn(l->ctx, stream);
    else
        nng_stream_free(stream);
    accept_next(l);
}

// ---- life ----

int rpc_listener_new(struct rpc_listener **out, struct loop *loop, const char *url,
                     void (*fn)(void *ctx, nng_stream *stream), void *ctx)
{
    struct rpc_listener *l = calloc(1, sizeof *l);
    if (!l)
        abort();
    l->loop = loop;
    l->fn = fn;
    l->ctx = ctx;
    l->url = strdup(url);
    if (!l->url || nng_aio_alloc(&l->aio, on_accept_done, l))
        abort();
    l->accepted = (struct loop_post){.fn = on_accepted, .ctx = l};
    loop_timer_init(&l->retry, accept_next, l);
    int r = listener_open(l);
    if (r) {
        rpc_listener_free(&l);
        return r;
    }
    accept_next(l);
    *out = l;
    return 0;
}

void rpc_listener_free(struct rpc_listener **listener)
{
    struct rpc_listener *l = *listener;
    if (!l)
        return;
    if (l->listener)
        nng_stream_listener_close(l->listener);
    nng_aio_stop(l->aio);
    // A connection that was accepted, but not yet taken by on_accepted.
    if (l->accepting && nng_aio_result(l->aio) == 0)
        nng_stream_free(nng_aio_get_output(l->aio, 0));
    nng_aio_free(l->aio);
    if (l->listener)
        nng_stream_listener_free(l->listener);
    loop_post_cancel(l->loop, &l->accepted);
    loop_timer_cancel(l->loop, &l->retry);
    crypto_tls_identity_free(&l->identity);
    free(l->socket_path);
    free(l->url);
    free(l);
    *listener = NULL;
}

struct crypto_tls *rpc_listener_tls(const struct rpc_listener *l)
{
    return l->identity ? crypto_tls_new(l->identity, true) : NULL;
}
