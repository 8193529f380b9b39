// The emulated token from inside: token_model.c (the card as it is used), token_admin.c (as it is
// made).
#pragma once

#include "common/crypto_internal.h"
#include "tests/component/token_model.h"

#define QUEUE_MAX 32

struct token {
    enum token_fault fault;
    EVP_PKEY *key;
    bool powered, selected, removed, t0;
    struct buf object;  // the answer to GET DATA ...
    int low_len;        // ... and the lower byte of the length in it
    struct buf chained; // data of the parts before
    struct buf left;    // of the answer, for GET RESPONSE
    struct buf old_signature;
    struct buf queue[QUEUE_MAX];
    size_t first, count;
    uint8_t last_seq;
    bool endless; // until the next command

    // Its management: token_admin.c
    uint8_t cipher, management[32], witness[16];
    bool asked, authenticated;
};

void token_add_tlv(struct buf *out, uint8_t tag, const void *value, size_t len);
// The new certificate, as it lies in the token.
void token_set_certificate(struct token *t, const void *object, size_t len);
// Commands that change the token, and what is asked before: the answer's data, and its status. 0:
// none of them.
uint16_t token_admin(struct token *t, const uint8_t apdu[static 5], struct buf *out);
