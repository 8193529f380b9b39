// Emulated tokens as USB devices for another process with the unmodified libusb, through umockdev.
// Prints the folder for UMOCKDEV_DIR. Then each line of its input is one command about the token of
// port N (1 to 4), and is answered by a line:
//     N plug CERTIFICATE KEY MAKE   a new device with a new number; the answer is its node
//     N plug CIPHER blank MAKE      likewise, as the token's maker sells it (token_new_blank)
//     N unplug | N fault NAME | N claim busy | N claim free | N counts
//     N notify | N flood | N calm   one notice that the card has come, or notices without end
//     N hang | N go-on              every call of the kernel blocks
#include "tests/component/token_usb.h"

#include <errno.h>
#include <linux/usbdevice_fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <umockdev.h>
#include <unistd.h>

#define PORTS 4
#define URBS_MAX 16
#define TRANSFER_BYTES_MAX 8192
#define REAP_WAIT_US 20000

// A transfer. The memory of the client is reached through `data` and `buffer`, and only while the
// client waits in a call: so what becomes of a transfer is kept here until it is reaped.
struct urb {
    UMockdevIoctlData *data, *buffer;
    uint8_t endpoint;
    bool ready;
    int status, len;
    uint8_t bytes[TRANSFER_BYTES_MAX];
};

// One life of a device, from plugging to unplugging. Never freed: a client may come to it later.
struct device {
    int port, number;
    struct token *token;
    struct urb urbs[URBS_MAX];
    bool gone, busy, notice, floods, claimed;
    unsigned sent, notices; // frames to the token, and notices that were read
    UMockdevIoctlBase *handler;
};

static UMockdevTestbed *bed;
static GMutex mutex; // guards the devices and what follows
static GCond changed;
static struct device *ports[PORTS + 1], *left[PORTS + 1]; // plugged in; the one before that
static bool hangs;
static int last_number = 1;

// libumockdev ends the process if a listener to whom it has a notice of a device to send is gone
// just then; one that looks for a dongle comes and goes all the time, as a container's must.
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    ssize_t n = syscall(SYS_sendmsg, fd, message, flags);
    return n < 0 && errno == ECONNREFUSED ? 0 : n;
}

static void die(const char *text)
{
    fprintf(stderr, "token_umockdev: %s\n", text);
    exit(1);
}

static struct urb *urb_free(struct device *d)
{
    for (int i = 0; i < URBS_MAX; i++) {
        if (d->urbs[i].data == NULL)
            return &d->urbs[i];
    }
    die("too many URBs");
    return NULL;
}

static void urb_end(struct urb *u, int status, int len)
{
    u->status = status;
    u->len = len;
    u->ready = true;
    g_cond_broadcast(&changed);
}

static void give_notice(struct device *d)
{
    for (int i = 0; (d->notice || d->floods) && i < URBS_MAX; i++) {
        struct urb *u = &d->urbs[i];
        if (u->data == NULL || u->ready || u->endpoint != TOKEN_INTERRUPT_IN)
            continue;
        urb_end(u, 0, (int)token_notice(true, u->bytes));
        d->notice = false;
        d->notices++;
    }
}

static void submit(struct device *d, UMockdevIoctlClient *client, UMockdevIoctlData *arg)
{
    struct urb *u = urb_free(d);
    u->data = umockdev_ioctl_data_resolve(arg, 0, sizeof(struct usbdevfs_urb), NULL);
    u->ready = false;
    const struct usbdevfs_urb *urb = (void *)u->data->data;
    int n = urb->buffer_length;
    u->endpoint = urb->endpoint;
    u->buffer = umockdev_ioctl_data_resolve(u->data, G_STRUCT_OFFSET(struct usbdevfs_urb, buffer),
                                            (gsize)n, NULL);
    if (n > TRANSFER_BYTES_MAX)
        die("too long a transfer");
    if (u->endpoint == TOKEN_INTERRUPT_IN) {
        give_notice(d);
    } else if ((u->endpoint & 0x80) != 0) {
        int got = token_receive(d->token, u->bytes, (size_t)n);
        if (got != -ETIMEDOUT) // else until it is discarded
            urb_end(u, got < 0 ? got : 0, got < 0 ? 0 : got);
    } else {
        d->sent++;
        int r = token_send(d->token, u->buffer->data, (size_t)n);
        urb_end(u, r, r < 0 ? 0 : n);
    }
    umockdev_ioctl_client_complete(client, 0, 0);
}

static bool reap_one(struct device *d, UMockdevIoctlClient *client, UMockdevIoctlData *arg)
{
    for (int i = 0; i < URBS_MAX; i++) {
        struct urb *u = &d->urbs[i];
        if (u->data == NULL || !u->ready)
            continue;
        struct usbdevfs_urb *urb = (void *)u->data->data;
        urb->status = u->status;
        urb->actual_length = u->len;
        umockdev_ioctl_data_update(u->data, 0, u->data->data, u->data->data_len);
        if ((u->endpoint & 0x80) != 0 && u->len > 0)
            umockdev_ioctl_data_update(u->buffer, 0, u->bytes, (gsize)u->len);
        UMockdevIoctlData *out = umockdev_ioctl_data_resolve(arg, 0, sizeof(gpointer), NULL);
        umockdev_ioctl_data_set_ptr(out, 0, u->data);
        umockdev_ioctl_data_unref(out);
        umockdev_ioctl_data_unref(u->buffer);
        umockdev_ioctl_data_unref(u->data);
        u->data = NULL;
        umockdev_ioctl_client_complete(client, 0, 0);
        return true;
    }
    return false;
}

// The node is always ready in poll(): libusb would spin if this did not take its time.
static void reap(struct device *d, UMockdevIoctlClient *client, UMockdevIoctlData *arg)
{
    gint64 until = g_get_monotonic_time() + REAP_WAIT_US;
    while (!reap_one(d, client, arg)) {
        if (d->gone || !g_cond_wait_until(&changed, &mutex, until)) {
            umockdev_ioctl_client_complete(client, -1, d->gone ? ENODEV : EAGAIN);
            return;
        }
    }
}

static void discard(struct device *d, UMockdevIoctlClient *client, UMockdevIoctlData *arg)
{
    gulong address;
    memcpy(&address, arg->data, sizeof address);
    for (int i = 0; i < URBS_MAX; i++) {
        struct urb *u = &d->urbs[i];
        if (u->data == NULL || u->ready || u->data->client_addr != address)
            continue;
        urb_end(u, -ENOENT, 0);
        umockdev_ioctl_client_complete(client, 0, 0);
        return;
    }
    umockdev_ioctl_client_complete(client, -1, EINVAL);
}

static void claim(struct device *d, UMockdevIoctlClient *client, bool wanted)
{
    bool good = !wanted || !d->busy;
    d->claimed = wanted && good;
    umockdev_ioctl_client_complete(client, good ? 0 : -1, good ? 0 : EBUSY);
}

static gboolean on_ioctl(UMockdevIoctlBase *handler, UMockdevIoctlClient *client, gpointer ctx)
{
    struct device *d = ctx;
    gulong request = umockdev_ioctl_client_get_request(client);
    UMockdevIoctlData *arg = umockdev_ioctl_client_get_arg(client);
    g_mutex_lock(&mutex);
    while (hangs)
        g_cond_wait(&changed, &mutex);
    if (request == USBDEVFS_REAPURB || request == USBDEVFS_REAPURBNDELAY)
        reap(d, client, arg);
    else if (request == USBDEVFS_DISCARDURB)
        discard(d, client, arg);
    else if (d->gone)
        umockdev_ioctl_client_complete(client, -1, ENODEV);
    else if (request == USBDEVFS_SUBMITURB)
        submit(d, client, arg);
    else if (request == USBDEVFS_CLAIMINTERFACE || request == USBDEVFS_RELEASEINTERFACE)
        claim(d, client, request == USBDEVFS_CLAIMINTERFACE);
    else
        umockdev_ioctl_client_complete(client, -1,
                                       request == USBDEVFS_IOCTL || request == USBDEVFS_GETDRIVER
                                           ? ENODATA // no kernel driver holds it
                                           : ENOTTY);
    g_mutex_unlock(&mutex);
    return TRUE;
}

// ---- commands ----

static char *node_of(const struct device *d)
{
    return g_strdup_printf("/dev/bus/usb/001/%03d", d->number);
}

static void add_device(struct device *d, enum token_make make)
{
    uint8_t descriptors[TOKEN_DESCRIPTORS_MAX];
    size_t len = token_descriptors(make, descriptors);
    GString *hex = g_string_new(NULL);
    for (size_t i = 0; i < len; i++)
        g_string_append_printf(hex, "%02X", descriptors[i]);
    g_autofree char *node = node_of(d);
    g_autofree char *text = g_strdup_printf(
        "P: /devices/usb1/1-%d\nN: %s=%s\nE: SUBSYSTEM=usb\nE: DEVTYPE=usb_device\nE: DEVNAME=%s\n"
        "E: BUSNUM=001\nE: DEVNUM=%03d\nE: MAJOR=189\nE: MINOR=%d\nA: busnum=1\\n\nA: "
        "devnum=%d\\n\n"
        "A: bConfigurationValue=1\\n\nA: speed=12\\n\nA: dev=189:%d\\n\nH: descriptors=%s\n",
        d->port, node + sizeof "/dev", hex->str, node, d->number, d->number - 1, d->number,
        d->number - 1, hex->str);
    g_string_free(hex, TRUE);
    d->handler = umockdev_ioctl_base_new();
    g_signal_connect(d->handler, "handle-ioctl", G_CALLBACK(on_ioctl), d);
    if (!umockdev_testbed_add_from_string(bed, text, NULL) ||
        !umockdev_testbed_attach_ioctl(bed, node, d->handler, NULL))
        die("the device cannot be made");
}

static bool number_used(int number)
{
    for (int port = 1; port <= PORTS; port++) {
        if ((ports[port] != NULL && ports[port]->number == number) ||
            (left[port] != NULL && left[port]->number == number))
            return true;
    }
    return false;
}

// The next one, as the kernel gives them: 1 (here the hub's) to 127, and again.
static int next_number(void)
{
    do {
        last_number = last_number % 127 + 1;
    } while (last_number == 1 || number_used(last_number));
    return last_number;
}

static struct token *token_load(const char *cert_path, const char *key_path)
{
    struct crypto_cert *cert = NULL;
    struct crypto_key *key = NULL;
    struct error err = {""};
    if (strcmp(key_path, "blank") == 0)
        return token_new_blank(cert_path);
    if (crypto_cert_load_file(&cert, cert_path, &err) < 0 ||
        crypto_key_load(&key, key_path, &err) < 0)
        die(err.text);
    struct token *token = token_new(cert, key);
    crypto_cert_free(&cert);
    crypto_key_free(&key);
    return token;
}

static const char *plug(int port, const char *arguments)
{
    static char *node;
    char cert_path[512], key_path[512], make_name[32];
    enum token_make make;
    if (ports[port] != NULL ||
        sscanf(arguments, "%511s %511s %31s", cert_path, key_path, make_name) != 3 ||
        !token_make_named(make_name, &make))
        die("plug: what?");
    struct device *d = g_new0(struct device, 1);
    d->port = port;
    d->number = next_number();
    d->token = token_load(cert_path, key_path);
    if (d->token == NULL)
        die("plug: which cipher?");
    add_device(d, make);
    ports[port] = d;
    g_free(node);
    node = node_of(d);
    return node;
}

static const char *unplug(int port)
{
    struct device *d = ports[port];
    g_autofree char *path = g_strdup_printf("/sys/devices/usb1/1-%d", port);
    g_mutex_lock(&mutex);
    d->gone = true;
    for (int i = 0; i < URBS_MAX; i++) {
        if (d->urbs[i].data != NULL && !d->urbs[i].ready)
            urb_end(&d->urbs[i], -ENODEV, 0);
    }
    g_cond_broadcast(&changed);
    g_mutex_unlock(&mutex);
    // As in a container, where only who holds a device hears of it. (Also, umockdev aborts when a
    // listener goes away meanwhile, and who looks for devices comes and goes.)
    if (d->claimed)
        umockdev_testbed_uevent(bed, path, "remove");
    umockdev_testbed_remove_device(bed, path);
    // Whoever is within a call to it would be killed by umockdev: so one life later.
    if (left[port] != NULL) {
        g_autofree char *node = node_of(left[port]);
        umockdev_testbed_detach_ioctl(bed, node, NULL);
        g_object_unref(left[port]->handler);
    }
    left[port] = d;
    ports[port] = NULL;
    return "done";
}

static const char *in_place(struct device *d, const char *verb, const char *argument)
{
    static char counts[64];
    enum token_fault fault;
    if (strcmp(verb, "fault") == 0 && token_fault_named(argument, &fault))
        token_misbehave(d->token, fault);
    else if (strcmp(verb, "claim") == 0)
        d->busy = strcmp(argument, "busy") == 0;
    else if (strcmp(verb, "notify") == 0)
        d->notice = true;
    else if (strcmp(verb, "flood") == 0 || strcmp(verb, "calm") == 0)
        d->floods = verb[0] == 'f';
    else if (strcmp(verb, "hang") == 0 || strcmp(verb, "go-on") == 0)
        hangs = verb[0] == 'h';
    else if (strcmp(verb, "counts") != 0)
        die("what?");
    give_notice(d);
    g_cond_broadcast(&changed);
    snprintf(counts, sizeof counts, "%u %u", d->sent, d->notices);
    return strcmp(verb, "counts") == 0 ? counts : "done";
}

static const char *carry_out(char *line)
{
    int port = 0, at = 0;
    char verb[16] = "";
    if (sscanf(line, "%d %15s %n", &port, verb, &at) != 2 || port < 1 || port > PORTS)
        die(line);
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(verb, "plug") == 0)
        return plug(port, line + at);
    if (ports[port] == NULL)
        die("nothing is plugged in there");
    if (strcmp(verb, "unplug") == 0)
        return unplug(port);
    g_mutex_lock(&mutex);
    const char *answer = in_place(ports[port], verb, line + at);
    g_mutex_unlock(&mutex);
    return answer;
}

int main(void)
{
    char line[2048];
    bed = umockdev_testbed_new();
    g_autofree char *root = umockdev_testbed_get_root_dir(bed);
    GMainLoop *loop = g_main_loop_new(NULL, FALSE);
    GThread *thread = g_thread_new("loop", (GThreadFunc)(void (*)(void))g_main_loop_run, loop);
    printf("%s\n", root);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        printf("%s\n", carry_out(line));
        fflush(stdout);
    }
    g_mutex_lock(&mutex);
    hangs = false;
    g_cond_broadcast(&changed);
    g_mutex_unlock(&mutex);
    g_main_loop_quit(loop);
    g_thread_join(thread);
    g_object_unref(bed);
    return 0;
}
