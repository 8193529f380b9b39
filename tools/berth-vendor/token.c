// Makes the token that is plugged in a dongle: a new key in it, a certificate for that, and a look
// at both with the server's own eyes.
#include "tools/berth-vendor/token.h"

#include "common/core/text.h"
#include "services/trust/core/piv_admin.h"
#include "services/trust/usb_tokens.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_TEXT_MAX 256
#define DER_BYTES_MAX 3000

// What every new token has.
static const char public_default[] = "010203040506070801020304050607080102030405060708";

struct cipher {
    enum piv_cipher id;
    enum crypto_block_cipher block;
    size_t block_bytes;
};

static const struct cipher ciphers[] = {
    {PIV_3DES, BLOCK_3DES, 8},
    {PIV_AES_128, BLOCK_AES_128, 16},
    {PIV_AES_192, BLOCK_AES_192, 16},
    {PIV_AES_256, BLOCK_AES_256, 16},
};

int management_key_read(struct management_key *out, const char *path, struct error *err)
{
    char *text = NULL;
    size_t len = sizeof public_default - 1;
    out->is_default = path == NULL;
    int r = path ? file_read(path, KEY_TEXT_MAX, &text, &len, err) : 0;
    if (r)
        return r;
    while (text && len && strchr(" \r\n", text[len - 1]))
        len--;
    r = hex_decode(text ? text : public_default, len, out->bytes, sizeof out->bytes);
    if (text)
        crypto_wipe(text, len);
    free(text);
    if (r < 16)
        return error_set(err, "%s: not a management key of 32, 48 or 64 hex digits", path), -EINVAL;
    out->len = (size_t)r;
    return 0;
}

// Which cipher the management key is of: makers' metadata say so; older tokens know only 3DES.
static const struct cipher *cipher_of(struct usb_tokens *t)
{
    struct piv_command c;
    struct error ignored = {""};
    enum piv_cipher id = PIV_3DES;
    piv_get_metadata(&c);
    if (dongle_command(&t->dongle, &c, &ignored) != DONGLE_PROVEN ||
        !piv_metadata_cipher(c.answer, c.answer_len, &id))
        id = PIV_3DES;
    const struct cipher *found = ciphers;
    while (found->id != id)
        found++;
    return found;
}

static int authenticate(struct usb_tokens *t, const struct management_key *key, struct error *err)
{
    const struct cipher *cipher = cipher_of(t);
    size_t n = cipher->block_bytes;
    uint8_t witness[PIV_BLOCK_BYTES_MAX], plain[PIV_BLOCK_BYTES_MAX];
    uint8_t challenge[PIV_BLOCK_BYTES_MAX], want[PIV_BLOCK_BYTES_MAX], got[PIV_BLOCK_BYTES_MAX];
    struct piv_command c;
    piv_ask_witness(&c, cipher->id);
    if (dongle_command(&t->dongle, &c, err) != DONGLE_PROVEN)
        return -EIO;
    crypto_random(challenge, sizeof challenge);
    if (!piv_witness(c.answer, c.answer_len, n, witness) ||
        !crypto_block(cipher->block, false, key->bytes, key->len, witness, n, plain) ||
        !crypto_block(cipher->block, true, key->bytes, key->len, challenge, n, want))
        return error_set(err, "the token's management key is of another length"), -EINVAL;
    piv_authenticate(&c, cipher->id, plain, challenge, n);
    if (dongle_command(&t->dongle, &c, err) != DONGLE_PROVEN ||
        !piv_authenticated(c.answer, c.answer_len, n, got) || !crypto_equal(got, want, n))
        return error_set(err, "this is not the token's management key%s",
                         key->is_default ? ": it was changed, give it with --management-key-file"
                                         : ""),
               -EACCES;
    return 0;
}

// Who has a certificate there has a customer's key beside it.
static int check_empty(struct usb_tokens *t, struct error *err)
{
    struct piv_command c;
    struct error ignored = {""};
    const uint8_t *der;
    size_t len;
    piv_get_certificate(&c);
    if (dongle_command(&t->dongle, &c, &ignored) != DONGLE_PROVEN ||
        piv_certificate(c.answer, c.answer_len, &der, &len) == PIV_OBJECT_MALFORMED)
        return 0;
    return error_set(err, "the token has a certificate in slot 9E already; to give it up with its "
                          "key: ykman piv certificates delete 9e"),
           -EEXIST;
}

static int generate(struct usb_tokens *t, struct crypto_key **key, struct error *err)
{
    struct piv_command c;
    uint8_t point[PIV_POINT_BYTES];
    piv_generate(&c);
    if (dongle_command(&t->dongle, &c, err) != DONGLE_PROVEN)
        return error_prefix(err, "no key can be made in slot 9E"), -EIO;
    if (!piv_generated(c.answer, c.answer_len, point) || crypto_public_point(key, point) < 0)
        return error_set(err, "what the token answers is no key of ECDSA P-256"), -EINVAL;
    return 0;
}

static int import(struct usb_tokens *t, const struct crypto_cert *cert, struct error *err)
{
    struct piv_command c;
    uint8_t der[DER_BYTES_MAX];
    size_t len = crypto_cert_der(cert, der, sizeof der);
    if (len == 0 || !piv_put_certificate(&c, der, len))
        return error_set(err, "the certificate is too long for a token"), -EFBIG;
    if (dongle_command(&t->dongle, &c, err) != DONGLE_PROVEN)
        return error_prefix(err, "the certificate cannot be put into slot 9E"), -EIO;
    return usb_tokens_prove(t, err) == DONGLE_PROVEN ? 0 : -EIO;
}

static int provision(struct usb_tokens *t, const struct server_order *order,
                     const struct vendor *vendor, const struct management_key *management,
                     struct crypto_cert **out, struct error *err)
{
    struct crypto_key *key = NULL;
    int r = check_empty(t, err);
    if (!r)
        r = authenticate(t, management, err);
    if (!r)
        r = generate(t, &key, err);
    if (!r)
        r = server_certificate_issue(out, order, vendor, key, err);
    if (!r)
        r = import(t, *out, err);
    crypto_key_free(&key);
    return r;
}

int token_provision(const struct server_order *order, const struct vendor *vendor,
                    const struct management_key *management, struct crypto_cert **out,
                    struct error *err)
{
    struct usb_tokens t = {0};
    struct crypto_ca *ca = NULL;
    char *pem = crypto_cert_pem(vendor->ca_cert);
    int r = crypto_ca_load_pem(&ca, pem, strlen(pem), err);
    free(pem);
    t.vendor_ca = ca;
    enum dongle_outcome outcome = r ? DONGLE_CERTIFICATE : usb_tokens_only(&t, err);
    if (!r && outcome != DONGLE_PROVEN) {
        char found[sizeof err->text];
        snprintf(found, sizeof found, "%s", err->text);
        error_set(err, "--token: %s. %s", found,
                  outcome == DONGLE_ABSENT ? "Plug in the token to be made, alone."
                                           : dongle_advice(outcome));
        r = -ENODEV;
    }
    if (!r)
        r = provision(&t, order, vendor, management, out, err);
    usb_tokens_let_go(&t);
    crypto_ca_free(&ca);
    return r;
}
