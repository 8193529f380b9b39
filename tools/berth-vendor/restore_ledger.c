// The way out when a server's borrow ledger is lost, damaged or refused: shows what is wrong with
// what is left, and makes a new pair of files of what is provably signed. The server's own key is
// not here, so the pair is signed with a key that is made for it and forgotten, whose certificate
// names the server and has expired before it is used: good enough for a ledger, and for nothing
// else.
#include "tools/berth-vendor/restore_scan.h"
#include "tools/berth-vendor/vendor.h"

#include "common/clock.h"
#include "common/core/text.h"
#include "services/borrow/verify.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEDGER_FILE "borrowed.ledger"
#define SIGNATURE_FILE "borrowed.ledger.sig"
#define CERTIFICATE_AGE_S 120
#define FILES_MAX 10000

struct source {
    char *path, *text;
    size_t len;
};

struct restoration {
    const char *server_id;
    struct vendor vendor;
    struct crypto_ca *ca;
    struct restore_scan *scan;
    struct source *files;
    size_t files_len;
};

// ---- what is left ----

static int add_file(struct restoration *r, const char *path, struct error *err)
{
    if (r->files_len == FILES_MAX)
        return error_set(err, "more than %d files", FILES_MAX), -EFBIG;
    struct source *f = &r->files[r->files_len];
    int status = file_read(path, LEDGER_BYTES_MAX, &f->text, &f->len, err);
    if (status)
        return status;
    f->path = strdup(path);
    r->files_len++;
    restore_scan_add(r->scan, f->text, f->len);
    return 0;
}

static int add_folder(struct restoration *r, const char *path, DIR *folder, struct error *err)
{
    const struct dirent *entry;
    int status = 0;
    while (!status && (entry = readdir(folder))) {
        struct stat st;
        char *file = path_join(path, entry->d_name);
        if (!stat(file, &st) && S_ISREG(st.st_mode))
            status = add_file(r, file, err);
        free(file);
    }
    return status;
}

static int add_source(struct restoration *r, const char *path, struct error *err)
{
    DIR *folder = opendir(path);
    if (!folder)
        return add_file(r, path, err);
    int status = add_folder(r, path, folder, err);
    closedir(folder);
    return status;
}

// ---- what is wrong ----

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), n = strlen(end);
    return len >= n && !strcmp(text + len - n, end);
}

static const struct source *find_signature(const struct restoration *r, const struct source *ledger)
{
    char *plain = malloc(strlen(ledger->path) + sizeof ".sig");
    const struct source *found = NULL;
    if (!plain)
        abort();
    sprintf(plain, "%s.sig", ledger->path);
    for (size_t i = 0; i < r->files_len && !found; i++) {
        if (!strcmp(r->files[i].path, plain))
            found = &r->files[i];
    }
    free(plain);
    return found;
}

// Returns whether this ledger and its signature are a good pair.
static bool show_ledger(const struct restoration *r, const struct source *file)
{
    const struct source *sig = find_signature(r, file);
    const struct ledger_verifier verifier = {r->ca, r->server_id};
    struct arena *arena = arena_new(65536);
    struct ledger l;
    struct error err = {""};
    bool good = false;
    printf("%s: borrow ledger\n", file->path);
    if (ledger_decode(&l, arena, file->text, file->len, &err)) {
        printf("  text:      damaged: %s\n", err.text);
    } else {
        printf("  text:      whole: server %s, epoch %s, number %llu, %zu borrows\n", l.server_id,
               l.epoch, (unsigned long long)l.sequence, l.records_len);
        uint8_t hash[32];
        char hex[65];
        crypto_sha256(file->text, file->len, hash);
        hex_encode(hash, sizeof hash, hex);
        printf("  hash:      %s\n", hex);
    }
    if (!sig) {
        printf("  signature: there is no %s.sig beside it\n", file->path);
    } else {
        const struct buf ledger = {file->text, file->len, 0};
        const struct buf signature = {sig->text, sig->len, 0};
        good = !ledger_read(&l, arena, &verifier, &ledger, &signature, &err);
        printf("  signature: %s%s\n", good ? "good" : "refused: ", good ? "" : err.text);
    }
    arena_free(&arena);
    return good;
}

// Returns whether a good pair was among the files.
static bool show_files(const struct restoration *r)
{
    bool good = false, any = false;
    for (size_t i = 0; i < r->files_len; i++) {
        const struct source *f = &r->files[i];
        if (!ends_with(f->path, LEDGER_FILE) && !ends_with(f->path, LEDGER_FILE ".next"))
            continue;
        any = true;
        good |= show_ledger(r, f);
    }
    if (!any)
        puts("no " LEDGER_FILE " is among the files");
    if (good)
        puts("A pair that is good by itself is refused by a server only if the backend remembers "
             "another one: compare its number and hash with what 'berth-cloud list' shows.");
    return good;
}

static void show_restored(const struct restored *found)
{
    char from[32], until[32];
    printf("provably lent: %zu", found->records_len);
    if (found->ended)
        printf("; %zu whose period has ended are left out", found->ended);
    if (found->foreign)
        printf("; %zu of other servers are left out", found->foreign);
    if (found->unproven)
        printf("; %zu blocks without a good signature are left out", found->unproven);
    putchar('\n');
    for (size_t i = 0; i < found->records_len; i++) {
        const struct borrow_fields *f = found->records[i].fields;
        printf("  %s %s %s host %s, %s to %s\n", f->borrow_id, f->uuid, f->feature, f->host_id,
               wall_format(f->valid_from, from), wall_format(f->valid_until, until));
    }
}

// ---- the new pair ----

static int make_signer(const struct restoration *r, struct crypto_key **key,
                       struct crypto_cert **cert, struct error *err)
{
    struct wall_time now = clock_wall();
    const struct server_order order = {.server_id = r->server_id,
                                       .variant = "cloud-ready",
                                       .cloud_url = "https://restored-ledger.invalid",
                                       .not_before = {now.s - CERTIFICATE_AGE_S},
                                       .not_after = {now.s - CERTIFICATE_AGE_S / 2}};
    int status = crypto_key_new_p256(key);
    return status ? status : server_certificate_issue(cert, &order, &r->vendor, *key, err);
}

static int sign(const struct restoration *r, const struct buf *ledger, struct buf *out,
                struct error *err)
{
    struct crypto_key *key = NULL;
    struct crypto_cert *cert = NULL;
    struct ledger_signature signature = {.len = sizeof signature.bytes};
    struct buf message BUF_CLEANUP = {0};
    uint8_t hash[32];
    int status = make_signer(r, &key, &cert, err);
    char *pem = status ? NULL : crypto_cert_pem(cert);
    if (!status) {
        signature.certificate = (struct ledger_text){pem, strlen(pem)};
        crypto_sha256(ledger->data, ledger->len, hash);
        buf_add_str(&message, LEDGER_SIGN_LABEL);
        ledger_signed_text(signature.certificate, hash, &message);
        status = crypto_sign(key, message.data, message.len, signature.bytes, &signature.len);
        if (!status)
            status = ledger_signature_encode(&signature, out);
        if (status)
            error_set(err, "the ledger cannot be signed");
    }
    free(pem);
    crypto_cert_free(&cert);
    crypto_key_free(&key); // wiped: nobody signs with it again
    return status;
}

static int write_pair(const struct restoration *r, const struct restored *found, const char *out,
                      struct error *err)
{
    struct ledger l = {.sequence = 1, .records = found->records, .records_len = found->records_len};
    struct buf ledger BUF_CLEANUP = {0}, signature BUF_CLEANUP = {0};
    uint8_t epoch[LEDGER_EPOCH_LEN / 2];
    crypto_random(epoch, sizeof epoch);
    hex_encode(epoch, sizeof epoch, l.epoch);
    snprintf(l.server_id, sizeof l.server_id, "%s", r->server_id);
    ledger_encode(&l, &ledger);
    int status = sign(r, &ledger, &signature, err);
    // Read back with the server's eyes.
    const struct ledger_verifier verifier = {r->ca, r->server_id};
    struct arena *arena = arena_new(65536);
    if (!status)
        status = ledger_read(&l, arena, &verifier, &ledger, &signature, err);
    arena_free(&arena);
    char *ledger_path = path_join(out, LEDGER_FILE), *sig_path = path_join(out, SIGNATURE_FILE);
    if (!status)
        status = dir_make(out, 0755, err);
    if (!status)
        status = file_create(ledger_path, ledger.data, ledger.len, 0600, err);
    if (!status)
        status = file_create(sig_path, signature.data, signature.len, 0600, err);
    if (!status)
        printf("%s\n%s\nNext, in this order, while the server is stopped:\n"
               "  1. on the backend's host: berth-cloud forget-ledger %s --state FILE\n"
               "  2. on the server: put the two files into borrow.directory, and remove "
               "borrowed.ledger*.next\n"
               "  3. start the server: it registers this ledger, and signs it with its own key\n",
               ledger_path, sig_path, r->server_id);
    free(ledger_path);
    free(sig_path);
    return status;
}

// ---- the command ----

static int open_all(struct restoration *r, const char *dir, bool make, struct error *err)
{
    int status = vendor_open(&r->vendor, dir, make, err);
    if (status)
        return status;
    char *pem = crypto_cert_pem(r->vendor.ca_cert);
    status = crypto_ca_load_pem(&r->ca, pem, strlen(pem), err);
    free(pem);
    return status;
}

static void restoration_fini(struct restoration *r)
{
    restore_scan_free(&r->scan);
    for (size_t i = 0; i < r->files_len; i++) {
        free(r->files[i].path);
        free(r->files[i].text);
    }
    free(r->files);
    crypto_ca_free(&r->ca);
    vendor_fini(&r->vendor);
}

int vendor_restore_ledger(int argc, char **argv)
{
    struct option_value options[] = {{"--dir", OPTION_REQUIRED},
                                     {"--server-id", OPTION_REQUIRED},
                                     {"--from", OPTION_LIST},
                                     {"--out", OPTION_OPTIONAL},
                                     {NULL}};
    int status = options_read(options, argc, argv);
    if (status)
        return status;
    const struct option_value *from = option_find(options, "--from");
    if (!from->len) {
        vendor_fault("--from is missing");
        return 2;
    }
    const char *out = option_get(options, "--out");
    struct restoration r = {.server_id = option_get(options, "--server-id")};
    struct error err = {""};
    if (server_id_check(r.server_id))
        return 1;
    r.files = calloc(FILES_MAX, sizeof *r.files);
    r.scan = restore_scan_new();
    if (!r.files)
        abort();
    int failed = open_all(&r, option_get(options, "--dir"), out != NULL, &err);
    for (size_t i = 0; i < from->len && !failed; i++)
        failed = add_source(&r, from->values[i], &err);
    if (!failed) {
        struct restored found;
        bool good = show_files(&r);
        restore_scan_prove(r.scan, r.ca, r.server_id, clock_wall(), &found);
        show_restored(&found);
        status = good || out ? 0 : 1;
        if (out)
            failed = write_pair(&r, &found, out, &err);
    }
    if (failed)
        status = vendor_fail(&err);
    restoration_fini(&r);
    return status;
}
