#include "services/trust/usb_tokens.h"

#include "common/clock.h"

#include <libusb-1.0/libusb.h>

static int heard_send(void *ctx, const uint8_t *data, size_t len, int64_t timeout_ms)
{
    struct usb_tokens *t = ctx;
    struct dongle_io io = usb_reader_io(&t->reader);
    return io.send(io.ctx, data, len, timeout_ms);
}

static int heard_receive(void *ctx, uint8_t *data, size_t cap, int64_t timeout_ms)
{
    struct usb_tokens *t = ctx;
    struct dongle_io io = usb_reader_io(&t->reader);
    int n = io.receive(io.ctx, data, cap, timeout_ms);
    if (n > 0)
        atomic_fetch_add(&t->heard, 1);
    return n;
}

static int64_t heard_now_ms(void *ctx)
{
    return clock_mono().ms;
}

static void drop(struct usb_tokens *t)
{
    dongle_close(&t->dongle);
    usb_reader_close(&t->reader);
    t->held = false;
}

static enum dongle_outcome try_device(struct usb_tokens *t, libusb_device *device,
                                      struct error *err)
{
    const struct dongle_io io = {heard_send, heard_receive, heard_now_ms, t};
    struct wall_time now = clock_wall();
    enum dongle_outcome outcome = usb_reader_open(&t->reader, t->usb, device, err);
    if (outcome == DONGLE_PROVEN)
        outcome = dongle_open(&t->dongle, &io, &t->reader.reader, t->vendor_ca, now, err);
    if (outcome == DONGLE_PROVEN)
        outcome = dongle_prove(&t->dongle, now, err);
    t->held = outcome == DONGLE_PROVEN;
    if (!t->held)
        drop(t);
    return outcome;
}

static enum dongle_outcome try_all(struct usb_tokens *t, struct error *err)
{
    libusb_device **list = NULL;
    ssize_t n = libusb_get_device_list(t->usb, &list);
    enum dongle_outcome nearest = DONGLE_ABSENT;
    error_set(err, "no USB smart card reader (interface class 0B) is plugged in");
    for (ssize_t i = 0; i < n && !t->held; i++) {
        struct error why = {""};
        if (!usb_reader_find(&t->reader, list[i]))
            continue;
        enum dongle_outcome outcome = try_device(t, list[i], &why);
        if (outcome >= nearest) {
            nearest = outcome;
            *err = why;
        }
    }
    if (n >= 0)
        libusb_free_device_list(list, 1);
    return t->held ? DONGLE_PROVEN : nearest;
}

// libusb is begun anew for each look: where no hotplug events come, as in containers, it would
// never see another device.
enum dongle_outcome usb_tokens_look(struct usb_tokens *t, struct error *err)
{
    int e = libusb_init(&t->usb);
    if (e != 0) {
        t->usb = NULL;
        return error_set(err, "USB cannot be used: %s", libusb_strerror(e)), DONGLE_ABSENT;
    }
    enum dongle_outcome outcome = try_all(t, err);
    if (!t->held)
        usb_tokens_let_go(t);
    return outcome;
}

void usb_tokens_let_go(struct usb_tokens *t)
{
    drop(t);
    if (t->usb != NULL)
        libusb_exit(t->usb);
    t->usb = NULL;
}
