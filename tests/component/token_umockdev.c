// The emulated token as a USB device for another process with the unmodified libusb, through
// umockdev. token_umockdev KEYS ID LICENSE.pem: the folder of berth-vendor init, the server ID, and
// a server license whose license keys the token's gets too. Prints the folder for UMOCKDEV_DIR;
// then each line of its input is a number of enum token_fault, answered with "done".
#include "common/clock.h"
#include "common/server_license.h"
#include "tests/component/token_model.h"

#include <errno.h>
#include <linux/usbdevice_fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <umockdev.h>

#define URBS_MAX 16
#define NODE "/dev/bus/usb/001/002"

static const uint8_t descriptors[] = {
    18, 1, 0, 2, 0, 0, 0, 64, 0x50, 0x10, 0x07, 0x04, 0, 1, 0, 0, 0, 1, // device
    9, 2, 86, 0, 1, 1, 0, 0x80, 50,                                     // configuration
    9, 4, 0, 0, 2, 0x0B, 0, 0, 0,                                       // interface
    54, 0x21, 0x10, 1, 0, 7, 2, 0, 0, 0, 0xA0, 0x0F, 0, 0, 0xA0, 0x0F, 0, 0, 0, 0, 0x2A, 0, 0,
    0, 0x2A, 0, 0, 0, 0, 0x0C, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xBA, 0, 4, 0, 0, 0x0C, 0, 0, 0xFF,
    0xFF, 0, 0, 0, 1,                                                   // CCID
    7, 5, 0x81, 2, 64, 0, 0, 7, 5, 0x02, 2, 64, 0, 0,                   // bulk in, bulk out
};

static struct token *token;
static GMutex mutex; // guards token
static struct {
    UMockdevIoctlData *data;
    bool ready;
} urbs[URBS_MAX];

static void die(const char *text)
{
    fprintf(stderr, "token_umockdev: %s\n", text);
    exit(1);
}

static void submit(UMockdevIoctlClient *client, UMockdevIoctlData *arg)
{
    int i = 0;
    while (urbs[i].data != NULL) {
        if (++i == URBS_MAX)
            die("too many URBs");
    }
    UMockdevIoctlData *data =
        umockdev_ioctl_data_resolve(arg, 0, sizeof(struct usbdevfs_urb), NULL);
    struct usbdevfs_urb *urb = (void *)data->data;
    UMockdevIoctlData *buffer = umockdev_ioctl_data_resolve(
        data, G_STRUCT_OFFSET(struct usbdevfs_urb, buffer), (gsize)urb->buffer_length, NULL);
    int n = urb->buffer_length;
    g_mutex_lock(&mutex);
    if ((urb->endpoint & 0x80) != 0)
        n = token_receive(token, buffer->data, (size_t)n);
    else if (token_send(token, buffer->data, (size_t)n) < 0)
        n = -ENODEV;
    g_mutex_unlock(&mutex);
    if (n > 0 && (urb->endpoint & 0x80) != 0)
        umockdev_ioctl_data_update(buffer, 0, buffer->data, buffer->data_len);
    urb->actual_length = n > 0 ? n : 0;
    urb->status = n == -ENODEV ? -ENODEV : 0;
    urbs[i].data = data;
    urbs[i].ready = n != -ETIMEDOUT; // else until it is discarded
    umockdev_ioctl_data_unref(buffer);
    umockdev_ioctl_client_complete(client, 0, 0);
}

static void reap(UMockdevIoctlClient *client, UMockdevIoctlData *arg)
{
    for (int i = 0; i < URBS_MAX; i++) {
        UMockdevIoctlData *data = urbs[i].data;
        if (data == NULL || !urbs[i].ready)
            continue;
        umockdev_ioctl_data_update(data, 0, data->data, data->data_len);
        UMockdevIoctlData *out = umockdev_ioctl_data_resolve(arg, 0, sizeof(gpointer), NULL);
        umockdev_ioctl_data_set_ptr(out, 0, data);
        umockdev_ioctl_data_unref(out);
        umockdev_ioctl_data_unref(data);
        urbs[i].data = NULL;
        umockdev_ioctl_client_complete(client, 0, 0);
        return;
    }
    // The node is always ready in poll(): without a pause libusb would spin.
    g_poll(NULL, 0, 2);
    umockdev_ioctl_client_complete(client, -1, EAGAIN);
}

static void discard(UMockdevIoctlClient *client, UMockdevIoctlData *arg)
{
    gulong address;
    memcpy(&address, arg->data, sizeof address);
    for (int i = 0; i < URBS_MAX; i++) {
        if (urbs[i].data == NULL || urbs[i].ready || urbs[i].data->client_addr != address)
            continue;
        struct usbdevfs_urb *urb = (void *)urbs[i].data->data;
        urb->status = -ENOENT;
        urbs[i].ready = true;
        umockdev_ioctl_client_complete(client, 0, 0);
        return;
    }
    umockdev_ioctl_client_complete(client, -1, EINVAL);
}

static gboolean on_ioctl(UMockdevIoctlBase *handler, UMockdevIoctlClient *client, gpointer unused)
{
    gulong request = umockdev_ioctl_client_get_request(client);
    UMockdevIoctlData *arg = umockdev_ioctl_client_get_arg(client);
    if (request == USBDEVFS_SUBMITURB)
        submit(client, arg);
    else if (request == USBDEVFS_REAPURB || request == USBDEVFS_REAPURBNDELAY)
        reap(client, arg);
    else if (request == USBDEVFS_DISCARDURB)
        discard(client, arg);
    else if (request == USBDEVFS_CLAIMINTERFACE || request == USBDEVFS_RELEASEINTERFACE)
        umockdev_ioctl_client_complete(client, 0, 0);
    else
        umockdev_ioctl_client_complete(client, -1,
                                       request == USBDEVFS_IOCTL || request == USBDEVFS_GETDRIVER
                                           ? ENODATA // no kernel driver holds it
                                           : ENOTTY);
    return TRUE;
}

static struct token *make_token(const char *keys, const char *server_id, const char *license_path)
{
    struct error err = {""};
    struct crypto_cert *vendor = NULL, *license = NULL, *cert = NULL;
    struct crypto_key *vendor_key = NULL, *key = NULL;
    struct crypto_ca *ca = NULL;
    struct server_license l;
    struct buf json BUF_CLEANUP = {0};
    g_autofree char *ca_path = g_strdup_printf("%s/vendor-ca.pem", keys);
    g_autofree char *key_path = g_strdup_printf("%s/vendor-ca.key", keys);
    struct wall_time now = clock_wall();
    if (crypto_cert_load_file(&vendor, ca_path, &err) < 0 ||
        crypto_ca_load_file(&ca, ca_path, &err) < 0 ||
        crypto_key_load(&vendor_key, key_path, &err) < 0 ||
        crypto_cert_load_file(&license, license_path, &err) < 0 ||
        server_license_read(&l, license, ca, now, &err) != 0 || crypto_key_new_p256(&key) < 0)
        die(err.text);
    g_autofree char *license_key = g_base64_encode(l.license_keys[0], 32);
    buf_printf(&json,
               "{\"format\":1,\"variant\":\"on-premises\",\"addons\":[],\"licenseKeys\":[\"%s\"]}",
               license_key);
    const struct crypto_issue what = {.common_name = server_id,
                                      .not_before = {now.s - 60},
                                      .not_after = {now.s + 86400},
                                      .usage = USAGE_SERVER_LICENSE,
                                      .extension_json = json.data};
    if (crypto_cert_issue(&cert, &what, key, vendor, vendor_key, &err) < 0)
        die(err.text);
    struct token *made = token_new(cert, key);
    crypto_cert_free(&cert);
    crypto_cert_free(&license);
    crypto_cert_free(&vendor);
    crypto_ca_free(&ca);
    crypto_key_free(&key);
    crypto_key_free(&vendor_key);
    return made;
}

static void add_device(UMockdevTestbed *bed)
{
    GString *hex = g_string_new(NULL);
    for (size_t i = 0; i < sizeof descriptors; i++)
        g_string_append_printf(hex, "%02X", descriptors[i]);
    g_autofree char *text = g_strdup_printf(
        "P: /devices/usb1/1-1\nN: bus/usb/001/002=%s\nE: SUBSYSTEM=usb\nE: DEVTYPE=usb_device\n"
        "E: DEVNAME=" NODE "\nE: BUSNUM=001\nE: DEVNUM=002\nE: MAJOR=189\nE: MINOR=1\n"
        "A: busnum=1\\n\nA: devnum=2\\n\nA: bConfigurationValue=1\\n\nA: speed=12\\n\n"
        "A: dev=189:1\\n\nH: descriptors=%s\n",
        hex->str, hex->str);
    g_string_free(hex, TRUE);
    UMockdevIoctlBase *handler = umockdev_ioctl_base_new();
    g_signal_connect(handler, "handle-ioctl", G_CALLBACK(on_ioctl), NULL);
    if (!umockdev_testbed_add_from_string(bed, text, NULL) ||
        !umockdev_testbed_attach_ioctl(bed, NODE, handler, NULL))
        die("the device cannot be made");
}

int main(int argc, char **argv)
{
    if (argc != 4)
        die("usage: token_umockdev KEYS ID LICENSE.pem");
    token = make_token(argv[1], argv[2], argv[3]);
    UMockdevTestbed *bed = umockdev_testbed_new();
    add_device(bed);
    g_autofree char *root = umockdev_testbed_get_root_dir(bed);
    GMainLoop *loop = g_main_loop_new(NULL, FALSE);
    GThread *thread = g_thread_new("loop", (GThreadFunc)(void (*)(void))g_main_loop_run, loop);
    printf("%s\n", root);
    fflush(stdout);
    char line[32];
    while (fgets(line, sizeof line, stdin) != NULL) {
        g_mutex_lock(&mutex);
        token_misbehave(token, (enum token_fault)atoi(line));
        g_mutex_unlock(&mutex);
        printf("done\n");
        fflush(stdout);
    }
    g_main_loop_quit(loop);
    g_thread_join(thread);
    g_object_unref(bed);
    token_free(&token);
    return 0;
}
