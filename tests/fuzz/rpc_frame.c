// A stream of frames as a peer may send it, and the calls in them.
#include "common/rpc_internal.h"
#include "pool.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(4096);
    ssize_t n;
    while ((n = rpc_frame_length(data, size, RPC_CALLS_FRAME_MAX)) > 0 && (size_t)n <= size) {
        enum rpc_frame_kind kind;
        Berth__Frame *f =
            rpc_frame_decode(data + RPC_LENGTH_BYTES, (size_t)n - RPC_LENGTH_BYTES, arena, &kind);
        for (size_t i = 0; f && i < f->n_calls; i++) {
            uint32_t method = f->calls[i]->method;
            if (method < berth__pool__descriptor.n_methods)
                rpc_frame_unpack(berth__pool__descriptor.methods[method].input,
                                 &f->calls[i]->payload, arena);
        }
        data += n;
        size -= (size_t)n;
        arena_reset(arena);
    }
    arena_free(&arena);
    return 0;
}
