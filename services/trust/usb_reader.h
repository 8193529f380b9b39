// CCID readers over libusb-1.0: found by interface class, opened, and driven as a dongle_io.
#pragma once

#include "common/core/times.h"
#include "services/trust/dongle.h"

#include <stdatomic.h>

#define USB_NOTICE_BYTES 64 // the longest packet of an interrupt endpoint at full speed

struct libusb_context;
struct libusb_device;
struct libusb_device_handle;
struct libusb_transfer;

struct usb_reader {
    struct libusb_device_handle *handle;
    int interface;
    uint8_t in, out; // endpoint addresses
    uint8_t notify;  // 0: the reader has no such endpoint
    uint16_t notify_len;
    bool described; // `reader` was there to be read
    struct ccid_reader reader;

    struct libusb_context *usb;
    struct libusb_transfer *transfer; // waits at `notify`; NULL: none
    int notified;                     // it has ended
    bool rest;                        // from listening, for one wait
    uint8_t notice[USB_NOTICE_BYTES];
};

// Is this device a CCID reader? Its interface, endpoints and class descriptor into out.
bool usb_reader_find(struct usb_reader *out, struct libusb_device *device);
// Claims it: DONGLE_PROVEN if it is ours now, else why it is not; err says more.
enum dongle_outcome usb_reader_open(struct usb_reader *r, struct libusb_context *usb,
                                    struct libusb_device *device, struct error *err);
void usb_reader_close(struct usb_reader *r);          // also after a failed open
struct dongle_io usb_reader_io(struct usb_reader *r); // r stays where it is
// Waits until the card has come or gone (as far as the reader says so), the device has gone,
// *woken, or that moment. To wake it, set *woken and call libusb_interrupt_event_handler().
void usb_reader_wait(struct usb_reader *r, struct mono_time until, const atomic_bool *woken);
