"""[S2], [S3] with a real kernel: Debian's, in QEMU without any help of the processor, boots into a
small system of busybox and the same berth-trust. The emulated token is attached by USB/IP to the
kernel's own USB stack; then QEMU's own CCID reader, which nobody here wrote, holds the emulated
card. guest.sh is what happens there; its facts are looked at here."""

import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from berth import BUILD, vendor, wait_until  # noqa: E402
from dongle import make_license  # noqa: E402

pytestmark = pytest.mark.xdist_group("qemu")  # one guest for all
HERE = Path(__file__).parent
KERNEL = BUILD / "qemu-kernel"
MODULES = ("common/usb-common", "core/usbcore", "usbip/usbip-core", "usbip/vhci-hcd",
           "host/xhci-hcd", "host/xhci-pci")
TOKENS = BUILD / "tests" / "component"


def kernel():
    """Debian's kernel and some of its modules, unpacked and not installed."""
    if not (KERNEL / "done").exists():
        KERNEL.mkdir(parents=True, exist_ok=True)
        depends = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], text=True,
                                 capture_output=True).stdout
        names = re.findall(r"Depends: (linux-image-\S+)", depends)
        if not names or subprocess.run(["apt-get", "-qq", "download", names[0]], cwd=KERNEL,
                                       capture_output=True).returncode:
            return None
        package = next(KERNEL.glob("linux-image-*.deb"))
        unpack = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
        subprocess.run(["tar", "x", "-C", KERNEL, "--wildcards", "./boot/vmlinuz-*",
                        *(f"*/drivers/usb/{name}.ko" for name in MODULES)],
                       stdin=unpack.stdout, check=True)
        assert unpack.wait() == 0
        package.unlink()
        (KERNEL / "done").touch()
    return next(KERNEL.glob("boot/vmlinuz-*"))


class Archive:
    """A cpio archive ("newc"), as the kernel takes it for its first file system."""

    def __init__(self):
        self.bytes, self.folders = bytearray(), set()

    def entry(self, name, mode, data=b""):
        head = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        self.bytes += b"070701" + b"".join(b"%08x" % n for n in head) + name.encode() + b"\0"
        self.bytes += b"\0" * (-len(self.bytes) % 4) + data
        self.bytes += b"\0" * (-len(self.bytes) % 4)

    def folder(self, name):
        for parent in [*reversed(Path(name).parents), Path(name)]:
            if str(parent) not in self.folders and str(parent) != ".":
                self.folders.add(str(parent))
                self.entry(str(parent), 0o40755)

    def file(self, name, data, mode=0o100755):
        self.folder(str(Path(name).parent))
        self.entry(name, mode, data)

    def finish(self):
        self.entry("TRAILER!!!", 0)
        return bytes(self.bytes)


def libraries(*programs):
    """What the programs are linked with, and the loader."""
    found = set()
    for program in programs:
        text = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        found |= set(re.findall(r"(/\S+) \(0x", text))
    return found


def first_file_system(license, vendor_ca):
    archive = Archive()
    for name in ("bin", "proc", "sys", "dev", "tmp"):
        archive.folder(name)
    archive.file("bin/busybox", Path(shutil.which("busybox")).read_bytes())
    archive.file("init", (HERE / "guest.sh").read_bytes())
    programs = [BUILD / "berth-trust", TOKENS / "token_usbip", TOKENS / "usbip_attach"]
    for program in programs:
        archive.file(f"berth/{program.name}", program.read_bytes())
    for library in libraries(*programs):
        archive.file(library.lstrip("/"), Path(library).read_bytes())
    for name in MODULES:
        module = next(KERNEL.glob(f"lib/modules/*/kernel/drivers/usb/{name}.ko"))
        archive.file(f"modules/{module.name}", module.read_bytes())
    archive.file("berth/token.pem", license.cert.read_bytes())
    archive.file("berth/token.key", license.key.read_bytes())
    archive.file("berth/vendor-ca.pem", vendor_ca.read_bytes())
    archive.file("berth/tls.pem", b"")
    archive.file("berth/tls.key", b"")
    archive.file("berth/config.yaml", json.dumps({
        "serve": {"licenses": {"tls": {"certificate": "tls.pem", "key": "tls.key"}}},
        "trust": {"vendor_ca": "vendor-ca.pem", "state_dir": ".", "dongle": {}},
        "rpc": {"trust": "ipc:///berth/trust.sock"},
        "ops": {"trust": "127.0.0.1:22025"}}).encode())
    return archive.finish()


class Guest:
    """One run of the guest: its facts, and what it printed."""

    def __init__(self, folder, image, initrd, license):
        self.facts, self.text = {}, []
        socket = folder / "card.sock"
        qemu = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max,la57=off", "-m", "512M",
             "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
             "-kernel", image, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1",
             "-device", "qemu-xhci", "-device", "usb-ccid,id=reader",
             "-chardev", f"socket,id=card,path={socket},server=on,wait=off",
             "-device", "ccid-card-passthru,chardev=card"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace")
        watchdog = threading.Timer(240, qemu.kill)
        watchdog.start()
        card = None
        try:
            wait_until(lambda: socket.exists() or qemu.poll() is not None, 20, "QEMU")
            card = subprocess.Popen([TOKENS / "token_vscard", socket, license.cert, license.key],
                                    stdin=subprocess.PIPE, text=True)
            for line in qemu.stdout:
                self.text.append(line)
                found = re.match(r"@ (\S+) ?(.*)", line)
                if found and found[1] in ("insert", "remove"):
                    card.stdin.write(f"{found[1]}\n")
                    card.stdin.flush()
                elif found:
                    self.facts[found[1]] = found[2].strip()
            qemu.wait(20)
        finally:
            watchdog.cancel()
            if qemu.poll() is None:
                qemu.kill()
                qemu.wait()
            if card:
                card.stdin.close()
                card.wait(10)

    def fact(self, name):
        assert name in self.facts, "".join(self.text[-40:])
        return self.facts[name]

    def took(self, name):
        """Milliseconds."""
        assert self.fact(name).isdigit(), (name, self.fact(name), "".join(self.text[-40:]))
        return int(self.facts[name])


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    if not shutil.which("qemu-system-x86_64") or not shutil.which("busybox"):
        pytest.skip("qemu-system-x86 and busybox-static are not installed")
    image = kernel()
    if image is None:
        pytest.skip("Debian's kernel package cannot be downloaded")
    folder = tmp_path_factory.mktemp("qemu")
    vendor("init", "--dir", folder / "keys")
    license = make_license(folder / "keys", folder, "token", "BERTH-QEMU-1")
    initrd = folder / "initrd"
    initrd.write_bytes(first_file_system(license, folder / "keys" / "vendor-ca.pem"))
    return Guest(folder, image, initrd, license)


def test_the_guest_came_to_its_end(guest):
    guest.fact("done")
    assert "failed:" not in guest.facts, "".join(guest.text[-40:])


@pytest.mark.parametrize("name, where", [("usbip-absent", "no USB smart card reader"),
                                         ("reader-empty", "no card in the reader")])
def test_s2_start_is_refused_without_a_token(guest, name, where):
    code, text = guest.fact(name).split(" ", 1)
    assert code == "1" and "dongle-absent" in text and where in text


@pytest.mark.parametrize("name", ["usbip-start", "reader-start"])
def test_s2_starts_with_a_token(guest, name):
    guest.took(name)


@pytest.mark.parametrize("name", ["usbip-removed", "usbip-broken", "usbip-silent",
                                  "reader-removed"])
def test_s3_removal_is_noticed(guest, name):
    assert guest.took(name) < 10000  # an emulated processor, perhaps beside other work


@pytest.mark.parametrize("name", ["usbip-again", "usbip-back", "usbip-good", "reader-again"])
def test_s3_serves_again_after_reattachment(guest, name):
    assert guest.took(name) < 10000


def test_s3_the_reason_is_that_the_dongle_is_absent(guest):
    assert guest.fact("usbip-reasons") == "reason=dongle-absent"


@pytest.mark.parametrize("name", ["usbip-end", "reader-end"])
def test_trust_ends_when_told_to(guest, name):
    assert guest.took(name) == 0
