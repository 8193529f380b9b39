// The borrow block of a borrowed license file (borrow.md): what the server adds to the vendor's
// license block. Pure. There is one way to write a given block, and parsing accepts no other.
#pragma once

#include "common/core/buf.h"
#include "common/core/error.h"
#include "common/core/hostid.h"
#include "common/core/times.h"

#include <stdbool.h>
#include <stddef.h>

#define BORROW_SIGN_LABEL "berth-borrow-v1\n"
#define BORROW_BEGIN_LINE "-----BEGIN BORROW-----"
#define BORROW_END_LINE "-----END BORROW-----"
#define BORROW_ID_LEN 32 // lower-case hex

struct borrow_fields {
    char borrow_id[BORROW_ID_LEN + 1];
    char uuid[37]; // lower case
    char feature[65];
    char host_id[HOSTID_MAX + 1];             // as hostid_parse writes it
    struct wall_time valid_from, valid_until; // half open
    struct wall_time issued;
};

// Appends the block, without its BEGIN and END lines.
void borrow_block_write(const struct borrow_fields *fields, struct buf *out);
// The same with BEGIN and END lines and the server's signature: what stands in the file.
void borrow_block_write_signed(const struct borrow_fields *fields, const uint8_t *signature,
                               size_t signature_len, struct buf *out);
// Of a block, normalised, without BEGIN and END lines. 0, or -EINVAL with what is wrong.
int borrow_block_parse(const char *block, size_t len, struct borrow_fields *out, struct error *err);
