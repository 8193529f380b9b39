// The PIV application of a smart card (NIST SP 800-73) as far as a dongle needs it: commands as
// short APDUs, answers put together, their BER-TLV taken apart. Every answer is untrusted. Pure.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PIV_APDU_BYTES_MAX 261
#define PIV_COMMAND_BYTES_MAX 4096
#define PIV_ANSWER_BYTES_MAX 8192
#define PIV_ROUNDS_MAX 300 // exchanges for one command: an endless 61xx ends

enum piv_algorithm { PIV_RSA_2048 = 0x07, PIV_P256 = 0x11 };

// One command and its whole answer: command chaining, 61xx (GET RESPONSE) and 6Cxx inside.
struct piv_command {
    uint8_t ins, p1, p2;
    uint8_t data[PIV_COMMAND_BYTES_MAX];
    size_t len, sent; // of data: all, and what the card has accepted
    size_t pending;   // bytes of data in the APDU under way
    bool t0;          // APDUs as TPDUs of T=0: for its user to set before the first
    uint8_t le;
    bool get_response, again_used;
    unsigned rounds;
    uint16_t status; // of the last answer
    uint8_t answer[PIV_ANSWER_BYTES_MAX];
    size_t answer_len;
};

enum piv_step {
    PIV_MORE,      // another APDU is to be sent
    PIV_COMPLETE,  // 9000
    PIV_REFUSED,   // the card's status says no
    PIV_MALFORMED, // no APDU answer, too long, or without end
};

// len is at most PIV_COMMAND_BYTES_MAX.
void piv_command_init(struct piv_command *c, uint8_t ins, uint8_t p1, uint8_t p2,
                      const uint8_t *data, size_t len);
void piv_select(struct piv_command *c);
void piv_get_certificate(struct piv_command *c); // 5FC101, of key 9E
// GENERAL AUTHENTICATE with key 9E over a SHA-256 hash, for RSA padded as PKCS #1 v1.5 wants.
void piv_sign(struct piv_command *c, enum piv_algorithm algorithm, const uint8_t hash[static 32]);

// The APDU to send now. Returns its length.
size_t piv_next(struct piv_command *c, uint8_t out[static PIV_APDU_BYTES_MAX]);
// What the card answered to it, with its status.
enum piv_step piv_feed(struct piv_command *c, const uint8_t *answer, size_t len);

struct piv_tlv {
    uint32_t tag;
    const uint8_t *value;
    size_t len;
};

// Takes the element at *pos and moves *pos behind it; false at the end or if it is malformed.
bool piv_tlv_next(struct piv_tlv *out, const uint8_t *data, size_t len, size_t *pos);

enum piv_object { PIV_OBJECT_GOOD, PIV_OBJECT_MALFORMED, PIV_OBJECT_COMPRESSED };

// The DER certificate in the answer to piv_get_certificate(); within `data`.
enum piv_object piv_certificate(const uint8_t *data, size_t len, const uint8_t **der,
                                size_t *der_len);
// The signature in the answer to piv_sign(); within `data`. False if there is none.
bool piv_signature(const uint8_t *data, size_t len, const uint8_t **signature,
                   size_t *signature_len);
