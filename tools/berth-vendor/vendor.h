// berth-vendor: what the software vendor does away from any server (licenses.md, "Vendor tool").
// Exit status: 0 done, 1 refused or failed, 2 wrong usage.
#pragma once

#include "common/core/error.h"
#include "common/crypto.h"
#include "common/files.h"

#include <stdbool.h>
#include <stddef.h>

#define OPTION_VALUES_MAX 32

// An option of a subcommand; the table of a subcommand ends with name NULL.
struct option_value {
    const char *name; // with the two dashes
    enum {
        OPTION_REQUIRED,
        OPTION_OPTIONAL,
        OPTION_REPEATED, // each with one value
        OPTION_LIST,     // likewise, or with several at once
        OPTION_FLAG,     // no value
        OPTION_OPERAND,
    } kind;
    const char *values[OPTION_VALUES_MAX];
    size_t len;
};
// Reads argv into the table: "--name value" or "--name=value", operands into OPTION_OPERAND.
// Returns 0, or 2 after a message on stderr.
int options_read(struct option_value *options, int argc, char **argv);
// The last value, or NULL.
const char *option_get(const struct option_value *options, const char *name);
const struct option_value *option_find(const struct option_value *options, const char *name);

int vendor_fail(const struct error *err); // prints it; returns 1
int vendor_fault(const char *format, ...) __attribute__((format(printf, 1, 2))); // likewise

// A date or date-time of the command line. 0 or 1 after a message.
int vendor_time(const char *option, const char *text, enum wall_date_rule rule,
                struct wall_time *out);

int cert_create(const char *path, const struct crypto_cert *cert, struct error *err);

// ---- the vendor's folder ----

#define VENDOR_CA_CERT "vendor-ca.pem"
#define VENDOR_CA_KEY "vendor-ca.key"
#define VENDOR_KEY_LIST "license-keys.txt"
#define VENDOR_KEYS_MAX 16

// license-keys.txt has a line "<name> <key id> <base64 of the raw public key>" for each license key
// that a new server license shall trust, oldest first. The last one signs; its private key is
// <name>.key. A key that came by rotation has a license-key certificate, <name>.pem.
struct vendor_key {
    char name[40];
    char id[17];
    uint8_t public_key[32];
};

struct vendor {
    char *dir;
    struct crypto_cert *ca_cert;
    struct crypto_key *ca_key;
    struct vendor_key keys[VENDOR_KEYS_MAX];
    size_t keys_len;
};

// The CA's private key is loaded only if with_ca_key.
int vendor_open(struct vendor *out, const char *dir, bool with_ca_key, struct error *err);
void vendor_fini(struct vendor *vendor);
int vendor_keys_read(struct vendor *vendor, struct error *err);
char *vendor_keys_text(const struct vendor *vendor); // of license-keys.txt; malloc'd
// A new Ed25519 key in <dir>/<name>.key, added to the list in memory.
int vendor_key_make(struct vendor *vendor, const char *name, struct error *err);

// ---- server licenses ----

struct server_order {
    const char *server_id, *variant;
    const char *cloud_url; // or NULL
    bool borrow;           // the addon
    struct wall_time not_before, not_after;
};

int server_id_check(const char *id); // 0, or 1 after a message
// A year unless `until` says otherwise, never beyond the CA's. 0, or 1 after a message.
int server_order_validity(struct server_order *order, const struct vendor *vendor,
                          const char *until);
int server_certificate_issue(struct crypto_cert **out, const struct server_order *order,
                             const struct vendor *vendor, const struct crypto_key *key,
                             struct error *err);

// ---- subcommands: argv[0] is the subcommand ----

int vendor_init(int argc, char **argv);
int vendor_cloud_license(int argc, char **argv);
int vendor_dongle_license(int argc, char **argv);
int vendor_license(int argc, char **argv);
int vendor_rotate_license_key(int argc, char **argv);
int vendor_inspect(int argc, char **argv);
int vendor_restore_ledger(int argc, char **argv);
