#include "services/trust/server.h"

#include "common/core/buf.h"
#include "common/files.h"
#include "common/vendor_ca.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CA_BYTES_MAX (1024 * 1024)

static int read_text(struct buf *out, const char *path, struct error *err)
{
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        int e = errno;
        return error_set(err, "%s: %s", path, strerror(e)), -e;
    }
    char block[4096];
    size_t n;
    while ((n = fread(block, 1, sizeof block, f)) > 0 && out->len <= CA_BYTES_MAX)
        buf_add(out, block, n);
    int failed = ferror(f);
    fclose(f);
    if (failed || out->len == 0 || out->len > CA_BYTES_MAX)
        return error_set(err, "%s: this is no file of CA certificates", path), -EINVAL;
    return 0;
}

int server_vendor_ca(struct crypto_ca **out, char **pem, const char *vendor_ca_path,
                     struct error *err)
{
    struct buf text BUF_CLEANUP = {0};
    int r = 0;
    if (vendor_ca_compiled_in)
        buf_add_str(&text, vendor_ca_compiled_in);
    else if (vendor_ca_path == NULL)
        return error_set(err, "trust.vendor_ca is not set: no vendor CA is known"), -EINVAL;
    else
        r = read_text(&text, vendor_ca_path, err);
    if (r == 0)
        r = crypto_ca_load_pem(out, text.data, text.len, err);
    if (r < 0)
        return error_prefix(err, "the vendor's CA certificate"), r;
    *pem = strdup(text.data);
    if (*pem == NULL)
        abort();
    return 0;
}

static char *join(const char *folder, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", folder, name) < 0)
        abort();
    return path;
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

static int load_pair(struct server_files *f, const struct crypto_cert *cert,
                     const struct crypto_ca *vendor_ca, struct wall_time now, struct error *err)
{
    int r = server_license_read(&f->license, cert, vendor_ca, now, err);
    char date[32];
    if (r == 1)
        return error_set(err, "%s: it expired on %s", f->cert_path,
                         wall_format(f->license.not_after, date)),
               -EKEYEXPIRED;
    if (r == 2)
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
    if (!crypto_cert_matches_key(cert, f->key))
        return error_set(err, "%s does not belong to %s", f->key_path, f->cert_path), -EINVAL;
    f->pem = crypto_cert_pem(cert);
    return 0;
}

int server_files_load(struct server_files *out, const char *folder,
                      const struct crypto_ca *vendor_ca, struct wall_time now, struct error *err)
{
    *out = (struct server_files){.cert_path = join(folder, "server-license.pem"),
                                 .key_path = join(folder, "server-license.key")};
    struct crypto_cert *cert = NULL;
    int r = crypto_cert_load_file(&cert, out->cert_path, err);
    if (r == 0)
        r = load_pair(out, cert, vendor_ca, now, err);
    crypto_cert_free(&cert);
    if (r < 0)
        server_files_fini(out);
    return r;
}

void server_files_fini(struct server_files *files)
{
    free(files->cert_path);
    free(files->key_path);
    free(files->pem);
    crypto_key_free(&files->key);
    *files = (struct server_files){0};
}
