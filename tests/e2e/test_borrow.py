"""Borrowing, [B1] to [B7] of behaviour.md, through the real processes."""

import json
import os
import signal
import threading

import pytest
from berth import RpcError, run, wait_until
from lending import (BUILD, HOST, at_last, borrow, borrower, lender, moment, refused, token, uuid_of)


@pytest.fixture(scope="module")
def site(tmp_path_factory, keys):
    """One running lender for the tests that only add borrows of licenses of their own."""
    site = lender(tmp_path_factory.mktemp("lender"), keys)
    site.start()
    yield site
    site.stop()


@pytest.fixture
def fresh(tmp_path, keys):
    site = lender(tmp_path, keys)
    yield site
    site.stop()


@pytest.fixture
def client(site):
    client = borrower(site)
    yield client
    client.close()


def licensed(site, name, feature=None, **more):
    """A license that the running server has; its UUID."""
    uuid = uuid_of(site.license(name, feature=feature or name, **more))
    wait_until(lambda: uuid in site.listed(), what=f"license {name} is loaded")
    return uuid


# ---- [B1] ----

def test_b1_without_the_addon(tmp_path, keys):
    from berth import Site
    site = Site(tmp_path, keys)
    try:
        uuid = uuid_of(site.license("a"))
        site.start()
        client = borrower(site)
        e = refused(client, uuid)
        assert (e.code, e.data["name"], e.data["reason"]) == (1005, "BorrowNotAllowed", "addon")
        assert client.call("ListBorrowedLicensesV1") == []
        # A server that never had it keeps no ledger.
        assert not list((site.folder / "state").glob("borrowed*"))
    finally:
        site.stop()


def test_b1_the_addon_has_gone(fresh, keys):
    """What is lent counts and can be fetched; nothing new is lent."""
    uuid = uuid_of(fresh.license("a", count=2))
    fresh.start()
    lent = borrow(borrower(fresh), uuid)
    fresh.server.stop()
    fresh.configure(trust__server_license="server-license")  # of the same server, without the addon
    fresh.start()
    client = borrower(fresh)
    assert client.call("GetBorrowedLicenseV1", borrowId=lent["borrowId"]) == lent
    assert fresh.listed()[uuid]["available"] == 1
    assert refused(client, uuid, host="dongle-1").code == 1005
    assert borrow(client, uuid, until=lent["validUntil"]) == lent


def test_b1_borrowing_needs_the_token(site):
    uuid = licensed(site, "token")
    for wrong in (None, "wrong"):
        client = site.client(token=wrong)
        e = refused(client, uuid, "token")
        assert e.code == 1009
    assert site.client().call("ListBorrowedLicensesV1") is not None  # listing needs none
    lent = borrow(borrower(site), uuid, "token")
    with pytest.raises(RpcError) as e:
        site.client().call("GetBorrowedLicenseV1", borrowId=lent["borrowId"])
    assert e.value.code == 1009


# ---- [B2] ----

def test_b2_period(site, client):
    uuid = licensed(site, "period", count=50, valid_until=moment(days=30))
    cases = [
        (dict(until=moment(days=7, seconds=-5)), None),
        (dict(until=moment(days=7, seconds=60)), "period-too-long"),
        (dict(validFrom=moment(days=36), until=moment(days=43)), "too-far-ahead"),
        (dict(validFrom=moment(seconds=-200), until=moment(days=1)), None),
        (dict(validFrom=moment(seconds=-400), until=moment(days=1)), "from-past"),
        (dict(until=moment(seconds=-1)), "period-empty"),
        (dict(validFrom=moment(days=1), until=moment(days=1)), "period-empty"),
        (dict(validFrom=moment(days=28), until=moment(days=31)), "license-expires"),
    ]
    for number, (period, reason) in enumerate(cases):
        answer = refused(client, uuid, "period", host=f"host-{number}", **period)
        if reason:
            assert (answer.code, answer.data["reason"]) == (1006, reason), period
            assert answer.data["name"] == "BorrowPeriodInvalid" and answer.data["limit"]
            assert answer.data["limit"] in answer.message
        else:
            assert answer["validFrom"] <= moment(seconds=1), answer


def test_b2_the_license_is_named_by_uuid_and_feature(site, client):
    uuid = licensed(site, "one", feature="One")
    site.license("two", feature="Two", uuid=uuid)
    wait_until(lambda: sum(i["uuid"] == uuid for i in client.licenses()) == 2)
    assert borrow(client, uuid, "Two")["license"].count("feature: Two") == 2
    for wrong in ((uuid, "Three"), (uuid.replace(uuid[0], "f" if uuid[0] != "f" else "0"), "One")):
        e = refused(client, *wrong)
        assert (e.code, e.data["name"]) == (1008, "NotFound")
    assert borrow(client, uuid.upper(), "One")["uuid"] == uuid


@pytest.mark.parametrize("host,stored", [
    ("00-1A-2B-3C-4D-60", "00:1a:2b:3c:4d:60"), ("001a2b3c4d61", "00:1a:2b:3c:4d:61"),
    ("Dongle_1.a-b", "Dongle_1.a-b"),
    ("00:00:00:00:00:00", None), ("ff:ff:ff:ff:ff:ff", None), ("01:00:5e:00:00:01", None),
    ("a b", None), ("x" * 65, None), ("host/../x", None)])
def test_b2_host_ids(site, client, host, stored):
    uuid = next((u for u, i in site.listed().items() if i["feature"] == "hosts"), None)
    uuid = uuid or licensed(site, "hosts", count=100)
    answer = refused(client, uuid, "hosts", host=host)
    if stored:
        assert answer["hostId"] == stored and f"\nhost-id: {stored}\n" in answer["license"]
    else:
        assert (answer.code, answer.data["field"]) == (-32602, "hostId")


# ---- [B3] ----

def test_b3_the_file_is_good_for_its_host_alone_and_offline(site, client, tmp_path):
    uuid = licensed(site, "offline")
    lent = borrow(client, uuid, "offline")
    assert lent["fileName"] == f"license_borrowed_{lent['borrowId']}.dat"
    # The vendor's block stands in it unchanged.
    vendors = (site.license_folder / "license_offline.dat").read_text()
    assert lent["license"].startswith(vendors[vendors.index("-----BEGIN LICENSE"):].rstrip("\n"))
    file = tmp_path / lent["fileName"]
    file.write_text(lent["license"])
    ca = site.keys / "vendor-ca.pem"

    def check(*more):
        return site.berth("check-license", file, "--ca", ca, *more, check=False)

    assert check().returncode == 0 and HOST in check().stdout
    assert check("--host-id", "00-1A-2B-3C-4D-5E").returncode == 0
    assert check("--host-id", "00:1a:2b:3c:4d:5f").returncode == 1
    inspected = run(BUILD / "berth-vendor", "inspect", file, "--ca", ca)
    assert HOST in inspected.stdout and "good" in inspected.stdout
    assert check("--server-id", "ANOTHER").returncode == 1
    # Each signed line, each a little different.
    lines = lent["license"].splitlines()
    signed = [n for n, line in enumerate(lines) if ": " in line and not line.startswith("signature")]
    assert len(signed) > 15
    for n in signed:
        file.write_text("\n".join([*lines[:n], lines[n][:-1] + ("8" if lines[n][-1] != "8" else "9"),
                                   *lines[n + 1:]]))
        done = check()
        assert done.returncode == 1 and "refused" in done.stdout, lines[n]


def test_b3_a_period_to_come(site, client, tmp_path):
    uuid = licensed(site, "later")
    lent = borrow(client, uuid, "later", validFrom=moment(days=3), until=moment(days=5))
    (tmp_path / "b.dat").write_text(lent["license"])
    done = site.berth("check-license", tmp_path / "b.dat", "--ca", site.keys / "vendor-ca.pem")
    assert "not yet valid" in done.stdout
    # Until then its seat is free.
    assert site.listed()[uuid]["available"] == 5


def test_b3_a_borrowed_file_among_the_servers_licenses_serves_nobody(site, client):
    uuid = licensed(site, "astray", count=1)
    lent = borrow(client, uuid, "astray")
    (site.license_folder / lent["fileName"]).write_text(lent["license"])
    (site.license_folder / "license_astray.dat").unlink()
    wait_until(lambda: uuid not in site.listed(), what="the license is withdrawn")
    wait_until(lambda: "borrowed license file" in site.server.text(), what="it says why")
    (site.license_folder / lent["fileName"]).unlink()


def test_b3_a_license_signed_with_a_rotated_key(tmp_path, keys):
    """Its key is known by a certificate in its file: the borrowed file has it too."""
    import shutil
    own = tmp_path / "keys"
    shutil.copytree(keys, own)
    (tmp_path / "site").mkdir()
    site = lender(tmp_path / "site", own)
    try:
        run(BUILD / "berth-vendor", "rotate-license-key", "--dir", own)
        uuid = uuid_of(site.license("rotated"))
        site.start()
        lent = borrow(borrower(site), uuid)
        file = tmp_path / "b.dat"
        file.write_text(lent["license"])
        assert lent["license"].count("BEGIN CERTIFICATE") == 2
        done = site.berth("check-license", file, "--ca", own / "vendor-ca.pem", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        site.stop()


# ---- [B4] ----

def test_b4_asked_again(site, client):
    uuid = licensed(site, "again", count=2)
    until = moment(days=3)
    lent = borrow(client, uuid, "again", until=until)
    assert borrow(client, uuid, "again", until=until, host="00-1A-2B-3C-4D-5E") == lent
    assert borrow(client, uuid, "again", until=until, validFrom=lent["validFrom"]) == lent
    assert client.call("GetBorrowedLicenseV1", borrowId=lent["borrowId"]) == lent
    # Another period is another seat, and then there is none left; the same is given all the same.
    other = borrow(client, uuid, "again", until=moment(days=4))
    assert other["borrowId"] != lent["borrowId"]
    assert refused(client, uuid, "again", until=moment(days=5)).code == 1007
    assert borrow(client, uuid, "again", until=until) == lent


def test_b4_when_its_license_has_changed_or_gone(site, client):
    uuid = licensed(site, "changed", count=2)
    lent = borrow(client, uuid, "changed")
    path = site.license_folder / "license_changed.dat"
    path.unlink()
    site.license("changed", feature="changed", uuid=uuid, count=1, issued=moment(seconds=5))
    wait_until(lambda: site.listed()[uuid]["count"] == 1)
    assert client.call("GetBorrowedLicenseV1", borrowId=lent["borrowId"]) == lent
    path.unlink()
    wait_until(lambda: uuid not in site.listed())
    assert client.call("GetBorrowedLicenseV1", borrowId=lent["borrowId"]) == lent
    listed = {b["borrowId"]: b for b in client.call("ListBorrowedLicensesV1")}
    without = {k: v for k, v in lent.items() if k != "license"}
    assert listed[lent["borrowId"]] == without


def test_b4_the_seat_is_free_when_the_period_ends(site, client):
    uuid = licensed(site, "short", count=1)
    lent = borrow(client, uuid, "short", until=moment(seconds=3))
    assert site.listed()[uuid]["available"] == 0
    wait_until(lambda: site.listed()[uuid]["available"] == 1, 20, "the seat is free again")
    assert "borrowedIntervals" not in site.listed()[uuid]
    with pytest.raises(RpcError) as e:
        client.call("GetBorrowedLicenseV1", borrowId=lent["borrowId"])
    assert e.value.code == 1008
    assert lent["borrowId"] not in [b["borrowId"] for b in client.call("ListBorrowedLicensesV1")]
    assert borrow(client, uuid, "short")["borrowId"] != lent["borrowId"]
    assert lent["borrowId"] not in (site.folder / "state" / "borrowed.ledger").read_text()


def test_b4_there_is_no_way_to_return_one(client):
    for method in ("ReturnBorrowedLicenseV1", "ReturnLicenseV1"):
        with pytest.raises(RpcError) as e:
            client.call(method, borrowId="x")
        assert e.value.code == -32601


# ---- [B5] ----

def test_b5_sessions_and_borrows_share_the_seats(site, client):
    uuid = licensed(site, "shared", count=2)
    old, new = (client.request("shared")["sessionId"] for _ in range(2))
    borrow(client, uuid, "shared")
    client.revalidate(old)
    with pytest.raises(RpcError) as e:
        client.revalidate(new)
    assert (e.value.code, e.value.data["reason"]) == (1003, "displaced")
    client.revalidate(old)
    with pytest.raises(RpcError) as e:
        client.request("shared")
    assert e.value.code == 1002


def test_b5_until_the_period_begins_the_seat_serves_sessions(site, client):
    uuid = licensed(site, "future", count=1)
    session = client.request("future")["sessionId"]
    borrow(client, uuid, "future", validFrom=moment(seconds=4), until=moment(days=1))
    client.revalidate(session)
    assert site.listed()[uuid]["borrowedIntervals"][0]["hostId"] == HOST

    def displaced():
        try:
            client.revalidate(session)
        except RpcError as e:
            return e.data.get("reason") == "displaced"
        return False
    wait_until(displaced, 20, "the session must go")


# ---- [B6] ----

def test_b6_sessions_do_not_matter_and_other_borrows_do(site, client):
    uuid = licensed(site, "full", count=2)
    for _ in range(2):
        client.request("full")
    a, b, c, d = (moment(days=n) for n in (1, 2, 3, 4))
    borrow(client, uuid, "full", host="h1", validFrom=a, until=c)
    borrow(client, uuid, "full", host="h2", validFrom=b, until=d)
    e = refused(client, uuid, "full", host="h3", validFrom=a, until=d)
    assert (e.code, e.data["from"], e.data["until"]) == (1007, b, c)
    borrow(client, uuid, "full", host="h3", validFrom=a, until=b)  # half open
    borrow(client, uuid, "full", host="h4", validFrom=c, until=d)
    assert refused(client, uuid, "full", host="h5", validFrom=a, until=b).code == 1007


def test_b6_a_race_for_the_last_seats(site):
    uuid = licensed(site, "race", count=5)
    until, answers = moment(days=1), []

    def ask(number):
        client = borrower(site)
        answers.append(refused(client, uuid, "race", host=f"h{number}", until=until))
        client.close()
    threads = [threading.Thread(target=ask, args=(n,)) for n in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    lent = {a["borrowId"] for a in answers if isinstance(a, dict)}
    assert len(lent) == 5 and [a.code for a in answers if not isinstance(a, dict)] == [1007] * 7
    assert site.listed()[uuid]["available"] == 0


def test_b6_the_same_borrow_asked_for_at_once_is_one(site):
    """And all borrows of a batch share few writes of the ledger."""
    uuid = licensed(site, "batch", count=30)
    until = moment(days=1)
    calls = [{"jsonrpc": "2.0", "id": n, "method": "BorrowLicenseV1",
              "params": {"uuid": uuid, "feature": "batch", "hostId": f"h{n // 2}",
                         "validUntil": until}} for n in range(60)]
    before = ledger_number(site)
    answers = json.loads(borrower(site).post(calls)[2])
    ids = {a["id"]: a["result"]["borrowId"] for a in answers}
    assert len(set(ids.values())) == 30 and all(ids[n] == ids[n ^ 1] for n in ids)
    assert ledger_number(site) - before < 10


def ledger_number(site):
    ledger = site.folder / "state" / "borrowed.ledger"
    if not ledger.exists():
        return 0
    return int(ledger.read_text().partition("\nsequence: ")[2].partition("\n")[0])


# ---- [B7]: more of it in test_borrow_disk.py ----

def test_b7_whoever_is_killed_what_was_answered_is_there(fresh):
    uuid = uuid_of(fresh.license("a", count=3))
    fresh.start()
    lent = []

    def all_there():
        client = borrower(fresh)
        found = {b["borrowId"] for b in client.call("ListBorrowedLicensesV1")}
        assert found == {b["borrowId"] for b in lent}
        for b in lent:
            assert client.call("GetBorrowedLicenseV1", borrowId=b["borrowId"]) == b
        assert fresh.listed()[uuid]["available"] == 3 - len(lent)
        client.close()
        return True
    for victim in ("borrow", "pool", "trust"):
        lent.append(borrow(borrower(fresh), uuid, host=f"h-{victim}"))
        os.kill(fresh.child(victim), signal.SIGKILL)
        at_last(all_there)
        wait_until(lambda: fresh.child(victim), 30, f"{victim} runs again")
        fresh.wait_ready(30)
    pids = [fresh.server.pid, *(fresh.child(n) for n in ("trust", "pool", "borrow", "gateway"))]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    fresh.server.stop()
    fresh.start()
    assert all_there() and refused(borrower(fresh), uuid, host="one-more").code == 1007


# ---- the backend ----

def test_without_the_backend_nothing_new_is_lent_and_sessions_go_on(fresh):
    uuid = uuid_of(fresh.license("a", count=3))
    fresh.start()
    client = borrower(fresh)
    first = borrow(client, uuid)
    session = client.request()["sessionId"]
    fresh.stop_cloud()
    until = moment(days=1)
    for _ in range(2):
        e = refused(client, uuid, host="h2", until=until)
        assert (e.code, e.data["service"]) == (1011, "cloud")
    client.revalidate(session)
    assert client.call("GetBorrowedLicenseV1", borrowId=first["borrowId"]) == first
    # It is on disk, and pool hears of it when it starts; but nobody gets it before the backend knows.
    written = {b["borrowId"] for b in client.call("ListBorrowedLicensesV1")} - {first["borrowId"]}
    os.kill(fresh.child("pool"), signal.SIGKILL)
    at_last(lambda: client.revalidate(session))
    assert at_last(fresh.listed)[uuid]["available"] == 0
    for ask in (lambda: client.call("GetBorrowedLicenseV1", borrowId=min(written)),
                lambda: borrow(client, uuid, host="h2", until=until)):
        with pytest.raises(RpcError) as e:
            ask()
        assert (e.value.code, e.value.data["service"]) == (1011, "cloud")
    fresh.start_cloud()
    again = at_last(lambda: borrow(client, uuid, host="h2", until=until))
    assert len(client.call("ListBorrowedLicensesV1")) == 2  # it took one seat, not more
    borrow(client, uuid, host="h3")
    assert refused(client, uuid, host="h4").code == 1007
    assert client.call("GetBorrowedLicenseV1", borrowId=again["borrowId"]) == again
    assert {again["borrowId"]} == written


@pytest.mark.parametrize("stopped", ["trust", "pool"])
def test_while_another_process_is_stopped_the_answer_is_1011(fresh, stopped):
    """Not a hang; and asked again, it is one borrow."""
    uuid = uuid_of(fresh.license("a", count=2))
    fresh.start()
    client, until, pid = borrower(fresh), moment(days=1), fresh.child(stopped)
    os.kill(pid, signal.SIGSTOP)
    try:
        e = refused(client, uuid, until=until)
        assert (e.code, e.data["service"]) == (1011, stopped), e
        assert client.call("ListBorrowedLicensesV1") == []
    finally:
        os.kill(pid, signal.SIGCONT)
    lent = at_last(lambda: borrow(client, uuid, until=until))
    assert [b["borrowId"] for b in client.call("ListBorrowedLicensesV1")] == [lent["borrowId"]]
    assert fresh.listed()[uuid]["available"] == 1


# ---- commands ----

def test_the_commands(site, client, tmp_path):
    uuid = licensed(site, "commands", count=2)
    out = tmp_path / "mine.dat"
    ask = ["borrow", "--uuid", uuid, "--feature", "commands", "--host-id", HOST, "--until",
           moment(days=1)]
    done = site.berth(*ask, "-o", out, "-c", site.config)
    assert HOST in done.stdout
    server = ["--server", f"https://localhost:{site.port}", "--ca", site.folder / "tls.pem"]
    by_token = [*server, "--token-file", site.folder / "borrow.token"]
    assert site.berth(*ask, *by_token).stdout == out.read_text()  # the same again
    told = json.loads(site.berth(*ask, "--json", "-c", site.config).stdout)
    assert told["license"] == out.read_text()
    assert site.berth("check-license", out, "--ca", site.keys / "vendor-ca.pem").returncode == 0
    rows = json.loads(site.berth("borrowed", "--json", *server).stdout)
    assert told["borrowId"] in [r["borrowId"] for r in rows]
    assert told["borrowId"] in site.berth("borrowed", "-c", site.config).stdout
    assert "borrows" in site.berth("status", "-c", site.config).stdout
    refusals = [([*ask, *server], 1, "token"),
                ([*ask[:-1], moment(days=8), "-c", site.config], 1, "too long"),
                ([*ask[:-1], "soon", "-c", site.config], 1, "validUntil"),
                ([*ask[:-2], "-c", site.config], 2, "--until"),
                ([*ask, "--nonsense", "-c", site.config], 2, ""),
                ([*ask, "--server", "https://localhost:1", "--ca", site.folder / "tls.pem"], 3, "")]
    for command, code, word in refusals:
        done = site.berth(*command, check=False)
        assert done.returncode == code and word in done.stderr, (command, done)
    done = site.berth(*ask, "-o", tmp_path / "none" / "x.dat", "-c", site.config, check=False)
    assert done.returncode == 1 and "borrowed all the same" in done.stderr


def test_no_secret_is_logged(site, client):
    lent = borrow(client, licensed(site, "secret"), "secret")
    text = site.server.text()
    assert token(site) not in text and lent["license"].splitlines()[-3] not in text
    assert "borrow.granted" in text
