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

enum dongle_outcome usb_tokens_prove(struct usb_tokens *t, struct error *err)
{
    const struct dongle_io io = {heard_send, heard_receive, heard_now_ms, t};
    struct wall_time now = clock_wall();
    dongle_close(&t->dongle);
    enum dongle_outcome outcome =
        dongle_open(&t->dongle, &io, &t->reader.reader, t->vendor_ca, now, err);
    return outcome == DONGLE_PROVEN ? dongle_prove(&t->dongle, now, err) : outcome;
}

static enum dongle_outcome try_device(struct usb_tokens *t, libusb_device *device,
                                      struct error *err)
{
    enum dongle_outcome outcome = usb_reader_open(&t->reader, t->usb, device, err);
    if (outcome == DONGLE_PROVEN)
        outcome = usb_tokens_prove(t, err);
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

static enum dongle_outcome take_only(struct usb_tokens *t, struct error *err)
{
    const struct dongle_io io = {heard_send, heard_receive, heard_now_ms, t};
    libusb_device **list = NULL;
    ssize_t n = libusb_get_device_list(t->usb, &list), at = -1, readers = 0;
    for (ssize_t i = 0; i < n; i++) {
        if (usb_reader_find(&t->reader, list[i])) {
            at = i;
            readers++;
        }
    }
    enum dongle_outcome outcome = DONGLE_ABSENT;
    error_set(err, "%zd USB smart card readers are plugged in, where there should be one", readers);
    if (readers == 1 && usb_reader_find(&t->reader, list[at]))
        outcome = usb_reader_open(&t->reader, t->usb, list[at], err);
    if (n >= 0)
        libusb_free_device_list(list, 1);
    return outcome == DONGLE_PROVEN ? dongle_start(&t->dongle, &io, &t->reader.reader, err)
                                    : outcome;
}

enum dongle_outcome usb_tokens_only(struct usb_tokens *t, struct error *err)
{
    if (libusb_init(&t->usb) != 0) {
        t->usb = NULL;
        return error_set(err, "USB cannot be used"), DONGLE_ABSENT;
    }
    enum dongle_outcome outcome = take_only(t, err);
    t->held = outcome == DONGLE_PROVEN;
    if (!t->held)
        usb_tokens_let_go(t);
    return outcome;
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
