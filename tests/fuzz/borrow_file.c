// What a client is given as a borrowed license file: blocks, the server's block, host ID.
#include "common/borrow_file.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct crypto_ca *nobody;
    struct borrow_file out;
    struct borrow_fields fields;
    struct license_file file;
    struct error err;
    char host[HOSTID_MAX + 1];
    const char *text = (const char *)data;
    if (!nobody) {
        struct crypto_key *key;
        struct crypto_cert *cert;
        const struct crypto_issue what = {
            .common_name = "nobody", .not_before = {0}, .not_after = {4000000000}, .ca = true};
        if (crypto_key_new_p256(&key) || crypto_cert_issue(&cert, &what, key, NULL, NULL, &err))
            abort();
        char *pem = crypto_cert_pem(cert);
        if (crypto_ca_load_pem(&nobody, pem, strlen(pem), &err))
            abort();
        free(pem);
        crypto_cert_free(&cert);
        crypto_key_free(&key);
    }
    if (!borrow_file_verify(&out, text, size, nobody, &err))
        abort(); // nobody signed it
    hostid_parse(text, size, host, &err);
    struct arena *arena = arena_new(4096);
    struct buf again BUF_CLEANUP = {0};
    if (!license_file_parse(arena, text, size, &file, &err) && file.borrow.line &&
        !borrow_block_parse(file.borrow.block, file.borrow.block_len, &fields, &err)) {
        borrow_block_write(&fields, &again);
        if (again.len != file.borrow.block_len || memcmp(again.data, file.borrow.block, again.len))
            abort(); // there is one way to write a block
    }
    arena_free(&arena);
    return 0;
}
