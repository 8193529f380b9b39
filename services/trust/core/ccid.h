// CCID frames (USB class 0x0B, revision 1.1): built, and parsed as what they are: bytes from a
// device that may lie. Pure.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CCID_HEADER_BYTES 10
#define CCID_APDU_BYTES_MAX 261 // a short APDU
#define CCID_FRAME_BYTES_MAX (CCID_HEADER_BYTES + CCID_APDU_BYTES_MAX)
#define CCID_DESCRIPTOR_BYTES 54

enum ccid_message {
    CCID_ICC_POWER_ON = 0x62,
    CCID_ICC_POWER_OFF = 0x63,
    CCID_GET_SLOT_STATUS = 0x65,
    CCID_XFR_BLOCK = 0x6F,
    CCID_DATA_BLOCK = 0x80,
    CCID_SLOT_STATUS = 0x81,
};

// What the class descriptor of the interface says.
struct ccid_reader {
    uint32_t features;    // dwFeatures
    uint32_t max_message; // dwMaxCCIDMessageLength
    uint8_t voltages;     // bVoltageSupport: 1 = 5 V, 2 = 3 V, 4 = 1.8 V
};

// False if these bytes (the interface's extra descriptors) hold no CCID class descriptor.
bool ccid_reader_parse(struct ccid_reader *out, const uint8_t *data, size_t len);
// What a reader exchanges with its host.
enum ccid_level {
    CCID_LEVEL_APDU,
    CCID_LEVEL_TPDU, // and it agrees with the card on the parameters by itself
    CCID_LEVEL_OTHER,
};

enum ccid_level ccid_reader_level(const struct ccid_reader *reader);
// Does the card that answered to its reset with these bytes speak T=0 unless told otherwise? Then a
// TPDU is an APDU without its Le.
bool ccid_atr_is_t0(const uint8_t *atr, size_t len);
// The values of bPowerSelect to try, in order. Returns how many (1 to 3).
size_t ccid_power_selects(const struct ccid_reader *reader, uint8_t out[static 3]);

// Writes one frame to slot 0. `param` is bPowerSelect or bBWI. Returns its length; 0: no room, or
// more data than a short APDU has.
size_t ccid_build(uint8_t *out, size_t cap, enum ccid_message type, uint8_t seq, uint8_t param,
                  const uint8_t *data, size_t len);

enum ccid_outcome {
    CCID_DONE,
    CCID_TIME_EXTENSION, // read again
    CCID_STALE,          // the answer to another command: read again
    CCID_NO_CARD,
    CCID_FAILED, // the reader says so
    CCID_MALFORMED,
};

struct ccid_answer {
    uint8_t error;       // bError, with CCID_FAILED
    bool inactive;       // the card is there, but not powered: it was reset
    const uint8_t *data; // within the bytes parsed
    size_t len;
};

// The answer to the command with this seq, expected to be of this type.
enum ccid_outcome ccid_parse(struct ccid_answer *out, const uint8_t *frame, size_t len,
                             enum ccid_message type, uint8_t seq);
