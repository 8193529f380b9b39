"""[S2], [S3] with the unmodified libusb: an emulated token as a USB device of umockdev."""

import os
import subprocess
from urllib.request import urlopen

import pytest
from berth import BUILD, RpcError, wait_until

GOOD, NO_CARD, OTHER_SIGNATURE, REMOVED = 0, 11, 16, 22
TOKEN = BUILD / "tests" / "component" / "token_umockdev"


@pytest.fixture
def token(site):
    assert TOKEN.exists(), "libumockdev-dev is not installed"
    process = subprocess.Popen(
        ["umockdev-wrapper", TOKEN, site.keys, site.server_id,
         site.folder / "server-license" / "server-license.pem"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.root = process.stdout.readline().strip()
    assert process.root

    def misbehave(fault):
        process.stdin.write(f"{fault}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
    process.misbehave = misbehave
    yield process
    process.stdin.close()
    process.wait(10)


def configure(site):
    site.configure(trust__server_license=None, trust__dongle={})
    site.license("a", count=5)


def environment(token):
    return dict(os.environ, LD_PRELOAD="libumockdev-preload.so.0", UMOCKDEV_DIR=token.root)


def test_s2_without_a_dongle_the_server_does_not_start(site):
    configure(site)
    server = site.spawn_server()
    assert server.wait(20) == 1
    assert "dongle-absent" in server.text()


def test_s2_a_token_that_cannot_prove_its_key_does_not_start(site, token):
    configure(site)
    token.misbehave(OTHER_SIGNATURE)
    server = site.spawn_server(environment(token))
    assert server.wait(20) == 1
    assert "proof-failed" in server.text()


def metrics(site):
    return urlopen(f"http://127.0.0.1:{site.ops['trust']}/metrics", timeout=5).read().decode()


@pytest.mark.parametrize("fault", [NO_CARD, REMOVED])
def test_s3_removed_and_reattached(site, token, fault):
    configure(site)
    site.spawn_server(environment(token))
    site.wait_ready()
    client = site.client()

    def refused():
        try:
            client.give_back(client.request()["sessionId"])
        except RpcError as e:
            assert e.data["reason"] == "dongle-absent"
            return True
        return False
    wait_until(lambda: not refused(), 2, "served")
    assert "\nberth_dongle_present 1\n" in metrics(site)
    token.misbehave(fault)
    wait_until(refused, 2, "refused after removal")
    assert "\nberth_dongle_present 0\n" in metrics(site)
    token.misbehave(GOOD)
    wait_until(lambda: not refused(), 2, "served after reattachment")
    client.close()
