#include "services/trust/usb_reader.h"

#include "common/clock.h"

#include <errno.h>
#include <libusb-1.0/libusb.h>

#define CLASS_SMART_CARD 0x0B

static int error_of(int r)
{
    if (r == LIBUSB_ERROR_TIMEOUT)
        return -ETIMEDOUT;
    return r == LIBUSB_ERROR_NO_DEVICE ? -ENODEV : -EIO;
}

static int reader_send(void *ctx, const uint8_t *data, size_t len, int64_t timeout_ms)
{
    struct usb_reader *r = ctx;
    int sent = 0;
    int e = libusb_bulk_transfer(r->handle, r->out, (uint8_t *)(uintptr_t)data, (int)len, &sent,
                                 (unsigned)timeout_ms);
    if (e != 0)
        return error_of(e);
    return (size_t)sent == len ? 0 : -EIO;
}

static int reader_receive(void *ctx, uint8_t *data, size_t cap, int64_t timeout_ms)
{
    struct usb_reader *r = ctx;
    int got = 0;
    int e = libusb_bulk_transfer(r->handle, r->in, data, (int)cap, &got, (unsigned)timeout_ms);
    // A frame of whole packets without an empty one behind it ends only by time.
    if (e == LIBUSB_ERROR_TIMEOUT && got > 0)
        return got;
    return e != 0 ? error_of(e) : got;
}

static int64_t reader_now_ms(void *ctx)
{
    return clock_mono().ms;
}

struct dongle_io usb_reader_io(struct usb_reader *r)
{
    return (struct dongle_io){reader_send, reader_receive, reader_now_ms, r};
}

static uint16_t packet_bytes(const struct libusb_endpoint_descriptor *e)
{
    return e->wMaxPacketSize & 0x7FF;
}

static bool take_interface(struct usb_reader *out, const struct libusb_interface_descriptor *d)
{
    *out = (struct usb_reader){.interface = d->bInterfaceNumber};
    if (d->bInterfaceClass != CLASS_SMART_CARD || d->bInterfaceProtocol != 0 ||
        d->bAlternateSetting != 0)
        return false;
    out->described = ccid_reader_parse(&out->reader, d->extra, (size_t)d->extra_length);
    for (int i = 0; i < d->bNumEndpoints; i++) {
        const struct libusb_endpoint_descriptor *e = &d->endpoint[i];
        // Some readers put the class descriptor behind their endpoints.
        if (!out->described)
            out->described = ccid_reader_parse(&out->reader, e->extra, (size_t)e->extra_length);
        if ((e->bmAttributes & 3) == LIBUSB_TRANSFER_TYPE_INTERRUPT &&
            (e->bEndpointAddress & LIBUSB_ENDPOINT_IN) != 0 && packet_bytes(e) > 0 &&
            packet_bytes(e) <= USB_NOTICE_BYTES) {
            out->notify = e->bEndpointAddress;
            out->notify_len = packet_bytes(e);
        }
        if ((e->bmAttributes & 3) != LIBUSB_TRANSFER_TYPE_BULK)
            continue;
        if ((e->bEndpointAddress & LIBUSB_ENDPOINT_IN) != 0)
            out->in = e->bEndpointAddress;
        else
            out->out = e->bEndpointAddress;
    }
    return out->in != 0 && out->out != 0;
}

bool usb_reader_find(struct usb_reader *out, struct libusb_device *device)
{
    struct libusb_config_descriptor *config = NULL;
    bool found = false;
    if (libusb_get_active_config_descriptor(device, &config) != 0)
        return false;
    for (int i = 0; i < config->bNumInterfaces && !found; i++) {
        if (config->interface[i].num_altsetting > 0)
            found = take_interface(out, &config->interface[i].altsetting[0]);
    }
    libusb_free_config_descriptor(config);
    return found;
}

static enum dongle_outcome refused(int e, struct error *err)
{
    error_set(err, "USB: %s", libusb_strerror(e));
    switch (e) {
    case LIBUSB_ERROR_BUSY:
        return DONGLE_BUSY;
    case LIBUSB_ERROR_ACCESS:
    case LIBUSB_ERROR_IO: // how a container's device rules say no
        return DONGLE_NO_PERMISSION;
    case LIBUSB_ERROR_NO_DEVICE:
    case LIBUSB_ERROR_NOT_FOUND:
        return DONGLE_ABSENT;
    default:
        return DONGLE_UNSUPPORTED;
    }
}

enum dongle_outcome usb_reader_open(struct usb_reader *r, struct libusb_context *usb,
                                    struct libusb_device *device, struct error *err)
{
    r->usb = usb;
    int e = libusb_open(device, &r->handle);
    if (e != 0) {
        r->handle = NULL;
        return refused(e, err);
    }
    libusb_set_auto_detach_kernel_driver(r->handle, 1);
    e = libusb_claim_interface(r->handle, r->interface);
    if (e != 0) {
        libusb_close(r->handle);
        r->handle = NULL;
        return refused(e, err);
    }
    if (!r->described)
        return error_set(err, "the reader has no CCID class descriptor"), DONGLE_UNSUPPORTED;
    return DONGLE_PROVEN;
}

// ---- the card-present notification ----

static void on_notice(struct libusb_transfer *transfer)
{
    struct usb_reader *r = transfer->user_data;
    if (transfer->status == LIBUSB_TRANSFER_STALL || transfer->status == LIBUSB_TRANSFER_ERROR ||
        transfer->status == LIBUSB_TRANSFER_OVERFLOW)
        r->notify = 0; // it does not do what it promised: asking has to be enough
    libusb_free_transfer(transfer);
    r->transfer = NULL;
    r->notified = 1;
}

static void listen_for_notice(struct usb_reader *r)
{
    r->transfer = libusb_alloc_transfer(0);
    if (r->transfer == NULL)
        return;
    libusb_fill_interrupt_transfer(r->transfer, r->handle, r->notify, r->notice, r->notify_len,
                                   on_notice, r, 0);
    if (libusb_submit_transfer(r->transfer) != 0) {
        libusb_free_transfer(r->transfer);
        r->transfer = NULL;
        r->notify = 0;
    }
}

void usb_reader_wait(struct usb_reader *r, struct mono_time until, const atomic_bool *woken)
{
    if (r->transfer == NULL && r->notify != 0 && !r->notified && !r->rest)
        listen_for_notice(r);
    while (!r->notified && !atomic_load(woken)) {
        int64_t left = until.ms - clock_mono().ms;
        struct timeval timeout = {left / 1000, (left % 1000) * 1000};
        if (left <= 0 ||
            libusb_handle_events_timeout_completed(r->usb, &timeout, &r->notified) != 0)
            break;
    }
    // A reader that sends notices without end is not asked much more often for it.
    r->rest = r->notified;
    r->notified = 0;
}

static void stop_listening(struct usb_reader *r)
{
    if (r->transfer == NULL)
        return;
    libusb_cancel_transfer(r->transfer);
    while (r->transfer != NULL) {
        struct timeval timeout = {1, 0};
        if (libusb_handle_events_timeout_completed(r->usb, &timeout, NULL) != 0)
            return;
    }
}

void usb_reader_close(struct usb_reader *r)
{
    if (r->handle == NULL)
        return;
    stop_listening(r);
    libusb_release_interface(r->handle, r->interface);
    libusb_close(r->handle);
    r->handle = NULL;
}
