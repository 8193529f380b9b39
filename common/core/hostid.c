#include "common/core/hostid.h"

#include "common/core/text.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { MAC_BYTES = 6, MAC_SEPARATED_LEN = 17 };

// True if the text has the form of a MAC address, whatever its value.
static bool mac_read(const char *text, size_t len, uint8_t mac[static MAC_BYTES])
{
    if (len == (size_t)2 * MAC_BYTES)
        return hex_decode(text, len, mac, MAC_BYTES) == MAC_BYTES;
    if (len != MAC_SEPARATED_LEN || (text[2] != ':' && text[2] != '-'))
        return false;
    for (size_t i = 0; i < MAC_BYTES; i++) {
        if (hex_decode(text + 3 * i, 2, mac + i, 1) != 1)
            return false;
        if (i && text[3 * i - 1] != text[2])
            return false;
    }
    return true;
}

static int mac_write(const uint8_t mac[static MAC_BYTES], char *out, struct error *err)
{
    static const uint8_t zero[MAC_BYTES] = {0};
    if (!memcmp(mac, zero, MAC_BYTES))
        return error_set(err, "the MAC address of zeros names no host"), -EINVAL;
    if (mac[0] & 1) // the broadcast address is one of them
        return error_set(err, "a broadcast or multicast MAC address names no host"), -EINVAL;
    for (size_t i = 0; i < MAC_BYTES; i++) {
        hex_encode(mac + i, 1, out + 3 * i);
        out[3 * i + 2] = i + 1 < MAC_BYTES ? ':' : '\0';
    }
    return 0;
}

static bool dongle_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

int hostid_parse(const char *text, size_t len, char out[static HOSTID_MAX + 1], struct error *err)
{
    uint8_t mac[MAC_BYTES];
    out[0] = '\0';
    if (mac_read(text, len, mac))
        return mac_write(mac, out, err);
    bool good = len >= 1 && len <= HOSTID_MAX;
    for (size_t i = 0; good && i < len; i++)
        good = dongle_char(text[i]);
    if (!good) {
        error_set(err, "a host ID is a MAC address (12 hex digits, with ':', '-' or nothing "
                       "between) or a dongle ID (1 to 64 of A-Z a-z 0-9 . _ -)");
        return -EINVAL;
    }
    memcpy(out, text, len);
    out[len] = '\0';
    return 0;
}
