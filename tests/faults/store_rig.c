// The ledger's store alone, for power_cut.py: writes pairs that tell their number, or says which
// one a start would find.
//   store_rig write DIR COUNT   after each pair that is on disk its number on stdout
//   store_rig careless DIR COUNT   the same with a store that does not sync: the control
//   store_rig read DIR          the number of the pair found, 0 if there is none; or exits 1
#include "services/borrow/store.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIGNATURE_BYTES 8192

// A ledger grows and shrinks, and every byte of it belongs to its number.
static void make_pair(unsigned number, struct buf *ledger, struct buf *signature)
{
    buf_clear(ledger);
    buf_clear(signature);
    for (unsigned i = 0; i < 20 + number * 37 % 200; i++)
        buf_printf(ledger, "%u borrow %u of ledger %u\n", number, i, number * 2654435761u);
    while (signature->len < SIGNATURE_BYTES)
        buf_printf(signature, "%u signs %u\n", number, number * 40503u);
    signature->len = SIGNATURE_BYTES;
}

static bool same(const struct buf *a, const struct buf *b)
{
    return a->len == b->len && !memcmp(a->data, b->data, a->len);
}

static int64_t judge(void *ctx, const struct buf *ledger, const struct buf *signature)
{
    (void)ctx;
    BUF_CLEANUP struct buf l = {0}, s = {0};
    if (!ledger->len)
        return -1;
    unsigned number = (unsigned)strtoul(ledger->data, NULL, 10);
    make_pair(number, &l, &s);
    return same(&l, ledger) && same(&s, signature) ? (int64_t)number : -1;
}

static int careless_fsync(int fd)
{
    (void)fd;
    return 0;
}

static int write_pairs(struct store *store, unsigned count)
{
    BUF_CLEANUP struct buf ledger = {0}, signature = {0};
    struct error err = {{0}};
    for (unsigned i = 1; i <= count; i++) {
        make_pair(i, &ledger, &signature);
        if (store_write(store, &ledger, &signature, &err)) {
            fprintf(stderr, "%s\n", err.text);
            return 1;
        }
        printf("%u\n", i);
        fflush(stdout);
    }
    return 0;
}

static int read_pair(struct store *store)
{
    BUF_CLEANUP struct buf ledger = {0}, signature = {0};
    struct error err = {{0}};
    int r = store_load(store, judge, NULL, &ledger, &signature, &err);
    if (r && r != -ENOENT) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("%lld\n", r ? 0 : (long long)judge(NULL, &ledger, &signature));
    return 0;
}

int main(int argc, char **argv)
{
    struct store_io careless = store_io_system;
    careless.fsync = careless_fsync;
    struct store *store;
    struct error err = {{0}};
    if (argc < 3)
        return 2;
    if (store_new(&store, argv[2], !strcmp(argv[1], "careless") ? &careless : &store_io_system,
                  &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    int code =
        strcmp(argv[1], "read") ? write_pairs(store, (unsigned)atoi(argv[3])) : read_pair(store);
    store_free(&store);
    return code;
}
