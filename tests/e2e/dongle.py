"""Emulated USB tokens for the end-to-end tests: umockdev, with the programs' own libusb unmodified."""

import os
import subprocess

from berth import BUILD, RpcError, run, vendor

EMULATOR = BUILD / "tests" / "component" / "token_umockdev"


class License:
    """A key and its certificate, as they lie in a token."""

    def __init__(self, cert, key):
        self.cert, self.key = cert, key


def make_key(folder, name, kind="p256"):
    key = folder / f"{name}.key"
    options = {"p256": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
               "rsa": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]}[kind]
    run("openssl", "genpkey", "-algorithm", *options, "-out", key)
    return key


def make_license(keys, folder, name, server_id, *arguments, kind="p256"):
    """What the vendor does for a customer's dongle."""
    key, public, cert = make_key(folder, name, kind), folder / f"{name}.pub", folder / f"{name}.pem"
    run("openssl", "pkey", "-in", key, "-pubout", "-out", public)
    vendor("dongle-license", "--dir", keys, "--server-id", server_id, "--csr", public,
           "--unattested", "--out", cert, *arguments)
    return License(cert, key)


class Tokens:
    """Up to four USB ports. One process with libusb may look at them."""

    def __init__(self):
        assert EMULATOR.exists(), "libumockdev-dev is not installed"
        self.process = subprocess.Popen(["umockdev-wrapper", EMULATOR], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.root = self.process.stdout.readline().strip()
        assert self.root
        self.environment = dict(os.environ, LD_PRELOAD="libumockdev-preload.so.0",
                                UMOCKDEV_DIR=self.root)

    def command(self, *words, port=1):
        self.process.stdin.write(" ".join(map(str, (port, *words))) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer, "the emulator has ended"
        return answer

    def plug(self, license, make="notifies", port=1):
        """The path of the device node."""
        return self.root + self.command("plug", license.cert, license.key, make, port=port)

    def plug_blank(self, cipher, make="notifies", port=1):
        """A token as its maker sells it."""
        return self.root + self.command("plug", cipher, "blank", make, port=port)

    def unplug(self, port=1):
        self.command("unplug", port=port)

    def fault(self, name, port=1):
        self.command("fault", name, port=port)

    def counts(self, port=1):
        """(frames sent to the token, notices read from it)"""
        return tuple(map(int, self.command("counts", port=port).split()))

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)


def refusal(client, **request):
    """None if a session is given, and given back; else the reason of 1004."""
    try:
        client.give_back(client.request(**request)["sessionId"])
    except RpcError as e:
        assert e.code == 1004, e
        return e.data["reason"]
    return None
