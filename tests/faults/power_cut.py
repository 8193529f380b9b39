"""Power cuts, replayed. A file system lies on a disk that logs each write and flush; a workload
runs on it and says what it promised. Then, for every point of the log, and for other choices of
what of the unflushed the disk had carried out, the disk as it would be is mounted and looked at.

The log: records of kind, offset, length and data (logging_disk.py); kind m is a mark of the
workload: from here on the number in the offset is promised."""

import contextlib
import ctypes
import functools
import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

from berth import wait_until

SIZE = 8 << 20
HEAD = struct.Struct("<cQI")
HERE = Path(__file__).resolve().parent


def missing():
    """Why this cannot run here, or None."""
    for command in ("nbdkit", "nbdfuse", "losetup", "mkfs.ext4", "mount"):
        if not shutil.which(command, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            return f"{command} is not installed"
    if os.geteuid() != 0:
        return "mounting needs root"
    if not os.path.exists("/dev/fuse") or not os.path.exists("/dev/loop-control"):
        return "no /dev/fuse or no loop devices here"
    if run("losetup", "--find").returncode:
        return "no loop device can be had"
    return None


def run(*command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True)


def must(*command):
    done = run(*command)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def retry(*command, seconds=10):
    """For what may be busy for a moment."""
    wait_until(lambda: run(*command).returncode == 0, seconds, f"{command}")


@functools.cache
def own_mounts():
    """What is mounted here is this process's own. Else a container that starts meanwhile takes a
    copy of the mount with it, and the file system lives on, with all that it remembers, when it is
    unmounted here."""
    clone_newns = 0x00020000
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(clone_newns) == 0, os.strerror(ctypes.get_errno())
    must("mount", "--make-rprivate", "/")


@contextlib.contextmanager
def loop_device(image):
    loop = must("losetup", "--find", "--show", image)
    try:
        yield loop
    finally:
        retry("losetup", "--detach", loop)


@contextlib.contextmanager
def mounted(device, folder, options=""):
    must("mount", "-t", "ext4", "-o", f"noatime,{options}".rstrip(","), device, folder)
    try:
        yield folder
    finally:
        retry("umount", folder)


@contextlib.contextmanager
def logging_disk(folder, log):
    """A file that is such a disk."""
    socket, pid, disk = folder / "nbd", folder / "pid", folder / "disk"
    disk.touch()
    must("nbdkit", "-U", socket, "-P", pid, "python", HERE / "logging_disk.py", f"size={SIZE}",
         f"log={log}")
    fuse = subprocess.Popen(["nbdfuse", "-P", folder / "fuse-pid", disk, "--unix", socket])
    try:
        wait_until(lambda: disk.stat().st_size == SIZE, what="nbdfuse comes up")
        yield disk
    finally:
        retry("umount", disk)
        fuse.wait(10)
        os.kill(int(pid.read_text()), 15)


def read_log(path):
    data = path.read_bytes()
    at, records = 0, []
    while at < len(data):
        kind, offset, length = HEAD.unpack_from(data, at)
        at += HEAD.size
        records.append((kind, offset, data[at:at + length]))
        at += length
    return records


def record(folder, workload, options=""):
    """Runs workload(mount folder, promise) on a new file system. The records from its beginning on,
    and the disk before them."""
    own_mounts()
    folder.mkdir()
    log, mount = folder / "log", folder / "mount"
    mount.mkdir()
    with logging_disk(folder, log) as disk:
        must("mkfs.ext4", "-q", "-O", "^metadata_csum_seed", "-E", "lazy_itable_init=0", disk)
        with loop_device(disk) as device, mounted(device, mount, options):
            os.sync()
            before = len(read_log(log))
            fd = os.open(log, os.O_WRONLY | os.O_APPEND)

            def promise(number):
                os.write(fd, HEAD.pack(b"m", number, 0))
            workload(mount, promise)
            os.close(fd)
            records = read_log(log)
    base = bytearray(SIZE)
    for kind, offset, data in records[:before]:
        if kind == b"w":
            base[offset:offset + len(data)] = data
    return base, records[before:]


def crashes(records, chance, orders=4):
    """(promised, list of the writes on the disk) for each point, and for other orders of what was
    not flushed when it came: some of it there, some of it not."""
    durable, pending, promised = [], [], 0
    for kind, offset, data in records:
        if kind == b"m":
            promised = offset
            continue
        if kind == b"f":
            durable, pending = durable + pending, []
        else:
            pending = pending + [(offset, data)]
        yield promised, durable + pending
        for _ in range(orders if len(pending) > 1 else 0):
            # No disk carries out two writes to one place the wrong way round, and for others the
            # order makes no difference to what is there: so it is enough that some are missing.
            yield promised, durable + [w for w in pending if chance.random() < 0.5]


def replay(folder, base, crash_points, look):
    """Mounts the disk of each point and calls look(mount folder, promised), which says what is
    wrong, or None. Returns the number of points and what was wrong with them."""
    own_mounts()
    image, mount = folder / "image", folder / "replay"
    mount.mkdir(exist_ok=True)
    image.write_bytes(bytes(SIZE))
    points, wrong = 0, []
    # All through one block device: a new one for each point may still remember blocks of another.
    with loop_device(image) as device:
        for promised, writes in crash_points:
            disk = bytearray(base)
            for offset, data in writes:
                disk[offset:offset + len(data)] = data
            with open(device, "r+b", buffering=0) as raw:
                raw.write(disk)
                os.fsync(raw)
            points += 1
            try:
                with mounted(device, mount):
                    fault = look(mount, promised)
            except AssertionError as e:
                fault = f"not mountable: {e}"
            if fault:
                wrong.append(fault)
    return points, wrong


def sampled(iterable, every, chance):
    """About one of `every`."""
    return (x for x in iterable if every <= 1 or chance.random() < 1 / every)


def seeded(seed):
    return random.Random(seed)
