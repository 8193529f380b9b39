"""Attacks and faults between the processes: one that is frozen, not dead; a flood while trust is away."""

import contextlib
import json
import os
import signal
import time

import pytest
from attack import serve_good_client, unharmed
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
