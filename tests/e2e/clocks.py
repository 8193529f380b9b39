"""Clocks that a test sets: of one process, or several, by a preloaded library (clock_shim.c)."""

import struct

from berth import BUILD

HOUR = 3600


class Clocks:
    def __init__(self, path):
        self.path, self.boot_s, self.wall_s = path, 0.0, 0.0
        self.write()

    @property
    def env(self):
        return {"LD_PRELOAD": str(BUILD / "tests/component/libclock_shim.so"),
                "CLOCK_SHIM": str(self.path)}

    def write(self):
        # In place: the file is mapped.
        with open(self.path, "r+b" if self.path.exists() else "wb") as f:
            f.write(struct.pack("qq", int(self.boot_s * 1000), int(self.wall_s * 1000)))

    def passes(self, seconds):
        """Time passes, on both clocks."""
        self.boot_s += seconds
        self.wall_s += seconds
        self.write()

    def set_date(self, seconds):
        """The date is set: so far from the right one."""
        self.wall_s = seconds
        self.write()
