#include "common/borrow_file.h"

#include "common/license_load.h"

#include <errno.h>
#include <string.h>

#define ARENA __attribute__((cleanup(arena_free)))
#define CERT __attribute__((cleanup(crypto_cert_free)))

static void add_license(const struct license_block *b, struct buf *out)
{
    size_t label = strlen(LICENSE_SIGN_LABEL);
    buf_add(out, b->signed_text + label, b->signed_len - label);
}

int borrow_file_message(const char *vendor, size_t len, const struct borrow_fields *fields,
                        struct buf *message, struct error *err)
{
    ARENA struct arena *arena = arena_new(16384);
    struct license_file file;
    if (license_file_parse(arena, vendor, len, &file, err))
        return -EINVAL;
    if (file.blocks_len != 1 || file.borrow.line || file.blocks[0].refusal)
        return error_set(err, "this is not one license block with its signature"), -EINVAL;
    add_license(&file.blocks[0], message);
    borrow_block_write(fields, message);
    return 0;
}

// ---- verification ----

// The form: one license block, then the borrow block, then the server license and nothing more.
static int check_form(const struct license_file *f, struct error *err)
{
    if (!f->borrow.line)
        return error_set(err, "this is not a borrowed license file: it has no borrow block"),
               -EINVAL;
    if (f->blocks_len != 1 || f->blocks[0].line > f->borrow.line)
        return error_set(err, "it must hold exactly one license block, before the borrow block"),
               -EINVAL;
    if (f->certificates_len != f->borrow.certificates_before + 1)
        return error_set(err, "after the borrow block must stand exactly one certificate, the "
                              "server license"),
               -EINVAL;
    if (!f->borrow.signature_len)
        return error_set(err, "after the borrow block stands no line 'signature: server …'"),
               -EINVAL;
    return 0;
}

static int check_server(struct borrow_file *out, struct crypto_cert **cert, const char *pem,
                        const struct crypto_ca *vendor_ca, struct error *err)
{
    struct error why = {""};
    int r = crypto_cert_load_pem(cert, pem, strlen(pem), &why);
    // It may have expired: whether its validity covers the period is looked at below.
    if (!r)
        r = server_license_read(&out->server, *cert, vendor_ca, (struct wall_time){0}, &why);
    if (r < 0)
        return error_set(err, "the server license in it: %s", why.text), r;
    return 0;
}

static int check_signature(const struct license_file *f, const struct crypto_cert *cert,
                           struct error *err)
{
    BUF_CLEANUP struct buf message = {0};
    buf_add_str(&message, BORROW_SIGN_LABEL);
    add_license(&f->blocks[0], &message);
    buf_add(&message, f->borrow.block, f->borrow.block_len);
    if (crypto_cert_signed(cert, message.data, message.len, f->borrow.signature,
                           f->borrow.signature_len))
        return 0;
    return error_set(err, "the server's signature does not match: the license block or the borrow "
                          "block was changed or damaged; fetch the file again"),
           -EBADMSG;
}

// The certificate of a license key, if one is needed, must have been good when it was borrowed.
static int check_license(struct borrow_file *out, const char *text, size_t len,
                         const struct crypto_ca *vendor_ca, struct error *err)
{
    const struct license_keys keys = {.trusted = out->server.license_keys,
                                      .trusted_len = out->server.license_keys_len,
                                      .vendor_ca = vendor_ca,
                                      .server_id = out->server.server_id,
                                      .now = out->borrow.issued};
    struct license_set *set;
    license_load_text(&set, text, len, &keys);
    const struct license_record *r = set->records;
    int result = set->records_len == 1 && r->refusal == LICENSE_OK ? 0 : -EBADMSG;
    if (result)
        error_set(err, "the license block: %s", set->records_len ? r->reason : "there is none");
    else
        out->license = r->fields;
    license_set_free(&set);
    return result;
}

static int check_agreement(const struct borrow_file *f, struct error *err)
{
    if (strcmp(f->borrow.uuid, f->license.uuid) || strcmp(f->borrow.feature, f->license.feature))
        return error_set(err, "the borrow block is of another license than the license block"),
               -EBADMSG;
    if (f->borrow.valid_from.s < f->server.not_before.s ||
        f->borrow.valid_until.s > f->server.not_after.s)
        return error_set(err, "the period is not within the validity of the server license"),
               -EBADMSG;
    return 0;
}

int borrow_file_verify(struct borrow_file *out, const char *text, size_t len,
                       const struct crypto_ca *vendor_ca, struct error *err)
{
    ARENA struct arena *arena = arena_new(16384);
    CERT struct crypto_cert *cert = NULL;
    struct license_file f;
    *out = (struct borrow_file){0};
    if (len > BORROW_FILE_MAX_BYTES)
        return error_set(err, "the file is too large for a borrowed license file"), -EFBIG;
    if (license_file_parse(arena, text, len, &f, err))
        return -EINVAL;
    int r = check_form(&f, err);
    if (!r)
        r = check_server(out, &cert, f.certificates[f.certificates_len - 1], vendor_ca, err);
    if (!r)
        r = check_signature(&f, cert, err);
    if (!r)
        r = borrow_block_parse(f.borrow.block, f.borrow.block_len, &out->borrow, err);
    if (!r)
        r = check_license(out, text, (size_t)(f.borrow.raw - text), vendor_ca, err);
    return r ? r : check_agreement(out, err);
}

enum borrow_file_use borrow_file_use(const struct borrow_file *f, const char *const *host_ids,
                                     size_t host_ids_len, struct wall_time now, struct error *err)
{
    bool own = false;
    char host[HOSTID_MAX + 1], time[32];
    for (size_t i = 0; i < host_ids_len && !own; i++)
        own = !hostid_parse(host_ids[i], strlen(host_ids[i]), host, NULL) &&
              !strcmp(host, f->borrow.host_id);
    if (!own) {
        error_set(err, "it was borrowed for the host %s, which this is not", f->borrow.host_id);
        return BORROW_FILE_OTHER_HOST;
    }
    if (now.s < f->borrow.valid_from.s) {
        error_set(err, "its period begins at %s", wall_format(f->borrow.valid_from, time));
        return BORROW_FILE_NOT_YET;
    }
    if (now.s >= f->borrow.valid_until.s) {
        error_set(err, "its period ended at %s: borrow again",
                  wall_format(f->borrow.valid_until, time));
        return BORROW_FILE_OVER;
    }
    return BORROW_FILE_USABLE;
}
