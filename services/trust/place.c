#include "services/trust/place.h"

#include "common/core/text.h"
#include "common/crypto.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define HASH_BYTES 16

static void hash_hex(const char *label, const void *data, size_t len, char out[static 33])
{
    uint8_t hash[32];
    crypto_sha256_labelled(label, data, len, hash);
    hex_encode(hash, HASH_BYTES, out);
}

void place_read(struct place *out, const char *folder)
{
    char boot[64] = "";
    struct statx st;
    *out = (struct place){0};
    FILE *f = fopen(BOOT_ID, "re");
    size_t n = f != NULL ? fread(boot, 1, sizeof boot, f) : 0;
    if (f != NULL)
        fclose(f);
    if (n < 32 || statx(AT_FDCWD, folder, 0, STATX_INO | STATX_BTIME, &st) < 0)
        return;
    // The device's number may change with a remount. Where there is no time of birth it is 0.
    const uint64_t facts[] = {st.stx_ino, (uint64_t)st.stx_btime.tv_sec, st.stx_btime.tv_nsec};
    out->known = true;
    hash_hex("berth-place-boot\n", boot, n, out->boot);
    hash_hex("berth-place-folder\n", facts, sizeof facts, out->folder);
}
