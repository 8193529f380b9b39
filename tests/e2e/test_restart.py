"""[P6] for pool: its sessions survive crashes and restarts, and no seat is given twice."""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import threading
import time
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from berth import BUILD, RpcError, wait_until

UUID = "11111111-1111-4111-8111-111111111111"


def reason(client, session):
    """What a revalidation says: ok, or the reason of 1003; waits while pool is away."""
    def asked():
        try:
            client.revalidate(session)
            return "ok"
        except RpcError as e:
            if e.code != 1011:
                assert e.code == 1003, e
                return e.data["reason"]
        return None
    return wait_until(asked, 15, "an answer to a revalidation")


def refused(code, call, **named):
    with pytest.raises(RpcError) as e:
        call(**named)
    assert e.value.code == code, e.value
    return e.value


def kill(site, name):
    pid = site.child(name)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: site.child(name) != pid, 10, f"{name} restarted")


def restart(site):
    assert site.server.stop() == 0
    site.spawn_server()
    site.wait_ready()


def metric(site, name):
    text = urlopen(f"http://127.0.0.1:{site.ops['pool']}/metrics", timeout=5).read().decode()
    return float(next(line.split()[1] for line in text.splitlines()
                      if line.split()[0] in (name, name + "{}")))


def urlopen_any(url):
    """The answer whatever its status."""
    try:
        return urlopen(url, timeout=5)
    except HTTPError as e:
        return e


def start_full(site, seats, **settings):
    """A running server whose seats are all taken: (client, sessions)."""
    site.license("a", uuid=UUID, count=seats)
    site.configure(**settings)
    site.start()
    client = site.client()
    return client, [client.request(instanceId=f"run-{n}")["sessionId"] for n in range(seats)]


@pytest.mark.parametrize("how", [kill, lambda site, name: restart(site)], ids=["sigkill", "restart"])
def test_p6_sessions_of_pool_survive(site, how):
    client, sessions = start_full(site, 4)
    client.give_back(sessions.pop())
    late = client.request()["sessionId"]
    with contextlib.closing(site.admin(site.admin_token())) as admin:
        admin.call("EndSessionV1", sessionId=sessions[0])
    ended = sessions.pop(0)
    for _ in range(2):  # what was restored is restored again
        how(site, "pool")
        client.close()
        for session in [*sessions, late]:
            assert reason(client, session) == "ok"
        assert reason(client, ended) == "ended"
        assert client.licenses()[0]["available"] == 1
        assert client.request(instanceId="run-1")["sessionId"] == sessions[0]  # [P4]
    client.request()
    refused(1002, client.request)  # no seat twice
    with contextlib.closing(site.admin(site.admin_token())) as admin:
        listed = admin.call("ListSessionsV1")
    assert len(listed) == 4
    assert metric(site, "berth_sessions_live") == 4


def test_p6_a_killed_supervisor_is_started_again_at_once(site):
    """Its processes, which end with it, still have folders and addresses for a moment."""
    site.license("a", count=1)
    site.start()
    session = site.client().request()["sessionId"]
    for _ in range(5):
        os.kill(site.server.pid, signal.SIGKILL)
        site.server.popen.wait(10)
        site.start()
        assert reason(site.client(), session) == "ok"


def test_p6_a_killed_pool_forgets_no_session_that_was_answered(site):
    """Kills pool again and again in the middle of requests: what was answered lives, and the seats
    that are taken are never more than there are."""
    seats = 30
    site.license("a", count=seats)
    site.start()
    client = site.client(timeout=5)
    held = []
    for round_ in range(4):
        pid = site.child("pool")
        killer = subprocess.Popen(["sh", "-c", f"read go; kill -9 {pid}"], stdin=subprocess.PIPE)
        for n in range(7):
            if n == 3:
                killer.communicate(b"go\n")
            with contextlib.suppress(RpcError):
                held.append(client.request()["sessionId"])
        wait_until(lambda: site.child("pool") != pid, 10, "restarted")
        for session in held:
            assert reason(client, session) == "ok", f"round {round_}"
        assert client.licenses()[0]["available"] <= seats - len(held)
    assert len(held) >= 12


def test_p6_no_seat_twice_while_pool_is_killed(site):
    """Clients take and return seats while pool is killed four times: those that hold a session are never
    more than there are seats, and keep it."""
    seats = 12
    site.license("a", count=seats)
    site.start()
    held, lock, stop, problems, refusals = set(), threading.Lock(), threading.Event(), [], [0]

    def worker(seed):
        rnd = random.Random(seed)
        client = site.client()
        mine = []
        while not stop.is_set() and not problems:
            try:
                if rnd.random() < 0.6 or not mine:
                    session = client.request()["sessionId"]
                    with lock:
                        held.add(session)
                        if len(held) > seats:
                            problems.append(f"{len(held)} of {seats} seats")
                    mine.append(session)
                elif rnd.random() < 0.5:
                    session = mine.pop(rnd.randrange(len(mine)))
                    with lock:
                        held.remove(session)
                    client.give_back(session)
                else:
                    client.revalidate(rnd.choice(mine))
            except RpcError as e:
                if e.code == 1011:
                    stop.wait(0.02)  # pool is away
                elif e.code != 1002:
                    problems.append(str(e))
                else:
                    refusals[0] += 1
        client.close()
    threads = [threading.Thread(target=worker, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    try:
        for _ in range(4):
            before = refusals[0]
            wait_until(lambda: problems or refusals[0] > before + 50, 20, "a full server")
            kill(site, "pool")
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not problems, problems[:3]
    client = site.client()
    for session in held:
        assert reason(client, session) == "ok"


@pytest.mark.parametrize("lost", ["file", "folder"])
def test_p6_lost_state_gives_no_new_seat_for_one_interval(site, lost):
    client, sessions = start_full(site, 1, sessions__revalidation_interval="4 s")
    assert metric(site, "berth_seats_held") == 0  # a first start serves at once
    site.license("b", uuid=UUID.replace("1", "2"), count=1)
    wait_until(lambda: len(site.listed()) == 2, 10, "second license")
    assert site.server.stop() == 0
    if lost == "file":
        (site.folder / "state" / "sessions").unlink()
    else:
        shutil.rmtree(site.folder / "state")
    site.spawn_server()
    site.wait_ready()
    ready = time.monotonic()
    e = refused(1002, client.request)
    assert 1 <= e.data["retryAfter"] <= 4 and "lost sight" in e.message
    assert metric(site, "berth_seats_held") == 1
    assert client.licenses()[0]["available"] == 0
    assert reason(client, sessions[0]) == "unknown"

    def taken():
        with contextlib.suppress(RpcError):
            return client.request()
        return None
    wait_until(taken, 15, "a seat after the interval")
    assert time.monotonic() - ready > 2.5
    client.request()
    assert metric(site, "berth_seats_held") == 0


def siphash(k0, k1, data):
    """SipHash-2-4, which the check sums of the file of sessions are made with."""
    mask = (1 << 64) - 1
    v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
         k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]

    def turn(x, by):
        return (x << by | x >> (64 - by)) & mask

    def rounds(n):
        for _ in range(n):
            v[0] = (v[0] + v[1]) & mask
            v[1] = turn(v[1], 13) ^ v[0]
            v[0] = turn(v[0], 32)
            v[2] = (v[2] + v[3]) & mask
            v[3] = turn(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & mask
            v[3] = turn(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & mask
            v[1] = turn(v[1], 17) ^ v[2]
            v[2] = turn(v[2], 32)
    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) & 0xff])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at:at + 8], "little")
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xff
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def test_p6_a_machine_that_died_gives_no_new_seat_for_one_interval(site):
    """The file of another boot, without its closing mark: its sessions go on, and since others may be
    missing, nobody gets a new seat."""
    client, sessions = start_full(site, 2, sessions__revalidation_interval="6 s")
    client.give_back(sessions[1])
    os.kill(site.child("pool"), signal.SIGKILL)
    os.kill(site.server.pid, signal.SIGKILL)
    site.server.wait()
    wait_until(lambda: subprocess.run(["pgrep", "-f", str(site.config)],
                                      stdout=subprocess.DEVNULL).returncode == 1,
               10, "the processes follow their supervisor")
    path = site.folder / "state" / "sessions"
    data = path.read_bytes()
    boot = open("/proc/sys/kernel/random/boot_id", "rb").read().strip()
    at = data.index(boot) - 9  # size, check sum and kind stand before it
    body = b"\3" + boot[::-1]
    size = len(body)
    key = 0x42657274682d7365 ^ size, 0x7373696f6e732d31
    check = siphash(*key, body) & 0xffffffff
    record = size.to_bytes(4, "little") + check.to_bytes(4, "little") + body
    torn = b"\xff" * 100  # and what the disk made of the last write
    path.write_bytes(data[:at] + record + data[at + len(record):] + torn)
    site.spawn_server()
    site.wait_ready()
    client.close()
    assert reason(client, sessions[0]) == "ok"
    refused(1002, client.request)
    assert metric(site, "berth_seats_held") == 1
    kill(site, "pool")  # the wait begins anew: it is on disk
    assert reason(client, sessions[0]) == "ok"
    assert refused(1002, client.request).data["retryAfter"] >= 4
    assert client.request(instanceId="run-0")["sessionId"] == sessions[0]

    def taken():
        client.revalidate(sessions[0])
        with contextlib.suppress(RpcError):
            return client.request()
        return None
    wait_until(taken, 20, "a seat after the interval")
    kill(site, "pool")
    client.close()
    assert reason(client, sessions[0]) == "ok"
    assert metric(site, "berth_seats_held") == 0


def test_p6_pool_waits_for_borrow_once(site):
    """[B5]: before pool knows the borrows it gives out and prolongs nothing, and no session runs out;
    afterwards it does not need borrow."""
    client, sessions = start_full(site, 2, sessions__revalidation_interval="2 s")
    client.give_back(sessions.pop())
    borrow = site.child("borrow")
    os.kill(borrow, signal.SIGSTOP)
    assert reason(client, sessions[0]) == "ok"  # it knew them
    began = time.monotonic()
    kill(site, "pool")

    def refused_for_borrow():
        try:
            client.request()
        except RpcError as e:
            return e.code == 1011 and e.data["service"] == "borrow"
        return False
    wait_until(refused_for_borrow, 15, "1011 of borrow")
    wait_until(lambda: time.monotonic() > began + 3, 10, "longer than an interval")
    assert refused(1011, client.revalidate, session=sessions[0]).data["service"] == "borrow"
    assert client.licenses()[0]["available"] == 1
    assert metric(site, 'berth_denials_total{reason="borrow"}') >= 1
    ready = json.load(urlopen_any(f"http://127.0.0.1:{site.ops['pool']}/health/ready"))
    assert {c["name"]: c["ok"] for c in ready["conditions"]} == {
        "trust": True, "licenses": True, "borrow": False, "grants": True}
    os.kill(borrow, signal.SIGCONT)
    assert reason(client, sessions[0]) == "ok"
    client.request()
    refused(1002, client.request)


def test_p6_a_disk_that_takes_nothing(site):
    """Sessions go on, nobody gets a new one, and all is well as soon as the disk is."""
    client, sessions = start_full(site, 3)
    client.give_back(sessions.pop())
    pid = site.child("pool")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    for _ in range(2):
        assert refused(1011, client.request).data["service"] == "pool"
        assert [reason(client, s) for s in sessions] == ["ok", "ok"]
        assert client.request(instanceId="run-0")["sessionId"] == sessions[0]
        assert client.licenses()[0]["available"] == 0
    assert metric(site, "berth_seats_held") == 1
    assert metric(site, "berth_sessions_file_errors_total") >= 1
    client.give_back(sessions.pop())
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def taken():
        with contextlib.suppress(RpcError):
            return client.request()["sessionId"]
        return None
    sessions += [wait_until(taken, 15, "a seat"), client.request()["sessionId"]]
    refused(1002, client.request)
    kill(site, "pool")  # what was written anew is whole
    client.close()
    assert [reason(client, s) for s in sessions] == ["ok"] * 3
    refused(1002, client.request)


def test_p6_state_dir_that_is_refused(site):
    site.license("a")
    site.configure(sessions__state_dir="sessions-state")
    site.start()
    folder = site.folder / "sessions-state"
    second = subprocess.run([BUILD / "berth-pool", "-c", site.config], capture_output=True, text=True,
                            timeout=20, env={**os.environ, "BERTH_OPS_POOL": "127.0.0.1:0"})
    assert second.returncode == 78
    assert "another berth-pool keeps its sessions there" in second.stderr
    client = site.client()
    for _ in range(3):
        client.request()
    assert site.server.stop() == 0
    path = folder / "sessions"
    good = path.read_bytes()

    def start_refused(change, expected):
        path.write_bytes(change)
        done = subprocess.run([BUILD / "berth-pool", "-c", site.config], capture_output=True,
                              text=True, timeout=20)
        assert done.returncode == 78, done.stderr
        assert expected in done.stderr and "delete it" in done.stderr
    start_refused(b"", "no file of sessions")
    start_refused(b"x" + good[1:], "no file of sessions")
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    start_refused(bytes(flipped), "was altered or damaged at byte")
    start_refused(good + b"x", "was altered or damaged at byte")
    path.write_bytes(good)
    site.spawn_server()
    site.wait_ready()
    with contextlib.closing(site.admin(site.admin_token())) as admin:
        assert len(admin.call("ListSessionsV1")) == 3
