"""What other processes have trust do: signatures, delegations, the ledger's head."""

import base64
import datetime
import hashlib
import json
import os
import re
import socket
import subprocess
import time

import pytest
from berth import BUILD, run, wait_until
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from trust_place import SERVER, Host, place  # noqa: F401 (place is a fixture)

CALL = BUILD / "tests/component/trust_call"
GATEWAY, POOL, TRUST, BORROW, TOOL = 1, 2, 3, 4, 5
BORROWED_FILE, LEDGER = 1, 2
EPOCH = "e" * 32
KEY = "ab" * 32


def calls(host, role, *each):
    """The answers, in the order in which they came."""
    words = []
    for call in each:
        words += ["+", *map(str, call)]
    done = subprocess.run([CALL, f"ipc://{host.folder}/trust.sock", str(role), *words[1:]],
                          capture_output=True, text=True, timeout=40, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(each), done.stdout
    return answers


def call(host, role, *words):
    return calls(host, role, words)[0]


def verify(certificate, signature, signed):
    # This library does not know object identifiers as long as those of the extensions are.
    pem = subprocess.run(["openssl", "x509", "-noout", "-pubkey"], input=certificate.encode(),
                         capture_output=True, check=True).stdout
    load_pem_public_key(pem).verify(signature, signed, ec.ECDSA(hashes.SHA256()))


def ledger(n):
    return hashlib.sha256(b"ledger %d" % n).hexdigest()


def move(n, previous=None, epoch=EPOCH):
    return ["move-head", epoch, n, ledger(n), *([ledger(previous)] if previous is not None else [])]


@pytest.fixture
def host(place):  # noqa: F811
    place.issue("with-borrow", "--addon", "borrow")
    place.cloud()
    return Host(place, license_dir="with-borrow").start()


def test_signatures_have_labels_of_their_own(host):
    message = os.urandom(1000)
    for purpose, label in ((BORROWED_FILE, b"berth-borrow-v1\n"), (LEDGER, b"berth-ledger-v1\n")):
        answer = call(host, BORROW, "sign", purpose, message.hex())
        signature = bytes.fromhex(answer["signature"])
        assert answer["certificate"] == (host.folder / "server-license/server-license.pem").read_text()
        verify(answer["certificate"], signature, label + message)
        for other in (message, b"berth-ledger-v1\n" + message, b"berth-borrow-v1\n" + message):
            if other != label + message:
                with pytest.raises(InvalidSignature):
                    verify(answer["certificate"], signature, other)


def test_delegation(host):
    before = datetime.datetime.utcnow().replace(microsecond=0)
    answer = call(host, POOL, "delegate", KEY)
    outer = answer["delegation"]
    assert set(outer) == {"format", "payload", "signature"} and outer["format"] == 1
    payload = base64.b64decode(outer["payload"], validate=True)
    verify(answer["certificate"], base64.b64decode(outer["signature"], validate=True),
           b"berth-delegation-v1\n" + payload)
    inner = json.loads(payload)
    assert inner["format"] == 1 and inner["serverId"] == SERVER
    assert base64.b64decode(inner["key"], validate=True).hex() == KEY
    start, end = (datetime.datetime.strptime(inner[name], "%Y-%m-%dT%H:%M:%SZ")
                  for name in ("validFrom", "validUntil"))
    assert end - start == datetime.timedelta(minutes=10)
    assert before <= start <= datetime.datetime.utcnow()
    assert answer["validUntil"] == int(end.replace(tzinfo=datetime.timezone.utc).timestamp())
    assert set(inner) == {"format", "key", "serverId", "validFrom", "validUntil"}


def test_only_the_right_role(host):
    wanted = {("sign", LEDGER, "00"): BORROW, ("delegate", KEY): POOL, ("read-head",): BORROW,
              tuple(move(1)): BORROW}
    for words, role in wanted.items():
        for other in {GATEWAY, POOL, TRUST, BORROW, TOOL} - {role}:
            assert call(host, other, *words)["code"] == 1009
        assert "code" not in call(host, role, *words)
    for method in ("Sign", "Delegate", "ReadHead", "MoveHead"):
        name = f'berth_trust_refused_calls_total{{method="{method}"}}'
        assert host.metric(name) == 4
    assert host.process.text().count("trust.refused") == 16


@pytest.mark.parametrize("words,role,field", [
    (("sign", 3, "00"), BORROW, None),
    (("sign", LEDGER, "zeros:65537"), BORROW, "message"),
    (("delegate", "ab" * 31), POOL, "public_key"),
    (("delegate", "ab" * 33), POOL, "public_key"),
    (("move-head", "E" * 32, 1, ledger(1)), BORROW, "epoch"),
    (("move-head", EPOCH, 2**53 + 1, ledger(1)), BORROW, "sequence"),
    (("move-head", EPOCH, 1, "aa"), BORROW, "hash"),
    (("move-head", EPOCH, 1, ledger(1), "aa"), BORROW, "previous"),
])
def test_calls_that_are_not_as_they_must_be(host, words, role, field):
    answer = call(host, role, *words)
    if field:
        assert answer["code"] == -32602 and answer["field"] == field, answer
    else:
        assert "code" in answer


def test_nothing_is_certified_without_a_verdict(place, host):  # noqa: F811
    place.command("revoke", SERVER)
    host.becomes("invalid", 4)
    for role, words in ((POOL, ("delegate", KEY)), (BORROW, ("sign", BORROWED_FILE, "00"))):
        answer = call(host, role, *words)
        assert answer["code"] == 1004 and answer["reason"] == "revoked"
    # What was granted before must stay readable: the ledger is signed at any time.
    assert "signature" in call(host, BORROW, "sign", LEDGER, "00")
    place.command("restore", SERVER)
    host.becomes("valid", 4)
    assert "delegation" in call(host, POOL, "delegate", KEY)


def test_no_borrowed_file_without_the_addon(place):  # noqa: F811
    place.cloud()
    host = Host(place).start()
    assert call(host, BORROW, "sign", BORROWED_FILE, "00")["code"] == 1005
    assert "signature" in call(host, BORROW, "sign", LEDGER, "00")


def test_delegations_go_on_in_grace(place, host):  # noqa: F811
    place.stop_cloud()
    host.becomes("grace", 5)
    assert "delegation" in call(host, POOL, "delegate", KEY)


# ---- the ledger's head ----

def test_head_moves_by_compare_and_swap(place, host):  # noqa: F811
    assert call(host, BORROW, "read-head") == {"sequence": None}
    first = {"epoch": EPOCH, "sequence": 1, "hash": ledger(1)}
    assert call(host, BORROW, *move(1)) == first
    assert call(host, BORROW, *move(1)) == first
    assert call(host, BORROW, *move(2, previous=1))["sequence"] == 2
    assert call(host, BORROW, "read-head") == {"epoch": EPOCH, "sequence": 2, "hash": ledger(2)}
    assert ledger(2) in place.command("list")
    host.process.stop()
    host.start()
    assert call(host, BORROW, "read-head") == {"epoch": EPOCH, "sequence": 2, "hash": ledger(2)}


@pytest.mark.parametrize("words", [move(2, previous=1), move(1), move(4, previous=2),
                                   move(3, previous=1, epoch="f" * 32),
                                   ["move-head", EPOCH, 3, ledger(99), ledger(2)]])
def test_head_never_goes_back(place, host, words):  # noqa: F811
    host.process.stop()
    host.config.write_text(host.config.read_text().replace('"1 s"', '"3600 s"'))
    host.start()
    for n in (1, 2, 3):
        assert "code" not in call(host, BORROW, *move(n, *([n - 1] if n > 1 else [])))
    answer = call(host, BORROW, *words)
    assert answer["code"] == 1004 and answer["reason"] == "ledger-rollback"
    assert re.search(rf"{SERVER}.* 3 {ledger(3)}", place.command("list"))
    # The verdict is what the backend says of the ledger that the server has ...
    assert host.state() == "invalid"
    # ... until borrow begins anew with another one.
    assert call(host, BORROW, "read-head")["sequence"] == 3
    host.becomes("valid", 10)
    assert call(host, BORROW, *move(3))["sequence"] == 3


def test_backend_away(place, host):  # noqa: F811
    assert "code" not in call(host, BORROW, *move(1))
    place.stop_cloud()
    answer = call(host, BORROW, *move(2, previous=1))
    assert answer["code"] == 1011 and answer["service"] == "cloud"
    assert call(host, BORROW, *move(1))["sequence"] == 1  # known already
    place.cloud()
    wait_until(lambda: "code" not in call(host, BORROW, *move(2, previous=1)), 10, "backend is back")


def test_backend_that_hangs(place, host):  # noqa: F811
    """Who moves a head hears so while the check still waits, for 10 s; and trust answers others."""
    assert "code" not in call(host, BORROW, *move(1))
    place.stop_cloud()
    with socket.create_server(("127.0.0.1", place.port)):
        begin = time.monotonic()
        answers = calls(host, BORROW, move(2, previous=1), ["sign", LEDGER, "00"], ["read-head"])
        assert time.monotonic() - begin < 9
        assert "signature" in answers[0] and answers[1]["sequence"] == 1
        assert answers[2]["code"] == 1011 and answers[2]["service"] == "cloud"
    place.cloud()
    wait_until(lambda: call(host, BORROW, *move(2, previous=1)).get("sequence") == 2, 20, "it is back")


def test_calls_share_a_check(place, host):  # noqa: F811
    """A check at once for a head, and one for all who wait for the same."""
    host.config.write_text(host.config.read_text().replace('"1 s"', '"3600 s"'))
    host.process.stop()
    host.start()
    checks = 'berth_cloud_checks_total{outcome="ok"}'
    before = host.metric(checks)
    answers = calls(host, BORROW, *[move(1)] * 20)
    assert answers == [{"epoch": EPOCH, "sequence": 1, "hash": ledger(1)}] * 20
    assert 1 <= host.metric(checks) - before <= 2
    answers = calls(host, BORROW, *[move(n, previous=n - 1) for n in range(2, 8)])
    assert [a["sequence"] for a in answers] == [2, 3, 4, 5, 6, 7]


def test_forgotten_ledger(place, host):  # noqa: F811
    assert "code" not in call(host, BORROW, *move(5))
    host.process.stop()
    place.command("forget-ledger", SERVER)
    host.start()
    assert call(host, BORROW, "read-head") == {"sequence": None}
    assert call(host, BORROW, *move(1, epoch="f" * 32))["epoch"] == "f" * 32
    assert run(BUILD / "berth-cloud", "forget-ledger", "NONE", "--state",
               place.state).stdout.endswith("nothing to change\n")


def test_date_of_issue_of_accepted_licenses_raises_the_mark(host):
    """Only pool's word counts; while the backend tells the time, only the mark is raised."""
    def mark():
        host.process.stop()
        saved = (host.folder / "state" / "clock-mark").read_text().splitlines()[1]
        host.start()
        return saved
    issued = datetime.datetime.utcnow().replace(microsecond=0) + datetime.timedelta(days=30)
    seconds = int(issued.replace(tzinfo=datetime.timezone.utc).timestamp())
    call(host, GATEWAY, "watch", seconds)
    assert mark() < issued.isoformat()
    assert call(host, POOL, "watch", seconds)["state"] == 1
    assert mark() == issued.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert host.state() == "valid"


def test_what_trust_cannot_do_any_more(host):
    status = dict(line.split(":", 1) for line in
                  open(f"/proc/{host.process.pid}/status").read().splitlines())
    assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"
    dac_override, net_bind_service = 1 << 1, 1 << 10
    for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
        assert int(status[name], 16) & ~(dac_override | net_bind_service) == 0, name
    assert int(status["VmLck"].split()[0]) >= 64  # the keys' memory
    limits = open(f"/proc/{host.process.pid}/limits").read()
    assert re.search(r"^Max core file size\s+0\s+0\s", limits, re.M)
    for thread in os.listdir(f"/proc/{host.process.pid}/task"):
        assert "Seccomp:\t2" in open(f"/proc/{host.process.pid}/task/{thread}/status").read()
