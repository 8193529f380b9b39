"""nbdkit plugin (python): a disk in memory that writes down every write and flush, in order.

size=BYTES log=FILE. For the records see power_cut.py, which reads them."""

import os
import struct

import nbdkit

API_VERSION = 2
settings = {}
disk = bytearray()
log = -1


def config(key, value):
    settings[key] = value


def get_ready():
    global disk, log
    disk = bytearray(int(settings["size"]))
    log = os.open(settings["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def thread_model():
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS


def open(readonly):
    return 1


def get_size(handle):
    return len(disk)


def can_flush(handle):
    return True


def pread(handle, into, offset, flags):
    into[:] = disk[offset:offset + len(into)]


def pwrite(handle, data, offset, flags):
    disk[offset:offset + len(data)] = data
    os.write(log, struct.pack("<cQI", b"w", offset, len(data)) + bytes(data))


def flush(handle, flags):
    os.write(log, struct.pack("<cQI", b"f", 0, 0))
