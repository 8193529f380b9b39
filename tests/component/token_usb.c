#include "tests/component/token_usb.h"

#include <string.h>

#define FEATURES_AT 40 // of dwFeatures in the CCID descriptor

static const uint8_t device[TOKEN_DEVICE_BYTES] = {
    18, 1, 0, 2, 0, 0, 0, 64, 0x50, 0x10, 0x07, 0x04, 0, 1, 0, 0, 0, 1,
};
static const uint8_t ccid[CCID_DESCRIPTOR_BYTES] = {
    54, 0x21, 0x10, 1, 0,    7, 2,    0, 0, 0,    0xA0, 0x0F, 0,    0,    0xA0, 0x0F, 0, 0,
    0,  0,    0x2A, 0, 0,    0, 0x2A, 0, 0, 0,    0,    0x0C, 0,    0,    0,    0,    0, 0,
    0,  0,    0,    0, 0xBA, 0, 4,    0, 0, 0x0C, 0,    0,    0xFF, 0xFF, 0,    0,    0, 1,
};
static const uint8_t bulk[] = {7, 5, TOKEN_BULK_IN, 2, 64, 0, 0, 7, 5, TOKEN_BULK_OUT, 2, 64, 0, 0};
static const uint8_t interrupt[] = {7, 5, TOKEN_INTERRUPT_IN, 3, 8, 0, 24};
static const uint8_t hid[] = {9, 0x21, 0x11, 1, 0, 1, 0x22, 45, 0};

bool token_make_named(const char *name, enum token_make *out)
{
    static const char *const names[] = {"notifies", "plain", "composite", "tpdu"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        *out = (enum token_make)i;
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

static uint8_t *add(uint8_t *at, const void *data, size_t len)
{
    memcpy(at, data, len);
    return at + len;
}

static uint8_t *add_hid(uint8_t *at, uint8_t number)
{
    const uint8_t interface[] = {9, 4, number, 0, 1, 3, 0, 0, 0};
    const uint8_t endpoint[] = {7, 5, (uint8_t)(0x84 + number), 3, 8, 0, 10};
    at = add(at, interface, sizeof interface);
    at = add(at, hid, sizeof hid);
    return add(at, endpoint, sizeof endpoint);
}

size_t token_descriptors(enum token_make make, uint8_t out[static TOKEN_DESCRIPTORS_MAX])
{
    bool composite = make == TOKEN_COMPOSITE, notifies = make == TOKEN_NOTIFIES || composite;
    uint8_t *configuration = add(out, device, sizeof device);
    const uint8_t head[] = {9, 2, 0, 0, composite ? 3 : 1, 1, 0, 0x80, 50};
    uint8_t *at = add(configuration, head, sizeof head);
    for (uint8_t i = 0; composite && i < 2; i++)
        at = add_hid(at, i);
    const uint8_t interface[] = {9, 4, composite ? 2 : 0, 0, notifies ? 3 : 2, 0x0B, 0, 0, 0};
    at = add(at, interface, sizeof interface);
    at = add(at, ccid, sizeof ccid);
    if (make == TOKEN_TPDU)
        at[-CCID_DESCRIPTOR_BYTES + FEATURES_AT + 2] = 1;
    if (make == TOKEN_PLAIN)
        at[-CCID_DESCRIPTOR_BYTES + FEATURES_AT] = 0xB2; // does not choose the voltage itself
    at = add(at, bulk, sizeof bulk);
    if (notifies)
        at = add(at, interrupt, sizeof interrupt);
    configuration[2] = (uint8_t)(at - configuration);
    return (size_t)(at - out);
}

size_t token_notice(bool card_present, uint8_t out[static 2])
{
    out[0] = 0x50;                       // RDR_to_PC_NotifySlotChange
    out[1] = card_present ? 0x03 : 0x02; // slot 0: changed, and there or not
    return 2;
}
