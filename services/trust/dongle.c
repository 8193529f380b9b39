#include "services/trust/dongle.h"

#include "services/trust/core/clock_mark.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RANDOM_BYTES 32
#define BUFFER_BYTES 8192

static const char *const reasons[] = {
    [DONGLE_PROVEN] = "",
    [DONGLE_ABSENT] = "dongle-absent",
    [DONGLE_BUSY] = "dongle-busy",
    [DONGLE_NO_PERMISSION] = "dongle-no-permission",
    [DONGLE_UNSUPPORTED] = "dongle-unsupported",
    [DONGLE_CERTIFICATE] = "certificate",
    [DONGLE_PROOF_FAILED] = "proof-failed",
    [DONGLE_CLOCK] = "clock",
    [DONGLE_EXPIRED] = "expired",
};

static const char *const advices[] = {
    [DONGLE_PROVEN] = "",
    [DONGLE_ABSENT] = "Plug in the dongle of this server.",
    [DONGLE_BUSY] = "Another program holds the dongle, mostly pcscd or scdaemon: stop it "
                    "(systemctl disable --now pcscd.socket pcscd).",
    [DONGLE_NO_PERMISSION] = "This process may not open the USB device: install the udev rule "
                             "70-berth-dongle.rules and add its group to the process.",
    [DONGLE_UNSUPPORTED] = "Use a token with the PIV application and an APDU-level reader, such as "
                           "a YubiKey or a Nitrokey.",
    [DONGLE_CERTIFICATE] = "Plug in the dongle that the vendor provisioned, or ask the vendor.",
    [DONGLE_PROOF_FAILED] = "The token does not have the key of its certificate, or is damaged: "
                            "ask the vendor.",
    [DONGLE_CLOCK] = "Set this host's clock right.",
    [DONGLE_EXPIRED] = "Ask the vendor for a new server license.",
};

const char *dongle_reason(enum dongle_outcome outcome)
{
    return reasons[outcome];
}

const char *dongle_advice(enum dongle_outcome outcome)
{
    return advices[outcome];
}

// What went wrong below the level of APDUs.
enum link {
    LINK_GOOD,
    LINK_GONE,   // removed, or no card in the reader
    LINK_SILENT, // no answer in time
    LINK_FAILED, // the reader says so
    LINK_BROKEN, // not CCID
};

struct frame {
    uint8_t bytes[BUFFER_BYTES];
    struct ccid_answer answer;
};

static enum link link_of(int r)
{
    return r == -ENODEV ? LINK_GONE : r == -ETIMEDOUT ? LINK_SILENT : LINK_BROKEN;
}

static enum link receive(struct dongle *d, struct frame *in, enum ccid_message type, uint8_t seq,
                         int64_t deadline_ms)
{
    static const enum link links[] = {
        [CCID_DONE] = LINK_GOOD,
        [CCID_NO_CARD] = LINK_GONE,
        [CCID_FAILED] = LINK_FAILED,
        [CCID_MALFORMED] = LINK_BROKEN,
    };
    unsigned skipped = 0;
    for (;;) {
        int64_t left = deadline_ms - d->io.now_ms(d->io.ctx);
        if (left <= 0)
            return LINK_SILENT;
        if (left > DONGLE_TRANSFER_MS)
            left = DONGLE_TRANSFER_MS;
        int n = d->io.receive(d->io.ctx, in->bytes, sizeof in->bytes, left);
        if (n < 0)
            return link_of(n);
        enum ccid_outcome outcome = CCID_STALE;
        if (n > 0)
            outcome = ccid_parse(&in->answer, in->bytes, (size_t)n, type, seq);
        if (outcome == CCID_TIME_EXTENSION)
            continue;
        if (outcome != CCID_STALE)
            return links[outcome];
        if (++skipped > DONGLE_SKIPPED_MAX)
            return LINK_BROKEN;
    }
}

static enum link transact(struct dongle *d, struct frame *in, enum ccid_message type, uint8_t param,
                          const uint8_t *data, size_t len, int64_t within_ms)
{
    uint8_t out[CCID_FRAME_BYTES_MAX];
    uint8_t seq = d->seq++;
    int64_t deadline = d->io.now_ms(d->io.ctx) + within_ms;
    size_t n = ccid_build(out, sizeof out, type, seq, param, data, len);
    int r = d->io.send(d->io.ctx, out, n, DONGLE_TRANSFER_MS);
    if (r < 0)
        return link_of(r);
    bool has_data = type == CCID_XFR_BLOCK || type == CCID_ICC_POWER_ON;
    return receive(d, in, has_data ? CCID_DATA_BLOCK : CCID_SLOT_STATUS, seq, deadline);
}

static enum link power_on(struct dongle *d, struct frame *in)
{
    uint8_t selects[3];
    size_t n = ccid_power_selects(&d->reader, selects);
    enum link link = LINK_FAILED;
    for (size_t i = 0; i < n && link == LINK_FAILED; i++) {
        link = transact(d, in, CCID_ICC_POWER_ON, selects[i], NULL, 0, DONGLE_COMMAND_MS);
        if (link == LINK_FAILED && i + 1 < n)
            transact(d, in, CCID_ICC_POWER_OFF, 0, NULL, 0, DONGLE_TRANSFER_MS);
    }
    return link;
}

// One command with its whole answer. *step is set when the link is good.
static enum link command_run(struct dongle *d, struct piv_command *c, enum piv_step *step)
{
    struct frame in;
    uint8_t apdu[PIV_APDU_BYTES_MAX];
    // Many quick answers must not last longer than one slow one may.
    int64_t deadline = d->io.now_ms(d->io.ctx) + DONGLE_COMMAND_MS;
    c->t0 = d->t0;
    *step = PIV_MORE;
    while (*step == PIV_MORE) {
        int64_t left = deadline - d->io.now_ms(d->io.ctx);
        size_t n = piv_next(c, apdu);
        enum link link = transact(d, &in, CCID_XFR_BLOCK, 0, apdu, n, left);
        if (link != LINK_GOOD)
            return link;
        *step = piv_feed(c, in.answer.data, in.answer.len);
    }
    return LINK_GOOD;
}

static enum dongle_outcome link_outcome(enum link link, enum dongle_outcome otherwise,
                                        struct error *err)
{
    static const char *const texts[] = {
        [LINK_GONE] = "the token was removed, or there is no card in the reader",
        [LINK_SILENT] = "the token does not answer; unplug it and plug it in again",
        [LINK_FAILED] = "the reader reports that the card does not work",
        [LINK_BROKEN] = "what the token sends is not as the CCID standard wants it",
    };
    error_set(err, "%s", texts[link]);
    if (link == LINK_GONE)
        return DONGLE_ABSENT;
    return link == LINK_SILENT && otherwise != DONGLE_PROOF_FAILED ? DONGLE_ABSENT : otherwise;
}

// A reader at the TPDU level leaves the protocol to its host: of T=0 nothing is left to do.
static enum dongle_outcome start_card(struct dongle *d, struct error *err)
{
    struct frame in;
    enum ccid_level level = ccid_reader_level(&d->reader);
    enum link link = level == CCID_LEVEL_OTHER ? LINK_BROKEN : power_on(d, &in);
    if (link != LINK_GOOD && (level == CCID_LEVEL_APDU || link == LINK_GONE))
        return link_outcome(link, DONGLE_UNSUPPORTED, err);
    d->t0 = level == CCID_LEVEL_TPDU && link == LINK_GOOD &&
            ccid_atr_is_t0(in.answer.data, in.answer.len);
    if (level == CCID_LEVEL_APDU || d->t0)
        return DONGLE_PROVEN;
    error_set(err,
              "the reader works below the APDU level, at the TPDU level (dwFeatures %08X), "
              "which is supported only for cards with the protocol T=0",
              d->reader.features);
    return DONGLE_UNSUPPORTED;
}

static enum dongle_outcome select_piv(struct dongle *d, struct error *err)
{
    struct piv_command c;
    enum piv_step step;
    enum dongle_outcome outcome = start_card(d, err);
    if (outcome != DONGLE_PROVEN)
        return outcome;
    piv_select(&c);
    enum link link = command_run(d, &c, &step);
    if (link != LINK_GOOD)
        return link_outcome(link, DONGLE_UNSUPPORTED, err);
    if (step == PIV_COMPLETE)
        return DONGLE_PROVEN;
    error_set(err, "a smart card, but without the PIV application (status %04X)", c.status);
    return DONGLE_UNSUPPORTED;
}

static enum dongle_outcome read_certificate(struct dongle *d, struct error *err)
{
    struct piv_command c;
    enum piv_step step;
    const uint8_t *der;
    size_t len;
    piv_get_certificate(&c);
    enum link link = command_run(d, &c, &step);
    if (link != LINK_GOOD)
        return link_outcome(link, DONGLE_UNSUPPORTED, err);
    if (step == PIV_REFUSED)
        return error_set(err,
                         "the token has no Card Authentication certificate in slot 9E "
                         "(status %04X)",
                         c.status),
               DONGLE_CERTIFICATE;
    enum piv_object object = PIV_OBJECT_MALFORMED;
    if (step == PIV_COMPLETE)
        object = piv_certificate(c.answer, c.answer_len, &der, &len);
    if (object == PIV_OBJECT_COMPRESSED)
        return error_set(err, "the certificate in slot 9E is compressed (gzip), which is not "
                              "supported: import it uncompressed"),
               DONGLE_CERTIFICATE;
    if (object != PIV_OBJECT_GOOD || crypto_cert_load_der(&d->cert, der, len, err) < 0)
        return error_set(err, "what the token has in slot 9E is no certificate"),
               DONGLE_CERTIFICATE;
    return DONGLE_PROVEN;
}

static enum dongle_outcome validity(const struct dongle *d, struct wall_time now, struct error *err)
{
    char date[32];
    if (now.s >= d->license.not_after.s)
        return error_set(err, "the server license %s expired on %s", d->license.server_id,
                         wall_format(d->license.not_after, date)),
               DONGLE_EXPIRED;
    if (now.s < d->license.not_before.s - CLOCK_MARK_TOLERANCE_S)
        return error_set(err, "the server license %s is not valid before %s", d->license.server_id,
                         wall_format(d->license.not_before, date)),
               DONGLE_CLOCK;
    return DONGLE_PROVEN;
}

enum dongle_outcome dongle_start(struct dongle *d, const struct dongle_io *io,
                                 const struct ccid_reader *reader, struct error *err)
{
    *d = (struct dongle){.io = *io, .reader = *reader};
    // A late answer to a session before this one should not look like one to this.
    crypto_random(&d->seq, sizeof d->seq);
    if (reader->max_message < CCID_FRAME_BYTES_MAX)
        return error_set(err, "the reader takes no short APDU in one message"), DONGLE_UNSUPPORTED;
    return select_piv(d, err);
}

enum dongle_outcome dongle_command(struct dongle *d, struct piv_command *c, struct error *err)
{
    enum piv_step step;
    enum link link = command_run(d, c, &step);
    if (link != LINK_GOOD)
        return link_outcome(link, DONGLE_UNSUPPORTED, err);
    if (step == PIV_COMPLETE)
        return DONGLE_PROVEN;
    error_set(err, "the token refuses command %02X (status %04X)", c->ins, c->status);
    return DONGLE_UNSUPPORTED;
}

enum dongle_outcome dongle_open(struct dongle *d, const struct dongle_io *io,
                                const struct ccid_reader *reader, const struct crypto_ca *vendor_ca,
                                struct wall_time now, struct error *err)
{
    enum dongle_outcome outcome = dongle_start(d, io, reader, err);
    if (outcome == DONGLE_PROVEN)
        outcome = read_certificate(d, err);
    if (outcome != DONGLE_PROVEN)
        return outcome;
    if (server_license_read(&d->license, d->cert, vendor_ca, now, err) < 0)
        return DONGLE_CERTIFICATE;
    if (strcmp(d->license.variant, "on-premises") != 0)
        return error_set(err,
                         "the server license %s is of the variant %s, which is not used on a "
                         "dongle",
                         d->license.server_id, d->license.variant),
               DONGLE_CERTIFICATE;
    if (crypto_cert_key_kind(d->cert) == KEY_OTHER)
        return error_set(err, "the key of %s is neither ECDSA P-256 nor RSA-2048",
                         d->license.server_id),
               DONGLE_CERTIFICATE;
    return validity(d, now, err);
}

enum dongle_outcome dongle_sign(struct dongle *d, const uint8_t digest[static 32],
                                uint8_t out[static DONGLE_SIGNATURE_BYTES_MAX], size_t *out_len,
                                struct error *err)
{
    struct piv_command c;
    enum piv_step step;
    const uint8_t *signature;
    bool rsa = crypto_cert_key_kind(d->cert) == KEY_RSA_2048;
    piv_sign(&c, rsa ? PIV_RSA_2048 : PIV_P256, digest);
    enum link link = command_run(d, &c, &step);
    if (link != LINK_GOOD)
        return link_outcome(link, DONGLE_PROOF_FAILED, err);
    if (step != PIV_COMPLETE)
        return error_set(err, "the token %s did not sign with key 9E (status %04X)",
                         d->license.server_id, c.status),
               DONGLE_PROOF_FAILED;
    if (!piv_signature(c.answer, c.answer_len, &signature, out_len) ||
        *out_len > DONGLE_SIGNATURE_BYTES_MAX ||
        !crypto_cert_signed_digest(d->cert, digest, signature, *out_len))
        return error_set(err, "the token's signature is not by the key of %s",
                         d->license.server_id),
               DONGLE_PROOF_FAILED;
    memcpy(out, signature, *out_len);
    return DONGLE_PROVEN;
}

enum dongle_outcome dongle_prove(struct dongle *d, struct wall_time now, struct error *err)
{
    enum dongle_outcome outcome = validity(d, now, err);
    if (outcome != DONGLE_PROVEN)
        return outcome;
    struct buf challenge BUF_CLEANUP = {0};
    uint8_t fresh[RANDOM_BYTES], digest[32], signature[DONGLE_SIGNATURE_BYTES_MAX];
    size_t len;
    crypto_random(fresh, sizeof fresh);
    buf_add_str(&challenge, DONGLE_CHALLENGE_LABEL);
    buf_add_str(&challenge, d->license.server_id);
    buf_add(&challenge, fresh, sizeof fresh);
    crypto_sha256(challenge.data, challenge.len, digest);
    return dongle_sign(d, digest, signature, &len, err);
}

enum dongle_outcome dongle_present(struct dongle *d, struct error *err)
{
    struct frame in;
    enum link link = transact(d, &in, CCID_GET_SLOT_STATUS, 0, NULL, 0, DONGLE_TRANSFER_MS);
    if (link != LINK_GOOD)
        return link_outcome(link, DONGLE_ABSENT, err);
    if (in.answer.inactive)
        return error_set(err, "the token was reset"), DONGLE_ABSENT;
    return DONGLE_PROVEN;
}

void dongle_close(struct dongle *d)
{
    crypto_cert_free(&d->cert);
}
