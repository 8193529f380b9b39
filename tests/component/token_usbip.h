// What USB/IP says before the transfers, as the kernel's tools have it; numbers are big-endian.
#pragma once

#include <assert.h>
#include <stdint.h>

#define USBIP_VERSION 0x0111
#define OP_REQ_IMPORT 0x8003
#define OP_REP_IMPORT 0x0003
#define OP_REQ_DEVLIST 0x8005
#define OP_REP_DEVLIST 0x0005
#define BUS_ID "1-1"
#define DEVICE_ID 0x00010002 // bus 1, device 2
#define SPEED_FULL 2

struct op {
    uint16_t version, code;
    uint32_t status;
};

struct description { // struct usbip_usb_device of the kernel's tools
    char path[256], bus_id[32];
    uint32_t bus, device, speed;
    uint16_t vendor, product, release;
    uint8_t class, subclass, protocol, configuration, configurations, interfaces;
};
static_assert(sizeof(struct description) == 312, "no padding");
