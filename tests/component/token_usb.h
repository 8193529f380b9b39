// The emulated token as a USB device: its descriptors in several makes, and its endpoints.
#pragma once

#include "tests/component/token_model.h"

#define TOKEN_BULK_IN 0x81
#define TOKEN_BULK_OUT 0x02
#define TOKEN_INTERRUPT_IN 0x83
#define TOKEN_DESCRIPTORS_MAX 256
#define TOKEN_DEVICE_BYTES 18

enum token_make {
    TOKEN_NOTIFIES,  // has an interrupt endpoint
    TOKEN_PLAIN,     // has none, and wants to be told the voltage
    TOKEN_COMPOSITE, // keyboard, mouse, and as interface 2 the reader; with an interrupt endpoint
    TOKEN_TPDU,      // not at the APDU level
};

bool token_make_named(const char *name, enum token_make *out); // notifies, plain, composite, tpdu
// The device descriptor and, behind its TOKEN_DEVICE_BYTES, the configuration's. Returns the
// length.
size_t token_descriptors(enum token_make make, uint8_t out[static TOKEN_DESCRIPTORS_MAX]);
// What a reader says when its card has come or gone. Returns the length.
size_t token_notice(bool card_present, uint8_t out[static 2]);
