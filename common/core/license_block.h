// License files (licenses.md, "File format"): finding blocks, normalising, reading fields. Pure;
// the signature is checked by the caller over `signed_text` *before* license_fields_parse is
// called.
#pragma once

#include "common/core/arena.h"
#include "common/core/error.h"
#include "common/core/times.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LICENSE_FILE_MAX_BYTES (1024 * 1024)
#define LICENSE_LINE_MAX_BYTES 4096
#define LICENSE_BLOCKS_MAX 1000
#define LICENSE_SIGN_LABEL "berth-license-v1\n"

// Why a block or file is refused; the names (license_refusal_name) are metric labels and log
// values.
enum license_refusal {
    LICENSE_OK = 0,
    LICENSE_TOO_LARGE,   // "too-large": file, line or number of blocks
    LICENSE_ENCODING,    // "encoding": not UTF-8, or a NUL
    LICENSE_SYNTAX,      // "syntax": text outside blocks that must not be there, END missing, …
    LICENSE_FORMAT,      // "format": a higher format
    LICENSE_FIELD,       // "field": required one missing, duplicate, or a bad value
    LICENSE_MUST,        // "must": an unknown must- key
    LICENSE_UNSIGNED,    // "unsigned": no signature line after END
    LICENSE_UNKNOWN_KEY, // "unknown-key": key id not trusted
    LICENSE_REVOKED_KEY, // "revoked-key"
    LICENSE_SIGNATURE,   // "signature": does not verify
    LICENSE_SERVER_ID,   // "server-id": issued for another server
    LICENSE_IO,          // "io": cannot be read
    LICENSE_BORROWED,    // "borrowed": a borrowed license file, which serves its host alone
    LICENSE_REFUSALS
};
const char *license_refusal_name(enum license_refusal r);

struct license_block {
    unsigned line;   // of BEGIN, from 1
    const char *raw; // the bytes after the BEGIN line up to the END line, as in the file
    size_t raw_len;
    const char *whole; // from the BEGIN line to the signature line, as in the file
    size_t whole_len;  // 0: no signature
    char *signed_text;       // LICENSE_SIGN_LABEL and the normalised block; arena
    size_t signed_len;
    char key_id[17]; // of the signature line; "" if there is none
    uint8_t signature[64];
    enum license_refusal refusal; // LICENSE_OK, LICENSE_UNSIGNED, LICENSE_SYNTAX
    char reason[160];
};

// Of a borrowed license file (borrow.md): the block that the server has added.
struct license_borrow_block {
    unsigned line;   // of BEGIN; 0: there is no such block
    const char *raw; // from the BEGIN line on, up to and with the signature line
    size_t raw_len;
    const char *block; // normalised, without BEGIN and END lines; arena
    size_t block_len;
    uint8_t signature[256];
    size_t signature_len;       // 0: it has none, or a bad one
    size_t certificates_before; // how many of the file's certificates stand before it
};

struct license_file {
    struct license_block *blocks;
    size_t blocks_len;
    struct license_borrow_block borrow;
    const char **servers; // the server= lines, in order; arena
    size_t servers_len;
    const char **certificates; // PEM texts; arena
    size_t certificates_len;
};

// text is the whole file. Returns LICENSE_OK, or why the whole file is refused (err says where).
// Faults of one block are in the block. Everything lives in the arena (raw points into text).
enum license_refusal license_file_parse(struct arena *arena, const char *text, size_t len,
                                        struct license_file *out, struct error *err);

// Edition as a bit set, so that "covers" is arithmetic.
enum edition { EDITION_STEADY = 1, EDITION_PROGRESS = 2, EDITION_STEADY_PROGRESS = 3 };
int edition_parse(const char *s, size_t len, enum edition *out); // 0 or -EINVAL
const char *edition_name(enum edition e);

// One to four numbers, each ≤ 99,999; missing ones are 0.
struct version {
    uint32_t n[4];
};
int version_parse(const char *s, size_t len, struct version *out);
int version_compare(struct version a, struct version b); // <0, 0, >0

// Modules as bits in the order f c 1 2 3 b d o m i t (bit 0 = f).
#define MODULE_LETTERS "fc123bdomit"
typedef uint16_t module_set;
int modules_parse(const char *s, size_t len, module_set *out); // order as given, no repeats
char *modules_format(module_set m, char buf[static 12]);

#define LICENSE_FEATURE_MAX 64
struct license_fields {
    char uuid[37];
    char feature[LICENSE_FEATURE_MAX + 1]; // [A-Za-z0-9_.-]{1,64}
    struct version version;
    char version_text[24]; // as written
    enum edition edition;
    module_set modules;
    uint32_t count; // 1 … 1,000,000
    char server_id[65];
    struct wall_time issued;
    struct wall_time valid_from;  // WALL_MIN: unlimited
    struct wall_time valid_until; // WALL_MAX: unlimited
};

// LICENSE_FORMAT for a block of a higher format, else LICENSE_OK. Before its signature is checked:
// a higher format may be signed in another way.
enum license_refusal license_format_check(const struct license_block *block, struct error *err);

// Of a block whose signature is good.
enum license_refusal license_fields_parse(const struct license_block *block,
                                          struct license_fields *out, struct error *err);
