"""What the ledger on disk must withstand, [D1] to [D5] of borrow.md, with the real processes. Each
single byte is altered in tests/component/test_ledger_pair.c; here berth-borrow itself meets a sample."""

import json
import os
import resource
import shutil
import signal
import subprocess

import pytest
from berth import BUILD, run, wait_until
from lending import (at_last, borrow, borrower, healthy, lender, moment, refused, spawn, start_one_by_one,
                     uuid_of)

FILES = ("borrowed.ledger", "borrowed.ledger.sig")


def ledger_folder(site):
    return site.folder / "state"


def pair(site):
    return [(ledger_folder(site) / name).read_bytes() for name in FILES]


def put(site, contents):
    for name, content in zip(FILES, contents):
        path = ledger_folder(site) / name
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(content)


@pytest.fixture(scope="module")
def site(tmp_path_factory, keys):
    """A lender with some history. trust and pool run, borrow does not; .older is a pair that was the
    newest once."""
    site = lender(tmp_path_factory.mktemp("disk"), keys)
    site.license("a", count=9)
    site.uuid = uuid_of(site.license_folder / "license_a.dat")
    start_one_by_one(site)
    client = borrower(site)
    for n in range(3):
        borrow(client, site.uuid, host=f"h{n}")
    site.older = pair(site)
    site.lent = borrow(client, site.uuid, host="h3")
    site.good = pair(site)
    site.services["gateway"].stop()
    site.services["borrow"].stop()
    yield site
    site.stop()


def try_to_start(site):
    """What berth-borrow says and its exit code: None if it becomes ready."""
    process = spawn(site, "borrow", "borrow-try")
    process.log.write_bytes(b"")
    try:
        wait_until(lambda: not process.running() or "process.ready" in process.text(), 20)
        code = process.popen.poll()
        return code, process.text()
    finally:
        process.stop()


@pytest.fixture(autouse=True)
def as_it_was(request):
    """Each test of the module's site begins, and leaves it, with the good pair."""
    if "site" not in request.fixturenames:
        yield
        return
    site = request.getfixturevalue("site")
    put(site, site.good)
    yield
    for path in ledger_folder(site).glob("borrowed.*"):
        path.unlink()
    put(site, site.good)


def assert_refused(site, contents, *words):
    put(site, contents)
    code, text = try_to_start(site)
    assert code == 78, (code, text)
    for word in ("borrowed.ledger", "restore-ledger", "Put", *words):
        assert word in text, (word, text)
    # It refuses, and touches nothing.
    assert [c for c in contents if c is not None] == \
        [(ledger_folder(site) / n).read_bytes() for n, c in zip(FILES, contents) if c is not None]


# ---- [D1] ----

def test_d1_as_it_was_left_it_starts(site):
    assert try_to_start(site)[0] is None


@pytest.mark.parametrize("which", [0, 1])
def test_d1_a_byte_changed(site, which):
    data = site.good[which]
    for at in range(0, len(data), len(data) // 9):
        changed = list(site.good)
        changed[which] = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
        assert_refused(site, changed)


@pytest.mark.parametrize("which", [0, 1])
def test_d1_bytes_cut_off_or_appended(site, which):
    data = site.good[which]
    for content in (data[:-1], data[:len(data) // 2], data[:1], b"", data + b"\n", data + b"x"):
        changed = list(site.good)
        changed[which] = content
        assert_refused(site, changed)


def test_d1_deleted(site):
    ledger, signature = site.good
    assert_refused(site, [None, signature], "borrowed.ledger is missing")
    assert_refused(site, [ledger, None], "borrowed.ledger.sig is missing")
    assert_refused(site, [None, None], "is missing", "backend")


def test_d1_an_older_pair_put_back(site):
    assert_refused(site, site.older, "older", "old copy")


def test_d1_the_files_of_two_pairs(site):
    assert_refused(site, [site.older[0], site.good[1]], "altered")
    assert_refused(site, [site.good[0], site.older[1]], "altered")


def link_to_a_copy(path):
    path.with_name("copy").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to("copy")


def folder_in_its_place(path):
    path.unlink()
    path.mkdir()


def pipe_in_its_place(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change, what", [(link_to_a_copy, "is a symbolic link"),
                                          (folder_in_its_place, "is not a regular file"),
                                          (pipe_in_its_place, "is not a regular file")])
def test_d1_something_else_in_its_place(site, name, change, what):
    path = ledger_folder(site) / name
    change(path)
    try:
        code, text = try_to_start(site)
        assert code == 78, (code, text)
        for word in (f"{name} {what}", "move it away", "Put", "restore-ledger"):
            assert word in text, (word, text)
    finally:
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_d1_the_pair_of_another_server(site, tmp_path, keys):
    (tmp_path / "other").mkdir()
    other = lender(tmp_path / "other", keys)
    try:
        uuid = uuid_of(other.license("a"))
        other.start()
        borrow(borrower(other), uuid)
        assert_refused(site, pair(other), "backend")  # the same server ID, another ledger
    finally:
        other.stop()


def test_d1_the_whole_server_says_why(tmp_path, keys):
    site = lender(tmp_path, keys)
    try:
        uuid = uuid_of(site.license("a"))
        site.start()
        borrow(borrower(site), uuid)
        site.server.stop()
        ledger, signature = pair(site)
        put(site, [ledger.replace(b"host-id: 00", b"host-id: 02"), signature])
        server = site.spawn_server()
        assert server.wait(20) == 1
        last = server.text()
        assert "berth: berth-borrow:" in last and "borrowed.ledger" in last
        assert "altered" in last and "restore-ledger" in last
        put(site, [ledger, signature])
        site.start()
    finally:
        site.stop()


# ---- [D2]: killed or cut off at every system call in tests/faults ----

def test_d2_what_a_crash_leaves_is_finished(site):
    """The .next files of a write that was cut off between its steps."""
    folder = ledger_folder(site)
    ledger, signature = site.good
    older_ledger, older_signature = site.older
    crashes = [  # ledger, .next, signature, .next: the newest pair is complete somewhere
        (older_ledger, ledger, older_signature, signature),
        (ledger, None, older_signature, signature),
        (ledger, None, signature, b"torn"),
        (ledger, b"torn", signature, None),
        (older_ledger, ledger, signature, None),
    ]
    for files in crashes:
        for name, content in zip(("borrowed.ledger", "borrowed.ledger.next", "borrowed.ledger.sig",
                                  "borrowed.ledger.sig.next"), files):
            (folder / name).unlink(missing_ok=True)
            if content is not None:
                (folder / name).write_bytes(content)
        code, text = try_to_start(site)
        assert code is None, (files, text)
        assert pair(site) == site.good
        assert not list(folder.glob("*.next"))


def test_d2_written_but_the_backend_was_not_told(tmp_path, keys):
    """Killed between the disk and the backend: the ledger is one ahead, and is taken up."""
    site = lender(tmp_path, keys)
    try:
        uuid = uuid_of(site.license("a", count=3))
        start_one_by_one(site)
        client = borrower(site)
        borrow(client, uuid, host="h1")
        site.stop_cloud()
        until = moment(days=1)
        assert refused(client, uuid, host="h2", until=until).code == 1011
        os.kill(site.services["borrow"].pid, signal.SIGKILL)
        site.services["borrow"].wait()
        site.start_cloud()
        spawn(site, "borrow")
        wait_until(lambda: healthy(site, "borrow"), 20)
        assert len(at_last(lambda: client.call("ListBorrowedLicensesV1"))) == 2
        lent = at_last(lambda: borrow(client, uuid, host="h2", until=until))
        assert len(client.call("ListBorrowedLicensesV1")) == 2
        assert client.call("GetBorrowedLicenseV1", borrowId=lent["borrowId"]) == lent
    finally:
        site.stop()


# ---- [D3] ----

def mount_tmpfs(folder, size):
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder],
                          capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"may not mount here: {done.stderr}")


@pytest.fixture
def small_disk(tmp_path, keys):
    mount_tmpfs(tmp_path / "disk", "64k")
    site = lender(tmp_path, keys, borrow__directory="disk")
    yield site
    site.stop()
    subprocess.run(["umount", "-l", tmp_path / "disk"], check=True)


def assert_only_borrowing_stops(site, uuid, lent, breaking, mending):
    client = borrower(site)
    session = client.request()["sessionId"]
    breaking()
    before = [p.read_bytes() for p in sorted((site.folder / "disk").glob("borrowed.ledger*"))]
    until = moment(days=1)
    e = refused(client, uuid, host="too-much", until=until)
    assert (e.code, e.data["service"]) == (1011, "borrow") and "disk" in e.message
    assert len(client.call("ListBorrowedLicensesV1")) == 1
    assert client.call("GetBorrowedLicenseV1", borrowId=lent["borrowId"]) == lent
    client.revalidate(session)
    assert client.request()["sessionId"] != session
    assert site.listed()[uuid]["borrowedIntervals"] and healthy(site, "borrow")
    left = {p.name: p.read_bytes() for p in (site.folder / "disk").glob("borrowed.ledger*")}
    assert [left[n] for n in FILES] == before[:2]
    mending()
    assert borrow(client, uuid, host="too-much", until=until)


def lend_one(site):
    uuid = uuid_of(site.license("a", count=9))
    site.start()
    return uuid, borrow(borrower(site), uuid)


def test_d3_a_full_disk(small_disk):
    uuid, lent = lend_one(small_disk)
    filler = small_disk.folder / "disk" / "filler"

    def fill():
        with open(filler, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"x" * 4096)
            except OSError:
                pass
    assert_only_borrowing_stops(small_disk, uuid, lent, fill, filler.unlink)


def test_d3_a_read_only_folder(small_disk):
    uuid, lent = lend_one(small_disk)

    def remount(how):
        subprocess.run(["mount", "-o", f"remount,{how}", small_disk.folder / "disk"], check=True)
    assert_only_borrowing_stops(small_disk, uuid, lent, lambda: remount("ro"), lambda: remount("rw"))
    # With such a folder it starts as well, and lends nothing.
    remount("ro")
    small_disk.server.stop()
    small_disk.start()
    e = refused(borrower(small_disk), uuid, host="ro")
    assert (e.code, e.data["service"]) == (1011, "borrow")
    assert len(borrower(small_disk).call("ListBorrowedLicensesV1")) == 2
    remount("rw")


def test_d3_a_limit_of_the_file_size(tmp_path, keys):
    site = lender(tmp_path, keys)
    try:
        uuid = uuid_of(site.license("a"))
        start_one_by_one(site)
        client = borrower(site)
        lent = borrow(client, uuid)
        pid = site.services["borrow"].pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        e = refused(client, uuid, host="h2")
        assert (e.code, e.data["service"]) == (1011, "borrow")
        assert client.call("GetBorrowedLicenseV1", borrowId=lent["borrowId"]) == lent
        assert site.services["borrow"].running()
    finally:
        site.stop()


def test_d3_no_folder_at_all(tmp_path, keys):
    site = lender(tmp_path, keys, borrow__directory="not-there")
    try:
        uuid = uuid_of(site.license("a"))
        site.start()
        for _ in range(2):
            e = refused(borrower(site), uuid)
            assert (e.code, e.data["service"]) == (1011, "borrow") and "not-there" in e.message
        assert site.client().request()
        (site.folder / "not-there").mkdir()
        assert borrow(borrower(site), uuid)
        assert (site.folder / "not-there" / "borrowed.ledger").exists()
    finally:
        site.stop()


# ---- [D4] ----

def test_d4_ended_borrows_are_dropped(tmp_path, keys):
    site = lender(tmp_path, keys)
    try:
        uuid = uuid_of(site.license("a", count=40))
        site.start()
        client = borrower(site)
        soon = moment(seconds=3)
        ended = [borrow(client, uuid, host=f"h{n}", until=soon)["borrowId"] for n in range(20)]
        large = len(pair(site)[0])
        wait_until(lambda: not client.call("ListBorrowedLicensesV1"), 20)
        borrow(client, uuid, host="next")
        ledger = pair(site)[0]
        assert len(ledger) < large / 3 and not any(i.encode() in ledger for i in ended)
    finally:
        site.stop()


# ---- [D5] ----

def test_d5_a_second_process_on_the_same_folder(site, tmp_path):
    first = spawn(site, "borrow", "borrow-first")
    try:
        wait_until(lambda: "process.ready" in first.text(), 20)
        second = tmp_path / "second.yaml"
        tree = json.loads(site.config.read_text())
        tree["rpc"]["borrow"] = f"ipc://{tmp_path}/second"
        tree["ops"]["borrow"] = "127.0.0.1:0"
        tree["borrow"]["directory"] = str(ledger_folder(site))
        second.write_text(json.dumps(tree))
        done = run(BUILD / "berth-borrow", "-c", second, check=False)
        assert done.returncode == 78
        assert "another process" in done.stdout + done.stderr
        assert first.running()
    finally:
        first.stop()


# ---- the signer's certificate ----

def test_a_ledger_of_a_renewed_server_license_is_signed_anew(tmp_path, keys):
    site = lender(tmp_path, keys)
    try:
        uuid = uuid_of(site.license("a"))
        site.start()
        lent = borrow(borrower(site), uuid)
        site.server.stop()
        ledger, signature = pair(site)
        site.issue_server_license("--addon", "borrow", "--renew",
                                  site.folder / "borrow-license" / "server-license.pem",
                                  out="renewed")
        new = site.folder / "renewed"
        shutil.copy(site.folder / "borrow-license" / "server-license.key", new)
        site.configure(trust__server_license="renewed")
        site.start()
        wait_until(lambda: pair(site)[1] != signature, what="signed anew")
        assert pair(site)[0] == ledger
        assert (new / "server-license.pem").read_bytes() in pair(site)[1]
        client = borrower(site)
        assert client.call("GetBorrowedLicenseV1", borrowId=lent["borrowId"]) == lent
        site.server.stop()
        site.start()
    finally:
        site.stop()
