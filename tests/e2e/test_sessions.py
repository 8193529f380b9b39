"""[P1] to [P5], and [P6] for gateway, trust and borrow."""

import contextlib
import os
import random
import signal
import threading
import time

import pytest
from berth import RpcError, wait_until

UUID = "11111111-1111-4111-8111-111111111111"


def refused(code, call, *arguments, **named):
    with pytest.raises(RpcError) as e:
        call(*arguments, **named)
    assert e.value.code == code, e.value
    return e.value.data


def test_p1_exact_first_then_the_next_better(site):
    site.license("exact", modules="fc", count=1)
    site.license("more", modules="fcd", count=1)
    site.license("newer", version="25.5", modules="fc", count=1)
    site.license("progress", edition="Progress", version="25.11", modules="fcd", count=1)
    site.license("older", version="23.5", modules="fc", count=1)
    site.start()
    client = site.client()
    got = [client.request(modules="fc")["license"] for _ in range(4)]
    assert [(g["edition"], g["version"], g["modules"]) for g in got] == [
        ("Steady", "24.11", "fc"), ("Steady", "24.11", "fcd"), ("Steady", "25.5", "fc"),
        ("Progress", "25.11", "fcd")]
    data = refused(1002, client.request, modules="fc")
    reasons = sorted(c["reason"] for c in data["considered"])
    assert reasons.count("all-in-use") == 4 and "version-older" in reasons
    assert data["retryAfter"] >= 1 and data["name"] == "NoSeat"


def test_p2_a_seat_is_blocked_until_returned(site):
    site.license("a", count=1)
    site.start()
    client = site.client()
    session = client.request()["sessionId"]
    assert client.licenses()[0]["available"] == 0
    refused(1002, client.request)
    assert client.give_back(session) is None
    assert client.licenses()[0]["available"] == 1
    assert refused(1003, client.revalidate, session)["reason"] == "returned"
    client.request()


def test_p2_a_seat_is_free_when_not_revalidated_in_time(site):
    site.license("a", count=1)
    site.configure(sessions__revalidation_interval="2 s")
    site.start()
    client = site.client()
    granted = client.request()
    assert granted["revalidateWithin"] == 2
    began = time.monotonic()
    refused(1002, client.request)

    def taken():
        with contextlib.suppress(RpcError):
            return client.request()
        return None
    wait_until(taken, 5, "seat free again")
    assert 1.9 <= time.monotonic() - began <= 3.5
    assert refused(1003, client.revalidate, granted["sessionId"])["reason"] == "expired"


def test_p2_revalidation_keeps_it(site):
    site.license("a", count=1)
    site.configure(sessions__revalidation_interval="2 s")
    site.start()
    client = site.client()
    session = client.request()["sessionId"]
    end = time.monotonic() + 5

    def kept():
        assert client.revalidate(session)["revalidateWithin"] == 2
        return time.monotonic() > end
    wait_until(kept, 8, "five seconds of revalidation")


def test_p3_a_session_that_is_not_valid(module_site):
    client = module_site.client()
    data = refused(1003, client.revalidate, "0" * 32)
    assert data == {"name": "SessionInvalid", "reason": "unknown"}
    refused(1003, client.give_back, "nonsense")


def test_p4_the_same_instance_gets_the_same_session(site):
    site.license("a", count=2)
    site.license("b", feature="G", count=2)
    site.start()
    client = site.client()
    first = client.request(instanceId="run-1")
    again = client.request(instanceId="run-1")
    assert first["sessionId"] == again["sessionId"]
    assert client.request(feature="G", instanceId="run-1")["sessionId"] != first["sessionId"]
    data = refused(-32602, client.request, instanceId="run-1", version="24.5")
    assert data["field"] == "instanceId"
    assert {i["feature"]: i["available"] for i in client.licenses()} == {"F": 1, "G": 1}
    client.give_back(first["sessionId"])
    assert client.request(instanceId="run-1", version="24.5")["sessionId"] != first["sessionId"]


def test_p5_a_withdrawn_license_ends_its_sessions(site):
    path = site.license("a", uuid=UUID)
    site.start()
    client = site.client()
    session = client.request()["sessionId"]
    path.unlink()
    wait_until(lambda: not site.listed(), 3, "withdrawn")
    assert refused(1003, client.revalidate, session)["reason"] == "license-withdrawn"


def test_p5_a_license_that_expires_ends_its_sessions(site):
    import datetime
    until = datetime.datetime.utcnow() + datetime.timedelta(seconds=6)
    site.license("a", uuid=UUID, valid_until=until.strftime("%Y-%m-%dT%H:%M:%SZ"))
    site.start()
    client = site.client()
    session = client.request()["sessionId"]

    def ended():
        try:
            client.revalidate(session)
        except RpcError as e:
            assert e.code == 1003 and e.data["reason"] == "license-expired"
            return True
        return False
    wait_until(ended, 10, "expired")


@pytest.mark.parametrize("name", ["gateway", "trust", "borrow"])
def test_p6_killing_a_process_ends_no_session(site, name):
    site.license("a", count=3)
    site.start()
    client = site.client()
    sessions = [client.request()["sessionId"] for _ in range(3)]
    pid = site.child(name)
    os.kill(pid, signal.SIGKILL)
    if name == "borrow":
        client.revalidate(sessions[0])  # the others answer meanwhile
    wait_until(lambda: site.child(name) != pid, 5, "restarted")

    def well():
        client.close()
        return all(client.revalidate(s) for s in sessions) and \
            client.call("ListBorrowedLicensesV1") == []

    def tried():
        with contextlib.suppress(RpcError):
            return well()
        return False
    wait_until(tried, 3, "all is well again")
    assert client.licenses()[0]["available"] == 0


def test_a_dead_pool_gives_1011_and_comes_back(site):
    site.license("a", count=3)
    site.start()
    client = site.client()
    client.request()
    os.kill(site.child("pool"), signal.SIGSTOP)
    stopped = site.child("pool")
    began = time.monotonic()
    data = refused(1011, client.licenses)
    assert data["service"] == "pool" and time.monotonic() - began < 5
    assert client.call("ListBorrowedLicensesV1") == []
    os.kill(stopped, signal.SIGKILL)

    def back():
        with contextlib.suppress(RpcError):
            return client.request()
        return None
    wait_until(back, 6, "pool is back")


def test_no_seat_is_ever_given_twice(site):
    """64 clients take, keep, return and forget seats of a few licenses; the sum always holds."""
    seats = 7
    site.license("a", count=4)
    site.license("b", count=3, modules="d")
    site.configure(sessions__revalidation_interval="2 s")
    site.start()
    seconds = float(os.environ.get("BERTH_RACE_SECONDS", "20"))
    end = time.monotonic() + seconds
    lock = threading.Lock()
    held = {}  # session → time until which the server must count it
    problems, granted = [], [0]

    def worker(seed):
        rnd = random.Random(seed)
        client = site.client()
        mine = []
        while time.monotonic() < end and not problems:
            action = rnd.random()
            try:
                if action < 0.5 or not mine:
                    asked = time.monotonic()
                    s = client.request()["sessionId"]
                    with lock:
                        granted[0] += 1
                        now = time.monotonic()
                        # Alive for certain now: those whose lease began less than 2 s ago.
                        alive = [k for k, until in held.items() if until > now]
                        if len(alive) + 1 > seats:
                            problems.append(f"{len(alive) + 1} seats of {seats}")
                        held[s] = asked + 2
                    mine.append(s)
                elif action < 0.7:
                    s = rnd.choice(mine)
                    asked = time.monotonic()
                    client.revalidate(s)
                    with lock:
                        if s in held:
                            held[s] = asked + 2
                elif action < 0.9:
                    s = mine.pop(rnd.randrange(len(mine)))
                    with lock:
                        held.pop(s, None)
                    client.give_back(s)
                else:  # dies: forgets its sessions and its connection
                    with lock:
                        for s in mine:
                            held.pop(s, None)
                    mine.clear()
                    client.close()
            except RpcError as e:
                if e.code not in (1002, 1003):
                    problems.append(str(e))
        client.close()

    threads = [threading.Thread(target=worker, args=(n,)) for n in range(64)]
    for t in threads:
        t.start()
    while time.monotonic() < end and not problems:
        for info in site.listed().values():
            if not 0 <= info["available"] <= info["count"]:
                problems.append(str(info))
        threading.Event().wait(0.2)
    for t in threads:
        t.join()
    assert not problems, problems[:3]
    assert granted[0] > 50
    wait_until(lambda: sum(i["available"] for i in site.listed().values()) == seats, 5,
               "all seats come back")
