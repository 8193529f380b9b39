// Reads one license file from disk, and checks it: signature first (trusted keys, or keys with a
// license-key certificate of the vendor CA in the same file), fields second, server ID last.
// May be called on any thread; keeps nothing between calls.
#pragma once

#include "common/core/license_block.h"
#include "common/crypto.h"

#include <stdatomic.h>
#include <sys/stat.h>

struct license_keys {
    const uint8_t (*trusted)[ED25519_PUBLIC_BYTES];
    size_t trusted_len;
    const char *const *revoked; // key ids, 16 hex digits each
    size_t revoked_len;
    const struct crypto_ca *vendor_ca; // NULL: certificates in license files count for nothing
    const char *server_id;             // NULL: any
    struct wall_time now;              // for the certificates
};

struct license_record {
    struct license_fields fields; // filled for LICENSE_OK and LICENSE_SERVER_ID
    char key_id[17];
    uint8_t signature[64];
    const char *block; // the block as it stands in the file, without BEGIN and END lines
    size_t block_len;
    const char *whole; // from the BEGIN line to the signature line, as in the file
    size_t whole_len;
    const char *certificate; // PEM: of its key, where that is what makes it trusted; else NULL
    unsigned line; // of BEGIN; of a refused file: 0
    enum license_refusal refusal;
    char reason[256]; // for people; "" when good
};

// One file: a record for each block. A file that is refused as a whole has exactly one record, with
// line 0.
struct license_set {
    struct license_record *records;
    size_t records_len;
    const char **servers; // the server= lines
    size_t servers_len;
    struct arena *arena; // owns all of it
    atomic_uint refs;
};

// Reads the file (symlinks are followed; only a regular file of at most 1 MiB is accepted, and
// nothing blocks on a FIFO or device) and checks it. Never fails: refusals are in the records.
// *st (may be NULL) is what the read bytes belong to; zeroed if the file could not be opened.
void license_load_file(struct license_set **out, const char *path, const struct license_keys *keys,
                       struct stat *st);
// The same from memory.
void license_load_text(struct license_set **out, const char *text, size_t len,
                       const struct license_keys *keys);
void license_set_free(struct license_set **set);
// One more owner, who calls license_set_free as well; on any thread. A set does not change.
struct license_set *license_set_share(struct license_set *set);
