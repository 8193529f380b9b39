// Frames as bytes (proto/frame.proto). Records are written by hand, one after the other, because a
// repeated field is just its records in a row: so a batch grows in its send buffer and is never
// built as a tree of messages.
#include "common/rpc_internal.h"

#include <errno.h>
#include <string.h>

enum {
    TAG_HELLO = 1 << 3 | 2,
    TAG_CALL = 2 << 3 | 2,
    TAG_REPLY = 3 << 3 | 2,
    TAG_HEARTBEAT = 4 << 3 | 2
};
enum { TAG_ID = 1 << 3, TAG_METHOD = 2 << 3 };
enum { TAG_CALL_PAYLOAD = 3 << 3 | 2 };
enum { TAG_REPLY_PAYLOAD = 2 << 3 | 2, TAG_REPLY_ERROR = 3 << 3 | 2 };

#define RECORD_OVERHEAD 48 // tags, lengths, ID and method at their longest

ssize_t rpc_frame_length(const uint8_t *in, size_t len, size_t max)
{
    if (len < RPC_LENGTH_BYTES)
        return 0;
    size_t n = (size_t)in[0] << 24 | (size_t)in[1] << 16 | (size_t)in[2] << 8 | in[3];
    if (n == 0 || n > max)
        return -EMSGSIZE;
    return (ssize_t)(n + RPC_LENGTH_BYTES);
}

static void *arena_take(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void arena_give(void *arena, void *p)
{
    (void)arena;
    (void)p; // all of an arena goes at once
}

ProtobufCAllocator rpc_frame_allocator(struct arena *arena)
{
    return (ProtobufCAllocator){arena_take, arena_give, arena};
}

// A varint at in[*at]; false: it is cut off or longer than 32 bits need.
static bool varint_read(const uint8_t *in, size_t len, size_t *at, uint32_t *value)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        if (*at >= len)
            return false;
        uint8_t byte = in[(*at)++];
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value = (uint32_t)v;
            return v <= UINT32_MAX;
        }
    }
    return false;
}

// Looks at the outermost level before anything is allocated: one kind of record, not too many.
static bool frame_scan(const uint8_t *in, size_t len, enum rpc_frame_kind *kind)
{
    uint32_t first = 0;
    size_t records = 0;
    for (size_t at = 0; at < len;) {
        uint32_t tag, size;
        if (!varint_read(in, len, &at, &tag) || !varint_read(in, len, &at, &size) ||
            size > len - at)
            return false;
        at += size;
        if (records == 0)
            first = tag;
        if (tag != first || ++records > RPC_FRAME_CALLS_MAX)
            return false;
    }
    switch (first) {
    case TAG_HELLO:
        *kind = RPC_HELLO;
        return records == 1;
    case TAG_CALL:
        *kind = RPC_CALLS;
        return true;
    case TAG_REPLY:
        *kind = RPC_REPLIES;
        return true;
    case TAG_HEARTBEAT:
        *kind = RPC_HEARTBEAT;
        return records == 1;
    default:
        return false;
    }
}

Berth__Frame *rpc_frame_decode(const uint8_t *in, size_t len, struct arena *arena,
                               enum rpc_frame_kind *kind)
{
    if (!frame_scan(in, len, kind))
        return NULL;
    ProtobufCAllocator allocator = rpc_frame_allocator(arena);
    return berth__frame__unpack(&allocator, len, in);
}

ProtobufCMessage *rpc_frame_unpack(const ProtobufCMessageDescriptor *type,
                                   const ProtobufCBinaryData *payload, struct arena *arena)
{
    static const uint8_t none[1] = {0}; // data of an empty field is NULL, which unpack refuses
    ProtobufCAllocator allocator = rpc_frame_allocator(arena);
    return protobuf_c_message_unpack(type, &allocator, payload->len,
                                     payload->data ? payload->data : none);
}

size_t rpc_frame_record_bytes(const ProtobufCMessage *m)
{
    return protobuf_c_message_get_packed_size(m) + RECORD_OVERHEAD;
}

static size_t varint_size(uint64_t v)
{
    size_t n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

static uint8_t *varint_put(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

// A record of the frame: `head` varint fields, then one length-delimited field of m.
static void record_add(struct buf *out, uint8_t tag, const uint8_t *head, size_t head_len,
                       uint8_t field_tag, const ProtobufCMessage *m)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    size_t inner = head_len + 1 + varint_size(size) + size;
    buf_reserve(out, inner + RECORD_OVERHEAD);
    uint8_t *p = (uint8_t *)out->data + out->len;
    *p++ = tag;
    p = varint_put(p, inner);
    memcpy(p, head, head_len);
    p += head_len;
    *p++ = field_tag;
    p = varint_put(p, size);
    p += protobuf_c_message_pack(m, p);
    out->len = (size_t)(p - (uint8_t *)out->data);
}

void rpc_frame_add_hello(struct buf *out, Berth__Role role, const char *service,
                         uint32_t heartbeat_ms)
{
    Berth__Hello hello = BERTH__HELLO__INIT;
    hello.version = RPC_VERSION;
    hello.role = role;
    hello.service = (char *)(uintptr_t)service;
    hello.build = (char *)(uintptr_t)BERTH_VERSION;
    hello.has_heartbeat_ms = heartbeat_ms > 0;
    hello.heartbeat_ms = heartbeat_ms;
    Berth__Frame frame = BERTH__FRAME__INIT;
    frame.hello = &hello;
    size_t size = berth__frame__get_packed_size(&frame);
    buf_reserve(out, size + 1);
    out->len += berth__frame__pack(&frame, (uint8_t *)out->data + out->len);
}

void rpc_frame_add_heartbeat(struct buf *out)
{
    static const uint8_t record[] = {TAG_HEARTBEAT, 0};
    buf_add(out, (const char *)record, sizeof record);
}

void rpc_frame_add_call(struct buf *out, uint64_t id, uint32_t method, const ProtobufCMessage *m)
{
    uint8_t head[24], *p = head;
    *p++ = TAG_ID;
    p = varint_put(p, id);
    *p++ = TAG_METHOD;
    p = varint_put(p, method);
    record_add(out, TAG_CALL, head, (size_t)(p - head), TAG_CALL_PAYLOAD, m);
}

static void reply_add(struct buf *out, uint64_t id, uint8_t field_tag, const ProtobufCMessage *m)
{
    uint8_t head[16], *p = head;
    *p++ = TAG_ID;
    p = varint_put(p, id);
    record_add(out, TAG_REPLY, head, (size_t)(p - head), field_tag, m);
}

void rpc_frame_add_reply(struct buf *out, uint64_t id, const ProtobufCMessage *m)
{
    reply_add(out, id, TAG_REPLY_PAYLOAD, m);
}

void rpc_frame_add_error(struct buf *out, uint64_t id, const Berth__Error *error)
{
    reply_add(out, id, TAG_REPLY_ERROR, &error->base);
}

Berth__Role rpc_service_role(const ProtobufCServiceDescriptor *service)
{
    static const struct {
        const char *name;
        Berth__Role role;
    } roles[] = {{"Pool", BERTH__ROLE__POOL},
                 {"Trust", BERTH__ROLE__TRUST},
                 {"Borrow", BERTH__ROLE__BORROW}};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (!strcmp(service->short_name, roles[i].name))
            return roles[i].role;
    }
    return BERTH__ROLE__TOOL;
}
