#include "services/pool/core/facts.h"

#include "services/pool/core/alloc.h"

#include <string.h>

// u16 size of all, u8 which strings are there, u8 edition, u16 modules, four varints, the strings
// with their NUL. Numbers of two bytes are little-endian.
#define HEAD_BYTES 6
#define VARINT_MAX_BYTES 5
#define STRINGS 7

static unsigned u16_at(const char *p)
{
    return (unsigned)((uint8_t)p[0] | (uint8_t)p[1] << 8);
}

static void u16_put(char *p, unsigned v)
{
    p[0] = (char)(v & 0xff);
    p[1] = (char)(v >> 8 & 0xff);
}

static const char **string_of(struct facts *f, int i)
{
    const char **const all[STRINGS] = {
        &f->instance_id,        &f->client.hostname, &f->client.host_id, &f->client.user,
        &f->client.application, &f->client.pid,      &f->client.address};
    return all[i];
}

char *facts_pack(const struct pool_request *request)
{
    struct facts f = {request->terms, request->instance_id, request->client};
    char out[HEAD_BYTES + 4 * VARINT_MAX_BYTES + STRINGS * (POOL_TEXT_MAX_BYTES + 1)];
    char *o = out + HEAD_BYTES;
    for (int i = 0; i < 4; i++) {
        uint32_t v = f.requested.version.n[i];
        for (; v > 0x7f; v >>= 7)
            *o++ = (char)(0x80 | (v & 0x7f));
        *o++ = (char)v;
    }
    unsigned present = 0;
    for (int i = 0; i < STRINGS; i++) {
        const char *s = *string_of(&f, i);
        if (!s)
            continue;
        present |= 1u << i;
        size_t len = strnlen(s, POOL_TEXT_MAX_BYTES);
        memcpy(o, s, len);
        o += len;
        *o++ = '\0';
    }
    size_t size = (size_t)(o - out);
    u16_put(out, (unsigned)size);
    out[2] = (char)present;
    out[3] = (char)f.requested.edition;
    u16_put(out + 4, f.requested.modules);
    char *packed = alloc_checked(malloc(size));
    memcpy(packed, out, size);
    return packed;
}

// Returns what is behind it, or NULL: end or malformed.
static const char *varint_read(const char *p, const char *end, uint32_t *out)
{
    uint32_t v = 0;
    for (int shift = 0; p < end && shift < 7 * VARINT_MAX_BYTES; shift += 7) {
        v |= (uint32_t)(*p & 0x7f) << shift;
        if (!(*p++ & 0x80)) {
            *out = v;
            return p;
        }
    }
    return NULL;
}

static bool unpack(const char *packed, size_t len, struct facts *out)
{
    *out = (struct facts){0};
    if (len < HEAD_BYTES || u16_at(packed) != len)
        return false;
    unsigned present = (uint8_t)packed[2];
    out->requested.edition = (enum edition)packed[3];
    out->requested.modules = (module_set)u16_at(packed + 4);
    const char *p = packed + HEAD_BYTES, *end = packed + len;
    for (int i = 0; i < 4; i++) {
        p = varint_read(p, end, &out->requested.version.n[i]);
        if (!p)
            return false;
    }
    for (int i = 0; i < STRINGS; i++) {
        if (!(present & 1u << i))
            continue;
        const char *nul = p < end ? memchr(p, 0, (size_t)(end - p)) : NULL;
        if (!nul || nul - p > POOL_TEXT_MAX_BYTES)
            return false;
        *string_of(out, i) = p;
        p = nul + 1;
    }
    return p == end && present < 1u << STRINGS && out->requested.edition >= EDITION_STEADY &&
           out->requested.edition <= EDITION_STEADY_PROGRESS;
}

void facts_unpack(const char *packed, struct facts *out)
{
    unpack(packed, facts_size(packed), out);
}

size_t facts_size(const char *packed)
{
    return u16_at(packed);
}

bool facts_well_formed(const char *data, size_t len)
{
    struct facts ignored;
    return unpack(data, len, &ignored);
}
