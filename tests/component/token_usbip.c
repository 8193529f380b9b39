// The emulated token as a USB/IP device server: on any Linux with vhci_hcd it appears as a real USB
// device.
//   token_usbip PORT CERTIFICATE KEY MAKE   at 127.0.0.1; usbip attach -r 127.0.0.1 -b 1-1
// Each line of its input is a command: fault NAME (token_model.h), notify, or unplug.
#include "tests/component/token_usbip.h"
#include "tests/component/token_usb.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TRANSFER_MAX 8192
#define PENDING_MAX 16

enum command { CMD_SUBMIT = 1, CMD_UNLINK, RET_SUBMIT, RET_UNLINK };

struct header {
    uint32_t command, seq, device, in, endpoint;
    uint32_t status; // CMD_UNLINK: the seq of what is to be taken back
    uint32_t len;    // CMD_SUBMIT: wanted; RET_SUBMIT: moved
    uint32_t start_frame, packets, errors;
    uint8_t setup[8];
};
_Static_assert(sizeof(struct header) == 48, "no padding");

struct pending {
    uint32_t seq, endpoint, len; // seq 0: none
};

static struct token *token;
static uint8_t descriptors[TOKEN_DESCRIPTORS_MAX];
static size_t descriptors_len;
static struct pending pending[PENDING_MAX]; // reads that wait for something to read
static bool notice;

static void die(const char *text)
{
    fprintf(stderr, "token_usbip: %s\n", text);
    exit(1);
}

static bool read_all(int fd, void *data, size_t len)
{
    return len == 0 || recv(fd, data, len, MSG_WAITALL) == (ssize_t)len;
}

static void write_all(int fd, const void *data, size_t len)
{
    for (const char *p = data; len > 0;) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return; // the reader will see it end
        p += n;
        len -= (size_t)n;
    }
}

// ---- what comes before the transfers ----

static struct description describe(void)
{
    const uint8_t *d = descriptors, *c = descriptors + TOKEN_DEVICE_BYTES;
    struct description out = {.path = "/sys/devices/emulated/" BUS_ID,
                              .bus_id = BUS_ID,
                              .bus = htonl(DEVICE_ID >> 16),
                              .device = htonl(DEVICE_ID & 0xFFFF),
                              .speed = htonl(SPEED_FULL),
                              .vendor = htons((uint16_t)(d[8] | d[9] << 8)),
                              .product = htons((uint16_t)(d[10] | d[11] << 8)),
                              .release = htons((uint16_t)(d[12] | d[13] << 8)),
                              .class = d[4],
                              .configuration = c[5],
                              .configurations = d[17],
                              .interfaces = c[4]};
    return out;
}

static void list(int fd)
{
    const struct op op = {htons(USBIP_VERSION), htons(OP_REP_DEVLIST), 0};
    struct description d = describe();
    uint32_t one = htonl(1);
    write_all(fd, &op, sizeof op);
    write_all(fd, &one, sizeof one);
    write_all(fd, &d, sizeof d);
    const uint8_t *c = descriptors + TOKEN_DEVICE_BYTES;
    for (size_t i = 0; i < descriptors_len - TOKEN_DEVICE_BYTES; i += c[i]) {
        const uint8_t interface[] = {c[i + 5], c[i + 6], c[i + 7], 0};
        if (c[i + 1] == 4)
            write_all(fd, interface, sizeof interface);
    }
}

// True if the client has imported the device: transfers follow.
static bool greet(int fd)
{
    struct op op;
    char bus_id[32];
    if (!read_all(fd, &op, sizeof op))
        return false;
    if (ntohs(op.code) == OP_REQ_DEVLIST)
        return list(fd), false;
    if (ntohs(op.code) != OP_REQ_IMPORT || !read_all(fd, bus_id, sizeof bus_id))
        return false;
    bool known = strncmp(bus_id, BUS_ID, sizeof bus_id) == 0;
    const struct op answer = {htons(USBIP_VERSION), htons(OP_REP_IMPORT), htonl(!known)};
    struct description d = describe();
    write_all(fd, &answer, sizeof answer);
    if (known)
        write_all(fd, &d, sizeof d);
    return known;
}

// ---- transfers ----

static void ret_submit(int fd, uint32_t seq, int status, const void *data, uint32_t len, bool in)
{
    const struct header h = {.command = htonl(RET_SUBMIT),
                             .seq = htonl(seq),
                             .status = htonl((uint32_t)status),
                             .len = htonl(len)};
    write_all(fd, &h, sizeof h);
    if (in)
        write_all(fd, data, len);
}

// Answers a read if there is something; false: it has to wait.
static bool give(int fd, const struct pending *p)
{
    uint8_t data[TRANSFER_MAX];
    int n = -ETIMEDOUT;
    if (p->endpoint == (TOKEN_INTERRUPT_IN & 15) && notice)
        n = (int)token_notice(true, data);
    else if (p->endpoint == (TOKEN_BULK_IN & 15))
        n = token_receive(token, data, p->len);
    if (n == -ETIMEDOUT)
        return false;
    if (p->endpoint == (TOKEN_INTERRUPT_IN & 15))
        notice = false;
    ret_submit(fd, p->seq, n < 0 ? -EPROTO : 0, data, n < 0 ? 0 : (uint32_t)n, true);
    return true;
}

static void give_pending(int fd)
{
    for (size_t i = 0; i < PENDING_MAX; i++) {
        if (pending[i].seq != 0 && give(fd, &pending[i]))
            pending[i].seq = 0;
    }
}

static void wait_for_data(uint32_t seq, uint32_t endpoint, uint32_t len)
{
    size_t i = 0;
    while (pending[i].seq != 0) {
        if (++i == PENDING_MAX)
            die("too many transfers");
    }
    pending[i] = (struct pending){seq, endpoint, len};
}

// What is answered to a control request; NULL: stall.
static const uint8_t *control(const uint8_t setup[static 8], uint32_t *len)
{
    static const uint8_t nothing[2] = {0, 0};
    const uint8_t *found = NULL;
    size_t size = 0;
    bool in = (setup[0] & 0x80) != 0;
    if (setup[0] == 0x80 && setup[1] == 6 && setup[3] == 1) {
        found = descriptors;
        size = TOKEN_DEVICE_BYTES;
    } else if (setup[0] == 0x80 && setup[1] == 6 && setup[3] == 2) {
        found = descriptors + TOKEN_DEVICE_BYTES;
        size = descriptors_len - TOKEN_DEVICE_BYTES;
    } else if (in && setup[1] == 0) { // GET_STATUS
        found = nothing;
        size = 2;
    } else if (!in && (setup[0] & 0x60) == 0) { // SET_CONFIGURATION, SET_INTERFACE, …
        found = nothing;
    }
    *len = size < *len ? (uint32_t)size : *len;
    return found;
}

static void on_submit(int fd, const struct header *h, uint32_t seq)
{
    uint8_t out[TRANSFER_MAX];
    uint32_t len = ntohl(h->len), endpoint = ntohl(h->endpoint);
    bool in = ntohl(h->in) != 0;
    if (len > sizeof out || (!in && !read_all(fd, out, len)))
        die("too long a transfer, or half of one");
    if (endpoint == 0) {
        const uint8_t *answer = control(h->setup, &len);
        ret_submit(fd, seq, answer == NULL ? -EPIPE : 0, answer, answer == NULL ? 0 : len, in);
    } else if (in) {
        wait_for_data(seq, endpoint, len);
    } else {
        int r = token_send(token, out, len);
        ret_submit(fd, seq, r < 0 ? -EPROTO : 0, NULL, r < 0 ? 0 : len, false);
    }
    give_pending(fd);
}

static void on_unlink(int fd, const struct header *h, uint32_t seq)
{
    int status = 0; // it was answered before
    for (size_t i = 0; i < PENDING_MAX; i++) {
        if (pending[i].seq != ntohl(h->status))
            continue;
        pending[i].seq = 0;
        status = -ECONNRESET;
    }
    const struct header answer = {
        .command = htonl(RET_UNLINK), .seq = htonl(seq), .status = htonl((uint32_t)status)};
    write_all(fd, &answer, sizeof answer);
}

static bool on_transfer(int fd)
{
    struct header h;
    if (!read_all(fd, &h, sizeof h))
        return false;
    if (ntohl(h.command) == CMD_SUBMIT)
        on_submit(fd, &h, ntohl(h.seq));
    else if (ntohl(h.command) == CMD_UNLINK)
        on_unlink(fd, &h, ntohl(h.seq));
    else
        return false;
    return true;
}

// ---- serve ----

static void hang_up(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    memset(pending, 0, sizeof pending);
}

static void on_command(int *fd)
{
    char line[64], name[48] = "";
    enum token_fault fault;
    if (fgets(line, sizeof line, stdin) == NULL)
        exit(0);
    if (sscanf(line, "fault %47s", name) == 1 && token_fault_named(name, &fault))
        token_misbehave(token, fault);
    else if (strncmp(line, "notify", 6) == 0)
        notice = true;
    else if (strncmp(line, "unplug", 6) == 0)
        hang_up(fd);
    else
        die(line);
    if (*fd >= 0)
        give_pending(*fd);
}

static void token_load(const char *cert_path, const char *key_path, const char *make_name)
{
    enum token_make make;
    struct crypto_cert *cert = NULL;
    struct crypto_key *key = NULL;
    struct error err = {"an unknown make"};
    if (!token_make_named(make_name, &make) || crypto_cert_load_file(&cert, cert_path, &err) < 0 ||
        crypto_key_load(&key, key_path, &err) < 0)
        die(err.text);
    token = token_new(cert, key);
    crypto_cert_free(&cert);
    crypto_key_free(&key);
    descriptors_len = token_descriptors(make, descriptors);
}

static int listen_at(const char *port)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)atoi(port)),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (const void *)&address, sizeof address) < 0 || listen(listener, 4) < 0)
        die(strerror(errno));
    return listener;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        die("usage: token_usbip PORT CERTIFICATE KEY MAKE");
    token_load(argv[2], argv[3], argv[4]);
    int listener = listen_at(argv[1]), fd = -1;
    printf("listening\n");
    fflush(stdout);
    setvbuf(stdin, NULL, _IONBF, 0); // poll() must see what is left
    for (;;) {
        struct pollfd fds[] = {{0, POLLIN, 0}, {listener, POLLIN, 0}, {fd, POLLIN, 0}};
        poll(fds, 3, -1);
        if (fds[2].revents != 0 && !on_transfer(fd))
            hang_up(&fd);
        if (fds[1].revents != 0) {
            int client = accept(listener, NULL, NULL);
            if (fd >= 0 || !greet(client))
                close(client);
            else
                fd = client;
        }
        if (fds[0].revents != 0)
            on_command(&fd);
    }
}
