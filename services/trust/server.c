#include "services/trust/server.h"

#include "common/core/buf.h"
#include "common/files.h"
#include "common/vendor_ca.h"
#include "services/trust/core/clock_mark.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CA_BYTES_MAX (1024 * 1024)

int server_vendor_ca(struct crypto_ca **out, char **pem, const char *vendor_ca_path,
                     struct error *err)
{
    int r = 0;
    size_t len = 0;
    *pem = NULL;
    if (!vendor_ca_compiled_in && vendor_ca_path == NULL)
        return error_set(err, "trust.vendor_ca is not set: no vendor CA is known"), -EINVAL;
    if (!vendor_ca_compiled_in)
        r = file_read(vendor_ca_path, CA_BYTES_MAX, pem, &len, err);
    else if ((*pem = strdup(vendor_ca_compiled_in)) == NULL)
        abort();
    if (r == 0)
        r = crypto_ca_load_pem(out, *pem, strlen(*pem), err);
    if (r < 0) {
        free(*pem);
        *pem = NULL;
        error_prefix(err, "the vendor's CA certificate");
    }
    return r;
}

static int key_check(const char *path, struct error *err)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        int e = errno;
        return error_set(err, "%s: %s", path, strerror(e)), -e;
    }
    if (!S_ISREG(st.st_mode))
        return error_set(err, "%s: is no regular file", path), -EINVAL;
    if (!file_is_private(&st, geteuid()))
        return error_set(err,
                         "%s: others than its owner may read this private key (mode %04o); "
                         "correct it with: chmod 600 %s",
                         path, (unsigned)(st.st_mode & 07777), path),
               -EACCES;
    return 0;
}

static int load_pair(struct server_files *f, const struct crypto_ca *vendor_ca,
                     struct wall_time now, struct error *err)
{
    int r = server_license_read(&f->license, f->cert, vendor_ca, now, err);
    char date[32];
    if (r == 1)
        return error_set(err, "%s: it expired on %s", f->cert_path,
                         wall_format(f->license.not_after, date)),
               -EKEYEXPIRED;
    // A clock that is somewhat slow is told about by the verdict.
    if (r == 2 && now.s < f->license.not_before.s - CLOCK_MARK_TOLERANCE_S)
        return error_set(err, "%s: it is not valid before %s (is this host's clock right?)",
                         f->cert_path, wall_format(f->license.not_before, date)),
               -EKEYREJECTED;
    if (r < 0)
        return error_prefix(err, "%s", f->cert_path), r;
    if (strcmp(f->license.variant, "cloud-ready") != 0)
        return error_set(err, "%s: it is of the variant %s, which is not used as a file",
                         f->cert_path, f->license.variant),
               -EINVAL;
    r = key_check(f->key_path, err);
    if (r < 0)
        return r;
    r = crypto_key_load(&f->key, f->key_path, err);
    if (r < 0)
        return r;
    if (!crypto_cert_matches_key(f->cert, f->key))
        return error_set(err, "%s does not belong to %s", f->key_path, f->cert_path), -EINVAL;
    f->pem = crypto_cert_pem(f->cert);
    return 0;
}

static void stamp_take(const struct server_files *f, struct server_stamp *out)
{
    const char *const paths[] = {f->cert_path, f->key_path};
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < 2; i++) {
        struct stat st;
        if (stat(paths[i], &st) < 0)
            continue;
        out->files[i].device = st.st_dev;
        out->files[i].inode = st.st_ino;
        out->files[i].bytes = st.st_size;
        out->files[i].changed_s = st.st_ctim.tv_sec;
        out->files[i].changed_ns = st.st_ctim.tv_nsec;
    }
}

bool server_files_changed(const struct server_files *files, struct server_stamp *now)
{
    stamp_take(files, now);
    return memcmp(now, &files->stamp, sizeof *now) != 0;
}

int server_files_load(struct server_files *out, const char *folder,
                      const struct crypto_ca *vendor_ca, struct wall_time now, struct error *err)
{
    *out = (struct server_files){.cert_path = path_join(folder, "server-license.pem"),
                                 .key_path = path_join(folder, "server-license.key")};
    stamp_take(out, &out->stamp);
    int r = crypto_cert_load_file(&out->cert, out->cert_path, err);
    if (r == 0)
        r = load_pair(out, vendor_ca, now, err);
    if (r < 0)
        server_files_fini(out);
    return r;
}

void server_files_fini(struct server_files *files)
{
    free(files->cert_path);
    free(files->key_path);
    free(files->pem);
    crypto_cert_free(&files->cert);
    crypto_key_free(&files->key);
    *files = (struct server_files){0};
}
