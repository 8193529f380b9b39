"""Attacks and faults between the processes: one that is frozen, not dead; a flood while trust is away."""

import contextlib
import json
import os
import signal
import threading
import time
import urllib.request

import pytest
from attack import POST, connect, serve_good_client, unharmed
from berth import RpcError, wait_until


@contextlib.contextmanager
def stopped(site, name):
    """The process is frozen (SIGSTOP), as by a debugger, a cgroup or a dying disk."""
    pid = site.child(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def conditions(site):
    """name → (ok, reason) of the gateway's /health/ready."""
    with contextlib.closing(site.admin()) as admin:
        status, _, body = admin.http("GET", "/health/ready")
    answer = json.loads(body)
    assert (status == 200) == answer["ready"]
    return {c["name"]: (c["ok"], c["reason"]) for c in answer["conditions"]}


def refusal(client, session):
    """(code, reason) that a revalidation gets."""
    with pytest.raises(RpcError) as e:
        client.revalidate(session)
    return e.value.code, e.value.data.get("reason")


@pytest.fixture
def short_site(site):
    """Sessions of two seconds, one seat."""
    site.configure(sessions__revalidation_interval="2 s")
    site.license("one", count=1)
    site.start()
    return site


def test_frozen_pool_is_noticed_and_heals(short_site):
    """Pool is stopped for longer than an interval and continued. Its connection stands all the time:
    only that it says nothing gives it away."""
    site = short_site
    with unharmed(site), contextlib.closing(site.client()) as client:
        session = client.request()["sessionId"]
        with stopped(site, "pool"):
            wait_until(lambda: conditions(site)["pool"] == (False, "pool does not answer"), 8,
                       "readiness sees the frozen pool")
            for _ in range(3):  # nobody waits for it any more
                began = time.monotonic()
                with pytest.raises(RpcError) as e:
                    client.revalidate(session)
                assert e.value.code == 1011 and e.value.data["service"] == "pool"
                assert time.monotonic() - began < 1
            assert "rpc.silent" in site.server.text()
        wait_until(lambda: conditions(site)["pool"][0], 5, "readiness sees pool again")
        wait_until(lambda: "rpc.answers-again" in site.server.text(), 5)
        # The interval has passed: the session is gone and its seat is there, as soon as pool, whose
        # verdict went stale meanwhile, may issue again.
        wait_until(lambda: refusal(client, session)[0] != 1011, 5)
        assert refusal(client, session) == (1003, "expired")
        client.give_back(client.request()["sessionId"])


def test_busy_pool_is_not_taken_for_frozen(short_site):
    """Work of clients holds no heartbeat up (FlexNet CVE-2018-20031: a few messages make one process
    believe another dead)."""
    site = short_site
    with unharmed(site), contextlib.closing(site.client()) as client:
        calls = [{"jsonrpc": "2.0", "id": i, "method": "ListLicensesV1"} for i in range(64)]
        end = time.monotonic() + 4
        while time.monotonic() < end:
            assert len(json.loads(client.post(calls)[2])) == 64
        assert conditions(site)["pool"][0]
        assert "rpc.silent" not in site.server.text()
        serve_good_client(site)


def alive(site):
    for name in ("pool", "borrow"):
        with urllib.request.urlopen(f"http://127.0.0.1:{site.ops[name]}/health/alive", timeout=1) as r:
            assert r.status == 200
    with contextlib.closing(site.admin()) as admin:
        assert admin.http("GET", "/health/alive")[0] == 200


def test_flood_while_trust_is_stopped(short_site):
    """Trust is frozen and everybody asks for sessions: refused at once, nobody queues behind trust, what
    needs no verdict is served, and all is well when trust goes on."""
    site = short_site
    nonce = "AAAAAAAAAAAAAAAAAAAAAA=="
    params = {"feature": "F", "version": "24.11", "edition": "Steady", "modules": "", "nonce": nonce,
              "instanceId": "flood", "client": {"hostId": "flood"}}
    body = json.dumps([{"jsonrpc": "2.0", "id": i, "method": "RequestSessionV1", "params": params}
                       for i in range(64)]).encode()
    flood = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    over, codes = threading.Event(), set()

    def attack():
        with connect(site) as s, contextlib.suppress(TimeoutError):
            s.settimeout(10)
            while not over.is_set():
                s.sendall(flood)
                head, _, rest = s.recv(65536).partition(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                while len(rest) < length:
                    rest += s.recv(65536)
                codes.update(a["error"]["code"] for a in json.loads(rest) if "error" in a)

    with unharmed(site):
        with stopped(site, "trust"):
            wait_until(lambda: not conditions(site)["trust"][0], 8, "the verdict is stale")
            codes.clear()
            attackers = [threading.Thread(target=attack) for _ in range(8)]
            for t in attackers:
                t.start()
            end = time.monotonic() + 4  # longer than a heartbeat may be away
            while time.monotonic() < end:
                serve_good_client(site)
                alive(site)
                assert conditions(site)["pool"][0], "pool is taken for frozen"
            over.set()
            for t in attackers:
                t.join(15)
            assert codes == {1011}
        wait_until(lambda: conditions(site)["trust"][0], 8, "a fresh verdict")
        with contextlib.closing(site.client()) as client:
            client.give_back(wait_until(lambda: granted(client), 5)["sessionId"])


def granted(client):
    with contextlib.suppress(RpcError):
        return client.request()
    return None
