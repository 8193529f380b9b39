// CCID readers over libusb-1.0: found by interface class, opened, and driven as a dongle_io.
#pragma once

#include "services/trust/dongle.h"

struct libusb_context;
struct libusb_device;
struct libusb_device_handle;

struct usb_reader {
    struct libusb_device_handle *handle;
    int interface;
    uint8_t in, out; // endpoint addresses
    bool described;  // `reader` was there to be read
    struct ccid_reader reader;
};

// Is this device a CCID reader? Its interface, endpoints and class descriptor into out.
bool usb_reader_find(struct usb_reader *out, struct libusb_device *device);
// Claims it: DONGLE_PROVEN if it is ours now, else why it is not; err says more.
enum dongle_outcome usb_reader_open(struct usb_reader *r, struct libusb_device *device,
                                    struct error *err);
void usb_reader_close(struct usb_reader *r); // also after a failed open
struct dongle_io usb_reader_io(struct usb_reader *r); // r stays where it is
