// What a vendor asks of a PIV token to make it a dongle: commands and the answers to them. Pure.
#pragma once

#include "services/trust/core/piv.h"

#define PIV_BLOCK_BYTES_MAX 16
#define PIV_POINT_BYTES 65

// Of the management key (SP 800-78): what proves to the token that it may be changed.
enum piv_cipher { PIV_3DES = 0x03, PIV_AES_128 = 0x08, PIV_AES_192 = 0x0A, PIV_AES_256 = 0x0C };

void piv_get_metadata(struct piv_command *c); // of the management key; only some makers know it
// False: not an answer to that, or a cipher of another kind.
bool piv_metadata_cipher(const uint8_t *data, size_t len, enum piv_cipher *out);

// Mutual authentication: the token sends a block that it has encrypted, gets it back decrypted with
// another block, and returns that one encrypted.
void piv_ask_witness(struct piv_command *c, enum piv_cipher cipher);
bool piv_witness(const uint8_t *data, size_t len, size_t block,
                 uint8_t out[static PIV_BLOCK_BYTES_MAX]);
void piv_authenticate(struct piv_command *c, enum piv_cipher cipher, const uint8_t *witness,
                      const uint8_t *challenge, size_t block);
bool piv_authenticated(const uint8_t *data, size_t len, size_t block,
                       uint8_t out[static PIV_BLOCK_BYTES_MAX]);

// A new ECDSA P-256 key in slot 9E, made in the token: its public point is the answer.
void piv_generate(struct piv_command *c);
bool piv_generated(const uint8_t *data, size_t len, uint8_t out[static PIV_POINT_BYTES]);

// False: the certificate is too long.
bool piv_put_certificate(struct piv_command *c, const uint8_t *der, size_t len);
