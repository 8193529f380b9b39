// The emulated token's card without its reader, for QEMU's: usb-ccid with ccid-card-passthru.
//   token_vscard SOCKET CERTIFICATE KEY   connects to the UNIX socket of QEMU's chardev
// Each line of its input is a command: insert or remove the card.
#include "tests/component/token_model.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

// libcacard's vscard_common.h; all numbers are big-endian.
enum {
    VSC_INIT = 1,
    VSC_ERROR,
    VSC_READER_ADD,
    VSC_READER_REMOVE,
    VSC_ATR,
    VSC_CARD_REMOVE,
    VSC_APDU
};
#define VSC_MAGIC "VSCD"
#define VSC_VERSION 2
#define MESSAGE_MAX 4096

struct head {
    uint32_t type, reader, len;
};

static struct token *token;
static int fd;

static void die(const char *text)
{
    fprintf(stderr, "token_vscard: %s\n", text);
    exit(1);
}

static void say(uint32_t type, const void *data, size_t len)
{
    const struct head h = {htonl(type), 0, htonl((uint32_t)len)};
    if (send(fd, &h, sizeof h, MSG_NOSIGNAL) != sizeof h ||
        send(fd, data, len, MSG_NOSIGNAL) != (ssize_t)len)
        exit(0); // QEMU has ended
}

// The model takes and gives CCID frames: the reader's part of them is taken off again.
static size_t exchange(enum ccid_message type, const uint8_t *data, size_t len,
                       uint8_t answer[static MESSAGE_MAX])
{
    static uint8_t seq;
    uint8_t out[CCID_FRAME_BYTES_MAX];
    size_t n = ccid_build(out, sizeof out, type, ++seq, 0, data, len);
    if (n == 0)
        die("too long an APDU");
    token_send(token, out, n);
    int got = token_receive(token, answer, MESSAGE_MAX);
    if (got < CCID_HEADER_BYTES)
        die("the card is silent");
    memmove(answer, answer + CCID_HEADER_BYTES, (size_t)got - CCID_HEADER_BYTES);
    return (size_t)got - CCID_HEADER_BYTES;
}

static void on_message(void)
{
    struct head h;
    uint8_t data[MESSAGE_MAX], answer[MESSAGE_MAX];
    if (recv(fd, &h, sizeof h, MSG_WAITALL) != sizeof h)
        exit(0);
    size_t len = ntohl(h.len);
    if (len > sizeof data || (len > 0 && recv(fd, data, len, MSG_WAITALL) != (ssize_t)len))
        die("too long a message, or half of one");
    if (ntohl(h.type) == VSC_APDU)
        say(VSC_APDU, answer, exchange(CCID_XFR_BLOCK, data, len, answer));
}

static void on_command(void)
{
    char line[16];
    uint8_t atr[MESSAGE_MAX];
    if (fgets(line, sizeof line, stdin) == NULL)
        exit(0);
    if (strcmp(line, "insert\n") == 0)
        say(VSC_ATR, atr, exchange(CCID_ICC_POWER_ON, NULL, 0, atr));
    else if (strcmp(line, "remove\n") == 0)
        say(VSC_CARD_REMOVE, NULL, 0);
    else
        die(line);
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct crypto_cert *cert = NULL;
    struct crypto_key *key = NULL;
    struct error err = {""};
    if (argc != 4 || strlen(argv[1]) >= sizeof address.sun_path)
        die("usage: token_vscard SOCKET CERTIFICATE KEY");
    if (crypto_cert_load_file(&cert, argv[2], &err) < 0 || crypto_key_load(&key, argv[3], &err) < 0)
        die(err.text);
    token = token_new(cert, key);
    token_speak_t0(token); // QEMU's reader is at the TPDU level
    memcpy(address.sun_path, argv[1], strlen(argv[1]));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (const void *)&address, sizeof address) < 0)
        die(strerror(errno));
    const uint32_t init[] = {0, htonl(VSC_VERSION), htonl(0)};
    uint8_t hello[sizeof init];
    memcpy(hello, init, sizeof init);
    memcpy(hello, VSC_MAGIC, 4);
    say(VSC_INIT, hello, sizeof hello);
    say(VSC_READER_ADD, NULL, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    for (;;) {
        struct pollfd fds[] = {{0, POLLIN, 0}, {fd, POLLIN, 0}};
        poll(fds, 2, -1);
        if (fds[1].revents != 0)
            on_message();
        if (fds[0].revents != 0)
            on_command();
    }
}
