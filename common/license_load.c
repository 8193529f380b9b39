#include "common/license_load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_ATTEMPTS 3 // of a file that changes while it is read
#define CERTIFICATES_MAX 32

// A key from a certificate in the file. Verified only when a block names it.
struct certified_key {
    char id[17];
    uint8_t raw[ED25519_PUBLIC_BYTES];
    struct crypto_cert *cert;
    const char *pem;
    bool verified, good;
    char reason[160];
};

struct checker {
    const struct license_keys *keys;
    const struct license_file *file;
    struct certified_key certified[CERTIFICATES_MAX];
    size_t certified_len;
    bool certificates_read;
};

static void refuse(struct license_record *r, enum license_refusal refusal, const char *reason)
{
    r->refusal = refusal;
    snprintf(r->reason, sizeof r->reason, "%.255s", reason);
}

static void read_certificates(struct checker *c)
{
    c->certificates_read = true;
    for (size_t i = 0; i < c->file->certificates_len && c->certified_len < CERTIFICATES_MAX; i++) {
        struct certified_key *k = &c->certified[c->certified_len];
        const char *pem = c->file->certificates[i];
        if (crypto_cert_load_pem(&k->cert, pem, strlen(pem), NULL))
            continue;
        if (crypto_cert_public_ed25519(k->cert, k->raw)) {
            crypto_cert_free(&k->cert);
            continue;
        }
        crypto_key_id(k->raw, k->id);
        k->pem = pem;
        c->certified_len++;
    }
}

static bool certified_good(struct checker *c, struct certified_key *k)
{
    if (k->verified)
        return k->good;
    struct error err = {{0}};
    int r = crypto_cert_verify(k->cert, c->keys->vendor_ca, USAGE_LICENSE_KEY, c->keys->now, &err);
    k->verified = true;
    k->good = r == 0;
    snprintf(k->reason, sizeof k->reason, "the certificate of key %s is %s", k->id,
             r == 1   ? "expired"
             : r == 2 ? "not yet valid"
                      : "not one of the vendor's license keys");
    return k->good;
}

// The raw key with this id, or NULL with the reason.
static const uint8_t *find_key(struct checker *c, const char *id, struct license_record *r)
{
    const struct license_keys *keys = c->keys;
    for (size_t i = 0; i < keys->revoked_len; i++) {
        if (!strcmp(keys->revoked[i], id)) {
            r->refusal = LICENSE_REVOKED_KEY;
            snprintf(r->reason, sizeof r->reason,
                     "its key %s was revoked by the vendor: ask for a new license file", id);
            return NULL;
        }
    }
    for (size_t i = 0; i < keys->trusted_len; i++) {
        char trusted[17];
        crypto_key_id(keys->trusted[i], trusted);
        if (!strcmp(trusted, id))
            return keys->trusted[i];
    }
    r->refusal = LICENSE_UNKNOWN_KEY;
    snprintf(r->reason, sizeof r->reason,
             "signed with key %s, which this server does not trust", id);
    if (!keys->vendor_ca)
        return NULL;
    if (!c->certificates_read)
        read_certificates(c);
    for (size_t i = 0; i < c->certified_len; i++) {
        struct certified_key *k = &c->certified[i];
        if (strcmp(k->id, id))
            continue;
        if (certified_good(c, k)) {
            r->refusal = LICENSE_OK;
            r->reason[0] = '\0';
            r->certificate = k->pem;
            return k->raw;
        }
        refuse(r, LICENSE_UNKNOWN_KEY, k->reason);
    }
    return NULL;
}

static void check_block(struct checker *c, const struct license_block *b, struct license_record *r)
{
    *r = (struct license_record){.block = b->raw,
                                 .block_len = b->raw_len,
                                 .whole = b->whole,
                                 .whole_len = b->whole_len,
                                 .line = b->line};
    memcpy(r->key_id, b->key_id, sizeof r->key_id);
    memcpy(r->signature, b->signature, sizeof r->signature);
    if (b->refusal) {
        refuse(r, b->refusal, b->reason);
        return;
    }
    struct error err = {{0}};
    if (license_format_check(b, &err)) {
        refuse(r, LICENSE_FORMAT, err.text);
        return;
    }
    const uint8_t *key = find_key(c, b->key_id, r);
    if (!key)
        return;
    if (!crypto_ed25519_verify(key, b->signature, b->signed_text, b->signed_len)) {
        refuse(r, LICENSE_SIGNATURE,
               "the signature does not match: the license block was changed or damaged");
        return;
    }
    enum license_refusal refusal = license_fields_parse(b, &r->fields, &err);
    if (refusal) {
        refuse(r, refusal, err.text);
        return;
    }
    if (c->keys->server_id && strcmp(c->keys->server_id, r->fields.server_id)) {
        r->refusal = LICENSE_SERVER_ID;
        snprintf(r->reason, sizeof r->reason, "issued for server %s, this server is %s",
                 r->fields.server_id, c->keys->server_id);
    }
}

static struct license_set *set_new(size_t arena_bytes)
{
    struct arena *arena = arena_new(arena_bytes);
    struct license_set *set = arena_zalloc(arena, sizeof *set);
    set->arena = arena;
    atomic_init(&set->refs, 1);
    return set;
}

void license_set_free(struct license_set **set)
{
    struct license_set *s = *set;
    *set = NULL;
    if (s && atomic_fetch_sub(&s->refs, 1) == 1) {
        struct arena *arena = s->arena;
        arena_free(&arena);
    }
}

struct license_set *license_set_share(struct license_set *set)
{
    atomic_fetch_add(&set->refs, 1);
    return set;
}

static void refuse_file(struct license_set *set, enum license_refusal refusal, const char *reason)
{
    set->records = arena_zalloc(set->arena, sizeof *set->records);
    set->records_len = 1;
    set->servers_len = 0;
    refuse(&set->records[0], refusal, reason);
}

// Checks the text, which lies in the set's arena.
static void check_text(struct license_set *set, const char *text, size_t len,
                       const struct license_keys *keys)
{
    struct license_file file;
    struct error err = {{0}};
    enum license_refusal refusal = license_file_parse(set->arena, text, len, &file, &err);
    if (refusal) {
        refuse_file(set, refusal, err.text);
        return;
    }
    if (file.borrow.line) {
        refuse_file(set, LICENSE_BORROWED,
                    "a borrowed license file: it belongs on the host that borrowed it, not among "
                    "the server's licenses");
        return;
    }
    if (!file.blocks_len) {
        refuse_file(set, LICENSE_SYNTAX,
                    "there is no license in the file; copy the one that you were given again");
        return;
    }
    struct checker c = {.keys = keys, .file = &file};
    set->records = arena_zalloc(set->arena, file.blocks_len * sizeof *set->records);
    set->records_len = file.blocks_len;
    set->servers = file.servers;
    set->servers_len = file.servers_len;
    for (size_t i = 0; i < file.blocks_len; i++)
        check_block(&c, &file.blocks[i], &set->records[i]);
    for (size_t i = 0; i < c.certified_len; i++)
        crypto_cert_free(&c.certified[i].cert);
}

void license_load_text(struct license_set **out, const char *text, size_t len,
                       const struct license_keys *keys)
{
    *out = set_new(4096);
    if (len > LICENSE_FILE_MAX_BYTES)
        refuse_file(*out, LICENSE_TOO_LARGE, "the file is larger than 1 MiB");
    else
        check_text(*out, arena_strndup((*out)->arena, text, len), len, keys);
}

static bool same_content(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

// Reads all of st_size bytes. 0, -errno, or 1: the file is changing.
static int read_all(int fd, char *text, const struct stat *st)
{
    size_t size = (size_t)st->st_size;
    for (size_t at = 0; at < size;) {
        ssize_t n = pread(fd, text + at, size - at, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 1;
        at += (size_t)n;
    }
    struct stat after;
    if (fstat(fd, &after))
        return -errno;
    return same_content(st, &after) ? 0 : 1;
}

// The text in the arena, or NULL after refusing the file.
static char *read_file(struct license_set *set, int fd, struct stat *st)
{
    int r = 1;
    for (int i = 0; i < READ_ATTEMPTS && r == 1; i++) {
        if (fstat(fd, st)) {
            r = -errno;
            break;
        }
        if (!S_ISREG(st->st_mode)) {
            refuse_file(set, LICENSE_IO, "not a regular file");
            return NULL;
        }
        if (st->st_size > LICENSE_FILE_MAX_BYTES) {
            refuse_file(set, LICENSE_TOO_LARGE, "the file is larger than 1 MiB");
            return NULL;
        }
        char *text = arena_alloc(set->arena, (size_t)st->st_size + 1);
        r = read_all(fd, text, st);
        text[st->st_size] = '\0';
        if (!r)
            return text;
    }
    refuse_file(set, LICENSE_IO, r > 0 ? "the file changes while it is read" : strerror(-r));
    return NULL;
}

void license_load_file(struct license_set **out, const char *path, const struct license_keys *keys,
                       struct stat *st)
{
    struct stat own;
    if (!st)
        st = &own;
    *st = (struct stat){0};
    *out = set_new(4096);
    // Without O_NONBLOCK, opening a FIFO would wait for its writer.
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        refuse_file(*out, LICENSE_IO, strerror(errno));
        return;
    }
    char *text = read_file(*out, fd, st);
    close(fd);
    if (text)
        check_text(*out, text, (size_t)st->st_size, keys);
}
