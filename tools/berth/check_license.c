// berth check-license: would the server accept these files, and if not, why? Reads files only.
#include "tools/berth/client.h"

#include "common/borrow_file.h"
#include "common/clock.h"
#include "common/files.h"
#include "common/license_load.h"
#include "common/server_license.h"
#include "common/vendor_ca.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct trust_source {
    const char *ca, *server_license, *server_id, *host_id, *config_file;
    struct config *config;
    char path[4096]; // of the configured server license
    struct crypto_ca *vendor_ca;
    struct server_license license; // license_keys_len 0: none
};

static int read_arguments(struct trust_source *t, int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},    {"ca", required_argument, NULL, 'a'},
        {"server-id", required_argument, NULL, 'i'},
        {"server-license", required_argument, NULL, 'l'},
        {"host-id", required_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    int c;
    optind = 0;
    while ((c = getopt_long(argc, argv, "c:", options, NULL)) != -1) {
        switch (c) {
        case 'c': t->config_file = optarg; break;
        case 'a': t->ca = optarg; break;
        case 'i': t->server_id = optarg; break;
        case 'l': t->server_license = optarg; break;
        case 'h': t->host_id = optarg; break;
        default: return BERTH_USAGE;
        }
    }
    if (optind < argc)
        return BERTH_OK;
    fprintf(stderr, "berth check-license: no file is given\n");
    return BERTH_USAGE;
}

static int read_config(struct trust_source *t, struct error *err)
{
    bool told = t->ca || t->server_license;
    if (!t->config_file && (told || !config_lies_beside()))
        return 0;
    int r = config_load(&t->config, t->config_file, err);
    if (r)
        return r;
    if (!t->ca)
        t->ca = t->config->trust.vendor_ca;
    if (!t->server_license && t->config->trust.server_license) {
        snprintf(t->path, sizeof t->path, "%s/server-license.pem", t->config->trust.server_license);
        t->server_license = t->path;
    }
    return 0;
}

static int read_server_license(struct trust_source *t, struct error *err)
{
    if (!t->server_license)
        return 0;
    if (!t->vendor_ca)
        return error_set(err, "the server license needs the vendor's CA: give --ca FILE"), -EINVAL;
    struct crypto_cert *cert = NULL;
    int r = crypto_cert_load_file(&cert, t->server_license, err);
    if (r)
        return r;
    r = server_license_read(&t->license, cert, t->vendor_ca, clock_wall(), err);
    crypto_cert_free(&cert);
    if (r)
        error_prefix(err, "%s", t->server_license);
    if (r > 0) // it will not serve, but its keys are the vendor's
        fprintf(stderr, "berth check-license: warning: %s\n", err->text);
    else if (!r && !t->server_id)
        t->server_id = t->license.server_id;
    return r < 0 ? r : 0;
}

static int read_trust(struct trust_source *t, struct error *err)
{
    int r = read_config(t, err);
    if (!r && t->ca)
        r = crypto_ca_load_file(&t->vendor_ca, t->ca, err);
    else if (!r && vendor_ca_compiled_in)
        r = crypto_ca_load_pem(&t->vendor_ca, vendor_ca_compiled_in, strlen(vendor_ca_compiled_in),
                               err);
    return r ? r : read_server_license(t, err);
}

static int print_record(const struct trust_source *t, const char *path,
                        const struct license_record *record)
{
    const struct license_fields *f = &record->fields;
    char modules[12], until[32];
    if (record->line)
        printf("%s:%u: ", path, record->line);
    else
        printf("%s: ", path);
    if (record->refusal == LICENSE_OK) {
        struct wall_time now = clock_wall();
        printf("ok: %s %s %s, modules \"%s\", %u seats, %s, %s%s\n", f->feature, f->version_text,
               edition_name(f->edition), modules_format(f->modules, modules), f->count, f->uuid,
               f->valid_until.s == WALL_MAX.s    ? "unlimited"
               : f->valid_until.s <= now.s       ? "EXPIRED at "
               : f->valid_from.s > now.s         ? "not valid yet, until "
                                                 : "valid until ",
               f->valid_until.s == WALL_MAX.s ? "" : wall_format(f->valid_until, until));
        return BERTH_OK;
    }
    printf("refused: %s: %s\n", license_refusal_name(record->refusal), record->reason);
    if (record->refusal == LICENSE_UNKNOWN_KEY && !t->license.license_keys_len)
        fputs("berth check-license: which license keys are trusted is in the server license: give "
              "-c FILE, or --ca and --server-license\n", stderr);
    return BERTH_REFUSED;
}

static int verify_borrowed(const struct trust_source *t, const char *path, struct borrow_file *file,
                           struct error *err)
{
    char *text = NULL;
    size_t len = 0;
    if (!t->vendor_ca)
        return error_set(err, "it can be checked with the vendor's CA alone: give --ca FILE"),
               -EINVAL;
    int r = file_read(path, BORROW_FILE_MAX_BYTES, &text, &len, err);
    if (!r)
        r = borrow_file_verify(file, text, len, t->vendor_ca, err);
    free(text);
    if (!r && t->server_id && strcmp(t->server_id, file->server.server_id))
        return error_set(err, "it was lent by the server %s", file->server.server_id), -EINVAL;
    return r;
}

// Of a file that a server has lent, which is for one host and one period.
static int check_borrowed(const struct trust_source *t, const char *path)
{
    struct borrow_file file;
    struct error err = {""};
    char from[32], until[32];
    if (verify_borrowed(t, path, &file, &err)) {
        printf("%s: refused: %s\n", path, err.text);
        return BERTH_REFUSED;
    }
    const char *host = t->host_id ? t->host_id : file.borrow.host_id;
    enum borrow_file_use use = borrow_file_use(&file, &host, 1, clock_wall(), &err);
    if (use == BORROW_FILE_OTHER_HOST || use == BORROW_FILE_OVER) {
        printf("%s: refused: %s\n", path, err.text);
        return BERTH_REFUSED;
    }
    printf("%s: ok: borrowed %s %s %s for host %s, %s from %s until %s, %s, server %s\n", path,
           file.license.feature, file.license.version_text, edition_name(file.license.edition),
           file.borrow.host_id, use ? "not yet valid," : "valid",
           wall_format(file.borrow.valid_from, from), wall_format(file.borrow.valid_until, until),
           file.borrow.uuid, file.server.server_id);
    return BERTH_OK;
}

static int check_file(const struct trust_source *t, const char *path)
{
    struct license_keys keys = {
        .trusted = t->license.license_keys,
        .trusted_len = t->license.license_keys_len,
        .vendor_ca = t->vendor_ca,
        .server_id = t->server_id,
        .now = clock_wall(),
    };
    struct license_set *set = NULL;
    license_load_file(&set, path, &keys, NULL);
    int status = BERTH_OK;
    bool borrowed = set->records_len == 1 && set->records[0].refusal == LICENSE_BORROWED;
    if (borrowed)
        status = check_borrowed(t, path);
    for (size_t i = 0; i < set->records_len && !borrowed; i++) {
        if (print_record(t, path, &set->records[i]))
            status = BERTH_REFUSED;
    }
    if (!set->records_len)
        printf("%s: ok, but it holds no license\n", path);
    license_set_free(&set);
    return status;
}

int command_check_license(int argc, char **argv)
{
    struct trust_source trust = {0};
    struct error err = {""};
    int status = read_arguments(&trust, argc, argv);
    if (status)
        return status;
    if (read_trust(&trust, &err)) {
        fprintf(stderr, "berth check-license: %s\n", err.text);
        status = BERTH_REFUSED;
    } else {
        for (int i = optind; i < argc; i++) // all of them, whatever the first ones say
            status |= check_file(&trust, argv[i]);
    }
    crypto_ca_free(&trust.vendor_ca);
    config_free(&trust.config);
    return status;
}
