// What "usbip attach -r 127.0.0.1 -b 1-1" does, without the kernel's tools, which a small system
// does not have. Prints the port of vhci_hcd, for its `detach`.
#include "tests/component/token_usbip.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define VHCI "/sys/devices/platform/vhci_hcd.0/"

static void die(const char *text)
{
    fprintf(stderr, "usbip_attach: %s\n", text);
    exit(1);
}

static int free_port(void)
{
    char line[256], hub[8];
    int port = -1, status;
    FILE *f = fopen(VHCI "status", "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        // 4: VDEV_ST_NULL
        if (sscanf(line, "%7s %d %d", hub, &port, &status) == 3 && status == 4)
            break;
        port = -1;
    }
    if (f != NULL)
        fclose(f);
    return port;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        die("usage: usbip_attach PORT");
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)atoi(argv[1])),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct op op = {htons(USBIP_VERSION), htons(OP_REQ_IMPORT), 0};
    const char bus_id[32] = BUS_ID;
    struct op answer;
    struct description d;
    if (connect(fd, (const void *)&address, sizeof address) < 0)
        die(strerror(errno));
    if (send(fd, &op, sizeof op, 0) != sizeof op ||
        send(fd, bus_id, sizeof bus_id, 0) != sizeof bus_id ||
        recv(fd, &answer, sizeof answer, MSG_WAITALL) != sizeof answer || answer.status != 0 ||
        recv(fd, &d, sizeof d, MSG_WAITALL) != sizeof d)
        die("the server does not give its device");
    int hub_port = free_port();
    FILE *f = fopen(VHCI "attach", "we");
    if (hub_port < 0 || f == NULL ||
        fprintf(f, "%d %d %u %u", hub_port, fd, ntohl(d.bus) << 16 | ntohl(d.device),
                ntohl(d.speed)) < 0 ||
        fclose(f) != 0)
        die("vhci_hcd does not take it");
    printf("%d\n", hub_port);
    return 0;
}
