// Borrowed license files (borrow.md): verified with the vendor's CA alone, offline. For the server,
// the tools and clients.
#pragma once

#include "common/core/borrow_block.h"
#include "common/core/license_block.h"
#include "common/server_license.h"

#define BORROW_FILE_MAX_BYTES (256 * 1024)

struct borrow_file {
    struct borrow_fields borrow;
    struct license_fields license;
    struct server_license server; // of the certificate that signed; its validity covers the period
};

// Whether the file is what a server of the vendor has lent: server license → its server ID is that
// of the license block → license block → borrow block. It does not depend on the time, so that an
// old file can be verified too. 0, or negative with what is wrong.
int borrow_file_verify(struct borrow_file *out, const char *text, size_t len,
                       const struct crypto_ca *vendor_ca, struct error *err);

enum borrow_file_use {
    BORROW_FILE_USABLE = 0,
    BORROW_FILE_OTHER_HOST, // none of the host IDs is the one that it is bound to
    BORROW_FILE_NOT_YET,
    BORROW_FILE_OVER,
};
// Of a verified file. host_ids in any spelling of hostid_parse. err says why not.
enum borrow_file_use borrow_file_use(const struct borrow_file *file, const char *const *host_ids,
                                     size_t host_ids_len, struct wall_time now, struct error *err);

// What the server signs, after BORROW_SIGN_LABEL: the license block and the borrow block, both
// normalised. vendor is the text that the file will begin with: exactly one license block, its
// signature line, and the certificate of the license key where one is needed. Appends to message.
int borrow_file_message(const char *vendor, size_t len, const struct borrow_fields *fields,
                        struct buf *message, struct error *err);
