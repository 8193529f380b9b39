#include "services/gateway/secrets.h"

#include "common/clock.h"

#include <string.h>
#include <sys/stat.h>

#define LOOK_MS 2000

// Links are followed: a mounted secret is swapped by one link above it. A file that is not there
// has a stamp of zeros.
static void file_look(struct secrets_file *out, const char *path)
{
    struct stat st;
    if (!path || stat(path, &st))
        return;
    out->device = st.st_dev;
    out->inode = st.st_ino;
    out->bytes = st.st_size;
    out->modified = st.st_mtim;
    out->changed = st.st_ctim;
}

static void stamp_take(struct secrets_stamp *out, const struct config *c)
{
    const char *const paths[SECRETS_FILES] = {
        c->serve.licenses.tls.certificate,
        c->serve.licenses.tls.key,
        c->serve.licenses.tls.client_ca,
        c->serve.admin.tls.certificate,
        c->serve.admin.tls.key,
        c->serve.admin.client_ca,
        c->serve.admin.token_file,
        c->borrow.token_file,
    };
    // Compared as bytes, padding too.
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < SECRETS_FILES; i++)
        file_look(&out->files[i], paths[i]);
}

static bool stamp_equal(const struct secrets_stamp *a, const struct secrets_stamp *b)
{
    return !memcmp(a, b, sizeof *a);
}

static void look(void *ctx)
{
    struct secrets *s = ctx;
    struct secrets_stamp now;
    stamp_take(&now, s->config(s->ctx));
    bool settled = stamp_equal(&now, &s->seen);
    s->seen = now;
    if (settled && !stamp_equal(&now, &s->used)) {
        s->used = now; // what is refused once is not tried again until it changes
        s->changed(s->ctx);
        secrets_known(s); // a missing token was made
    }
    loop_timer_arm(s->loop, &s->timer, mono_after(loop_now(s->loop), LOOK_MS));
}

void secrets_known(struct secrets *s)
{
    stamp_take(&s->used, s->config(s->ctx));
    s->seen = s->used;
}

void secrets_start(struct secrets *s)
{
    secrets_known(s);
    loop_timer_init(&s->timer, look, s);
    loop_timer_arm(s->loop, &s->timer, mono_after(clock_mono(), LOOK_MS));
}

void secrets_stop(struct secrets *s)
{
    if (s->timer.fn)
        loop_timer_cancel(s->loop, &s->timer);
}
