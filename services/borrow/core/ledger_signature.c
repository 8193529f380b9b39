#include "common/core/text.h"
#include "services/borrow/core/ledger.h"

#include <errno.h>
#include <string.h>

#define FORMAT_LINE "berth-ledger-signature 1\n"
#define SIGNATURE_KEY "signature: "
#define PEM_BEGIN "-----BEGIN CERTIFICATE-----\n"
#define PEM_END "\n-----END CERTIFICATE-----\n"

static bool text_begins(const char *text, size_t len, const char *with)
{
    return len >= strlen(with) && !memcmp(text, with, strlen(with));
}

// The length of the PEM certificate that the text begins with; 0 if it does not.
static size_t pem_len(const char *text, size_t len)
{
    if (!text_begins(text, len, PEM_BEGIN))
        return 0;
    for (size_t i = strlen(PEM_BEGIN); i + strlen(PEM_END) <= len; i++) {
        if (text_begins(text + i, len - i, PEM_END))
            return i + strlen(PEM_END);
    }
    return 0;
}

int ledger_signature_encode(const struct ledger_signature *signature, struct buf *out)
{
    char base64[4 * ((LEDGER_SIGNATURE_BYTES_MAX + 2) / 3) + 1];
    const struct ledger_text *pem = &signature->certificate;
    if (!signature->len || signature->len > LEDGER_SIGNATURE_BYTES_MAX || !pem->len ||
        pem_len(pem->p, pem->len) != pem->len)
        return -EINVAL;
    base64_encode(signature->bytes, signature->len, base64);
    size_t used = strlen(FORMAT_LINE SIGNATURE_KEY) + strlen(base64) + 1 + pem->len;
    if (used >= LEDGER_SIGNATURE_FILE_BYTES)
        return -EINVAL;
    buf_printf(out, FORMAT_LINE SIGNATURE_KEY "%s\n", base64);
    buf_add(out, pem->p, pem->len);
    // Always as long as any other.
    size_t padding = LEDGER_SIGNATURE_FILE_BYTES - 1 - used;
    buf_reserve(out, padding + 1);
    memset(out->data + out->len, '#', padding);
    out->len += padding;
    buf_add_char(out, '\n');
    return 0;
}

static bool signature_read(struct ledger_signature *out, const char *text, size_t len)
{
    const char *p = text + strlen(FORMAT_LINE), *end = text + len;
    if (!text_begins(p, (size_t)(end - p), SIGNATURE_KEY))
        return false;
    p += strlen(SIGNATURE_KEY);
    const char *lf = memchr(p, '\n', (size_t)(end - p));
    int n = lf ? base64_decode(p, (size_t)(lf - p), out->bytes, sizeof out->bytes) : -EINVAL;
    if (n <= 0)
        return false;
    out->len = (size_t)n;
    out->certificate.p = lf + 1;
    out->certificate.len = pem_len(lf + 1, (size_t)(end - lf - 1));
    return out->certificate.len > 0;
}

int ledger_signature_decode(struct ledger_signature *out, const char *text, size_t len,
                            struct error *err)
{
    struct buf again BUF_CLEANUP = {0};
    *out = (struct ledger_signature){0};
    if (len != LEDGER_SIGNATURE_FILE_BYTES) {
        error_set(err, "it has %zu bytes, not %d", len, LEDGER_SIGNATURE_FILE_BYTES);
        return -EINVAL;
    }
    if (!text_begins(text, len, FORMAT_LINE))
        return error_set(err, "the first line is not 'berth-ledger-signature 1'"), -EINVAL;
    if (!signature_read(out, text, len) || ledger_signature_encode(out, &again) ||
        memcmp(again.data, text, len))
        return error_set(err, "it is malformed"), -EINVAL;
    return 0;
}

void ledger_signed_text(struct ledger_text certificate, const uint8_t ledger_sha256[static 32],
                        struct buf *out)
{
    char hex[65];
    hex_encode(ledger_sha256, 32, hex);
    buf_printf(out, "ledger-sha256: %s\ncertificate: %zu\n", hex, certificate.len);
    buf_add(out, certificate.p, certificate.len);
}

int ledger_open(struct ledger *out, struct arena *arena, struct ledger_text ledger,
                struct ledger_text signature, ledger_verify_fn *verify, void *ctx,
                struct error *err)
{
    struct ledger_signature sig;
    *out = (struct ledger){0};
    int r = ledger_signature_decode(&sig, signature.p, signature.len, err);
    if (r)
        return error_prefix(err, "the signature file"), r;
    if (ledger.len > LEDGER_BYTES_MAX)
        return error_set(err, "the ledger is too large"), -EINVAL;
    r = verify(ctx, &sig, ledger, err);
    if (r)
        return error_prefix(err, "the ledger and its signature do not belong together"), r;
    r = ledger_decode(out, arena, ledger.p, ledger.len, err);
    if (r)
        error_prefix(err, "the ledger");
    return r;
}
