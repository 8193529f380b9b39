// All that is plugged in, seen by one thread: looks for the token that proves a valid server
// license, and holds it. Blocks for as long as tokens may take (dongle.h).
#pragma once

#include "services/trust/usb_reader.h"

struct usb_tokens {
    const struct crypto_ca *vendor_ca;
    struct libusb_context *usb; // while a token is held
    struct usb_reader reader;
    struct dongle dongle;
    bool held;
    atomic_uint heard; // grows whenever a token sends something; any thread may read it
};

// While none is held: the first that proves itself is held then; otherwise the outcome of the one
// that came nearest, and err says what was found.
enum dongle_outcome usb_tokens_look(struct usb_tokens *t, struct error *err);
// While none is held: the only reader that is plugged in, with the PIV application of its card
// selected, is held then, whatever else is on the card.
enum dongle_outcome usb_tokens_only(struct usb_tokens *t, struct error *err);
// Of the held one: read and prove what is on it now, as usb_tokens_look() does.
enum dongle_outcome usb_tokens_prove(struct usb_tokens *t, struct error *err);
void usb_tokens_let_go(struct usb_tokens *t); // whether one is held or not
