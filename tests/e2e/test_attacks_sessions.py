"""Attacks on sessions: a million guesses, races for the last seat."""

import contextlib
import json
import threading
import time

import pytest
from attack import HEAVY, POST, connect, serve_good_client, unharmed

GUESSES = 1_000_000 if HEAVY else 6400  # more than an address may miss (5,000) in both
RACES = 10_000 if HEAVY else 300
RACERS = 4


@pytest.fixture
def one_seat(site):
    site.license("one", count=1)
    site.start()
    return site


def batch(method, params):
    """The bytes of a request with 64 calls."""
    calls = [{"jsonrpc": "2.0", "id": i, "method": method, "params": p} for i, p in enumerate(params)]
    body = json.dumps(calls).encode()
    return POST + b"Content-Length: %d\r\n\r\n" % len(body) + body


def read_answer(s, got=b""):
    """The body of the next answer on a connection that stays."""
    while b"\r\n\r\n" not in got:
        got += s.recv(65536)
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += s.recv(65536)
    return json.loads(body)


def slowed(site):
    with contextlib.closing(site.admin()) as admin:
        text = admin.http("GET", "/metrics")[2].decode()
    return float(text.partition("\nberth_session_misses_slowed_total ")[2].split("\n")[0])


def test_many_guesses_are_slowed_and_nobody_else(one_seat):
    """A million guesses (with BERTH_HEAVY_ATTACKS): none hits; once an address has missed 5,000 times its
    misses are answered a second late, and a client with a session is served as before."""
    site = one_seat
    count, longest, wrong = [0], [0.0], []

    def guess(worker):
        with connect(site) as s:
            s.settimeout(20)
            n = worker << 40
            while count[0] < GUESSES:
                count[0] += 64
                n += 64
                began = time.monotonic()
                s.sendall(batch("RevalidateSessionV1", [{"sessionId": f"{n + i:032x}"} for i in range(64)]))
                answers = read_answer(s)
                longest[0] = max(longest[0], time.monotonic() - began)
                wrong.extend(a for a in answers if a.get("error", {}).get("data", {}).get("reason") !=
                             "unknown")

    with unharmed(site), contextlib.closing(site.client()) as client:
        session = client.request()["sessionId"]
        workers = [threading.Thread(target=guess, args=(w,)) for w in range(64 if HEAVY else 8)]
        for w in workers:
            w.start()
        while any(w.is_alive() for w in workers):
            began = time.monotonic()
            client.revalidate(session)
            assert time.monotonic() - began < 1, "a client with a session waits"
            workers[0].join(0.2)
        assert not wrong, wrong[:3]
        assert longest[0] > 1 and slowed(site) > 0
        assert "reason=session-guesses" in site.server.text()
        assert session not in site.server.text()


def test_races_for_the_last_seat(one_seat):
    """Each time, of all who ask at the same moment exactly one gets the seat."""
    site = one_seat
    params = {"feature": "F", "version": "24.11", "edition": "Steady", "modules": ""}
    ask = batch("RequestSessionV1", [params, params])
    with unharmed(site), contextlib.ExitStack() as stack:
        racers = [stack.enter_context(connect(site)) for _ in range(RACERS)]
        back = stack.enter_context(contextlib.closing(site.client()))
        for s in racers:
            s.settimeout(20)
        for _ in range(RACES):
            for s in racers:
                s.sendall(ask)
            answers = [a for s in racers for a in read_answer(s)]
            won = [a["result"]["sessionId"] for a in answers if "result" in a]
            assert len(won) == 1 and len(answers) == 2 * RACERS, answers
            assert all(a["error"]["code"] == 1002 for a in answers if "error" in a), answers
            back.give_back(won[0])
        serve_good_client(site)
        assert site.listed().popitem()[1]["available"] == 1
