// Calls trust as one of the other processes would, and prints each answer as a line of JSON.
//   trust_call URL ROLE CALL [+ CALL]…     all calls are made at once
//   CALL: sign PURPOSE HEX | delegate HEX | read-head | move-head EPOCH SEQUENCE HASH [PREVIOUS]
//     | watch ISSUED_S
#include "common/clock.h"
#include "common/core/buf.h"
#include "common/core/text.h"
#include "common/log.h"
#include "common/rpc.h"
#include "trust.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 15000

static struct loop *loop;
static struct rpc_client *client;
static unsigned unanswered;

static void answered(struct buf *line)
{
    puts(line->data);
    fflush(stdout);
    buf_fini(line);
    if (--unanswered == 0)
        loop_stop(loop);
}

static void member(struct buf *line, const char *name, const char *value)
{
    buf_printf(line, "%c\"%s\":", line->len > 0 ? ',' : '{', name);
    if (value != NULL)
        buf_add_json_string(line, value, strlen(value));
    else
        buf_add_str(line, "null");
}

static void member_hex(struct buf *line, const char *name, const ProtobufCBinaryData *data)
{
    char *hex = malloc(2 * data->len + 1);
    if (hex == NULL)
        abort();
    hex_encode(data->data, data->len, hex);
    member(line, name, hex);
    free(hex);
}

static void failed(void)
{
    struct buf line = {0};
    const Berth__Error *e = rpc_client_error(client);
    buf_printf(&line, "{\"code\":%d", e->code);
    member(&line, "reason", e->reason);
    member(&line, "service", e->service);
    member(&line, "field", e->field);
    member(&line, "message", e->message);
    buf_add_char(&line, '}');
    answered(&line);
}

static void on_signed(const Berth__SignReply *reply, void *ctx)
{
    struct buf line = {0};
    if (reply == NULL)
        return failed();
    member_hex(&line, "signature", &reply->signature);
    member(&line, "certificate", reply->certificate);
    buf_add_char(&line, '}');
    answered(&line);
}

static void on_delegated(const Berth__DelegateReply *reply, void *ctx)
{
    struct buf line = {0};
    if (reply == NULL)
        return failed();
    buf_printf(&line, "{\"validUntil\":%lld,\"delegation\":%.*s", (long long)reply->valid_until_s,
               (int)reply->delegation.len, (const char *)reply->delegation.data);
    member(&line, "certificate", reply->certificate);
    buf_add_char(&line, '}');
    answered(&line);
}

static void on_head(const Berth__HeadReply *reply, void *ctx)
{
    struct buf line = {0};
    if (reply == NULL)
        return failed();
    if (reply->head == NULL) {
        buf_add_str(&line, "{\"sequence\":null}");
        return answered(&line);
    }
    member(&line, "epoch", reply->head->epoch);
    member_hex(&line, "hash", &reply->head->hash);
    buf_printf(&line, ",\"sequence\":%llu}", (unsigned long long)reply->head->sequence);
    answered(&line);
}

static void on_verdict(const Berth__Verdict *verdict, void *ctx)
{
    struct buf line = {0};
    if (verdict == NULL)
        return failed();
    buf_printf(&line, "{\"state\":%d", verdict->state);
    member(&line, "reason", verdict->reason);
    buf_add_char(&line, '}');
    answered(&line);
}

// Hex digits, or zeros:N.
static ProtobufCBinaryData unhex(const char *hex)
{
    if (strncmp(hex, "zeros:", 6) == 0) {
        size_t len = strtoul(hex + 6, NULL, 10);
        return (ProtobufCBinaryData){len, calloc(1, len)};
    }
    uint8_t *bytes = malloc(strlen(hex) / 2 + 1);
    int n = bytes != NULL ? hex_decode(hex, strlen(hex), bytes, strlen(hex) / 2 + 1) : -1;
    if (n < 0)
        abort();
    return (ProtobufCBinaryData){(size_t)n, bytes};
}

static void move_head(int argc, char **argv)
{
    Berth__MoveHeadCall call = BERTH__MOVE_HEAD_CALL__INIT;
    Berth__LedgerHead head = BERTH__LEDGER_HEAD__INIT;
    head.epoch = argv[1];
    head.sequence = strtoull(argv[2], NULL, 10);
    head.hash = unhex(argv[3]);
    call.head = &head;
    call.has_previous = argc > 4;
    if (call.has_previous)
        call.previous = unhex(argv[4]);
    berth__trust__move_head(rpc_client_service(client), &call, on_head, NULL);
    free(head.hash.data);
    free(call.previous.data);
}

static void make_call(int argc, char **argv)
{
    ProtobufCService *service = rpc_client_service(client);
    unanswered++;
    if (argc == 3 && strcmp(argv[0], "sign") == 0) {
        Berth__SignCall call = BERTH__SIGN_CALL__INIT;
        call.purpose = (Berth__Purpose)atoi(argv[1]);
        call.message = unhex(argv[2]);
        berth__trust__sign(service, &call, on_signed, NULL);
        free(call.message.data);
    } else if (argc == 2 && strcmp(argv[0], "delegate") == 0) {
        Berth__DelegateCall call = BERTH__DELEGATE_CALL__INIT;
        call.public_key = unhex(argv[1]);
        berth__trust__delegate(service, &call, on_delegated, NULL);
        free(call.public_key.data);
    } else if (argc == 1 && strcmp(argv[0], "read-head") == 0) {
        Berth__Empty call = BERTH__EMPTY__INIT;
        berth__trust__read_head(service, &call, on_head, NULL);
    } else if (argc == 2 && strcmp(argv[0], "watch") == 0) {
        Berth__WatchCall call = BERTH__WATCH_CALL__INIT;
        call.has_issued_s = true;
        call.issued_s = strtoll(argv[1], NULL, 10);
        berth__trust__watch(service, &call, on_verdict, NULL);
    } else if (argc >= 4 && strcmp(argv[0], "move-head") == 0) {
        move_head(argc, argv);
    } else {
        abort();
    }
}

static int word_count;
static char **words;

static void on_connect(void *ctx)
{
    for (int i = 0; i < word_count; i++) {
        int n = 0;
        while (i + n < word_count && strcmp(words[i + n], "+") != 0)
            n++;
        make_call(n, words + i);
        i += n;
    }
}

static void on_late(void *ctx)
{
    loop_stop(loop);
}

int main(int argc, char **argv)
{
    struct loop_timer late;
    if (argc < 4 || log_init("trust_call", LOG_ERROR, LOG_TEXT, "/dev/null") < 0 ||
        loop_new(&loop) < 0 ||
        rpc_client_new(&client, loop, argv[1], (Berth__Role)atoi(argv[2]),
                       &berth__trust__descriptor, "trust", TIMEOUT_MS, NULL) < 0)
        return 2;
    word_count = argc - 3;
    words = argv + 3;
    rpc_client_on_connect(client, on_connect, NULL);
    loop_timer_init(&late, on_late, NULL);
    loop_timer_arm(loop, &late, mono_after(clock_mono(), 2 * TIMEOUT_MS));
    int r = loop_run(loop);
    loop_timer_cancel(loop, &late);
    rpc_client_free(&client);
    loop_free(&loop);
    return r < 0;
}
