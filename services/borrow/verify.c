#include "services/borrow/verify.h"

#include "common/server_license.h"

#include <errno.h>
#include <string.h>

static int verify_certificate(const struct ledger_verifier *v, struct crypto_cert **cert,
                              struct ledger_text pem, struct error *err)
{
    struct server_license license;
    struct error why = {""};
    int r = crypto_cert_load_pem(cert, pem.p, pem.len, &why);
    // The time means nothing here: an expired certificate is as good.
    if (!r)
        r = server_license_read(&license, *cert, v->vendor_ca, crypto_cert_not_before(*cert), &why);
    if (r < 0)
        return error_set(err, "the signer's certificate: %s", why.text), r;
    if (strcmp(license.server_id, v->server_id)) {
        error_set(err, "it is signed by the server %s, and this is %s", license.server_id,
                  v->server_id);
        return -EACCES;
    }
    return 0;
}

static int verify(void *ctx, const struct ledger_signature *signature, struct ledger_text ledger,
                  struct error *err)
{
    uint8_t hash[32];
    struct buf message BUF_CLEANUP = {0};
    struct crypto_cert *cert __attribute__((cleanup(crypto_cert_free))) = NULL;
    int r = verify_certificate(ctx, &cert, signature->certificate, err);
    if (r)
        return r;
    crypto_sha256(ledger.p, ledger.len, hash);
    buf_add_str(&message, LEDGER_SIGN_LABEL);
    ledger_signed_text(signature->certificate, hash, &message);
    if (crypto_cert_signed(cert, message.data, message.len, signature->bytes, signature->len))
        return 0;
    return error_set(err, "one of the two was altered"), -EBADMSG;
}

int ledger_read(struct ledger *out, struct arena *arena, const struct ledger_verifier *verifier,
                const struct buf *ledger, const struct buf *signature, struct error *err)
{
    struct ledger_verifier v = *verifier;
    int r = ledger_open(out, arena, (struct ledger_text){ledger->data, ledger->len},
                        (struct ledger_text){signature->data, signature->len}, verify, &v, err);
    if (!r && strcmp(out->server_id, v.server_id))
        return error_set(err, "the ledger is of the server %s", out->server_id), -EACCES;
    return r;
}
