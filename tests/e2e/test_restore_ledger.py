"""berth-vendor restore-ledger: the vendor's way out when a ledger is lost, damaged or refused."""

import pytest
from berth import BUILD, run, vendor
from lending import at_last, borrow, borrower, lender, moment, refused, uuid_of

FILES = ("borrowed.ledger", "borrowed.ledger.sig")


@pytest.fixture
def site(tmp_path, keys):
    """A lender with three borrows; the server is stopped, the backend runs."""
    site = lender(tmp_path, keys)
    site.uuid = uuid_of(site.license("a", count=4))
    site.start()
    client = borrower(site)
    site.lent = [borrow(client, site.uuid, host=f"h{n}", until=moment(days=n + 1))
                 for n in range(3)]
    client.close()
    site.server.stop()
    yield site
    site.stop()


def restore(site, *sources, out=None, server_id=None):
    more = ["--out", out] if out else []
    return vendor("restore-ledger", "--dir", site.keys, "--server-id", server_id or site.server_id,
                  "--from", *sources, *more, check=False)


def forget(site):
    run(BUILD / "berth-cloud", "forget-ledger", site.server_id, "--state", site.folder / "cloud.db")


def install(site, folder):
    for name in FILES:
        (site.folder / "state" / name).write_bytes((folder / name).read_bytes())
    for left in (site.folder / "state").glob("*.next"):
        left.unlink()


def assert_refused(site):
    server = site.spawn_server()
    assert server.wait(20) == 1
    assert "restore-ledger" in server.text()


def test_it_shows_what_is_wrong(site):
    state = site.folder / "state"
    done = restore(site, state)
    assert done.returncode == 0 and "text:      whole" in done.stdout, done
    assert "signature: good" in done.stdout and "provably lent: 3" in done.stdout
    ledger = state / "borrowed.ledger"
    ledger.write_bytes(ledger.read_bytes().replace(b"host-id: h1", b"host-id: h7"))
    done = restore(site, state)
    assert done.returncode == 1 and "altered" in done.stdout
    assert "provably lent: 2" in done.stdout and "1 blocks without a good signature" in done.stdout
    ledger.write_bytes(ledger.read_bytes()[:-100])
    assert "damaged" in restore(site, state).stdout
    (state / "borrowed.ledger.sig").unlink()
    assert "there is no" in restore(site, state).stdout
    assert not (site.folder / "restored").exists()


def test_a_damaged_ledger_is_restored(site):
    ledger = site.folder / "state" / "borrowed.ledger"
    good = ledger.read_bytes()
    ledger.write_bytes(b"garbage\0\xff\n" + good.replace(b"epoch: ", b"epoch; "))
    assert_refused(site)
    out = site.folder / "restored"
    done = restore(site, ledger, out=out)
    assert done.returncode == 0 and "forget-ledger" in done.stdout, done
    # Not before the backend has forgotten the other one.
    install(site, out)
    assert_refused(site)
    forget(site)
    site.start()
    client = borrower(site)
    for lent in site.lent:
        assert client.call("GetBorrowedLicenseV1", borrowId=lent["borrowId"]) == lent
    assert site.listed()[site.uuid]["available"] == 1
    borrow(client, site.uuid, host="h9")
    assert refused(client, site.uuid, host="h10").code == 1007
    # It was taken over: signed with the server's own key, and registered.
    own = (site.folder / "borrow-license" / "server-license.pem").read_bytes()
    assert own in (site.folder / "state" / "borrowed.ledger.sig").read_bytes()
    site.server.stop()
    site.start()
    assert len(at_last(lambda: borrower(site).call("ListBorrowedLicensesV1"))) == 4
    # What was before is refused from now on.
    site.server.stop()
    ledger.write_bytes(good)
    assert_refused(site)


def test_a_lost_ledger_is_restored_from_the_files_of_the_hosts(site):
    from_hosts = site.folder / "from-hosts"
    from_hosts.mkdir()
    for n, lent in enumerate(site.lent[:2]):
        text = lent["license"]
        (from_hosts / f"{n}.dat").write_bytes(
            text.replace("\n", " \r\n").encode() if n else text.encode())
    (from_hosts / "other.txt").write_text("not a license at all\n")
    for name in FILES:
        (site.folder / "state" / name).unlink()
    assert_refused(site)
    out = site.folder / "restored"
    assert "provably lent: 2" in restore(site, from_hosts, out=out).stdout
    forget(site)
    install(site, out)
    site.start()
    client = borrower(site)
    for lent in site.lent[:2]:
        assert client.call("GetBorrowedLicenseV1", borrowId=lent["borrowId"]) == lent


def test_only_what_this_server_has_signed(site, tmp_path):
    forged = site.folder / "forged.dat"
    text = site.lent[0]["license"]
    forged.write_text(text.replace("host-id: h0", "host-id: h8"))
    assert "provably lent: 0" in restore(site, forged, out=tmp_path / "a").stdout
    forged.write_text(text)
    done = restore(site, forged, out=tmp_path / "b", server_id="ANOTHER")
    assert "provably lent: 0; 1 of other servers are left out" in done.stdout
    # The certificate that signed the pair is good for nothing else: it has expired already.
    assert restore(site, forged, out=tmp_path / "c").returncode == 0
    signature = (tmp_path / "c" / "borrowed.ledger.sig").read_text()
    certificate = tmp_path / "cert.pem"
    certificate.write_text(signature[signature.index("-----BEGIN"):].rstrip("#\n") + "\n")
    done = vendor("inspect", certificate, "--ca", site.keys / "vendor-ca.pem", check=False)
    assert done.returncode == 1 and "expired" in done.stdout
    assert not list((tmp_path / "c").glob("*key*"))


def test_usage(site, tmp_path):
    assert restore(site, tmp_path / "none").returncode == 1
    (tmp_path / "x").write_text("x")
    assert restore(site, tmp_path / "x", out=tmp_path / "out").returncode == 0
    done = restore(site, tmp_path / "x", out=tmp_path / "out")  # nothing is overwritten
    assert done.returncode == 1 and "exist" in done.stderr
    assert restore(site, tmp_path / "x", server_id="a b").returncode == 1
    done = vendor("restore-ledger", "--dir", site.keys, "--server-id", "A", check=False)
    assert done.returncode == 2
    done = vendor("inspect", site.folder / "state" / "borrowed.ledger", check=False)
    assert done.returncode == 1 and "restore-ledger" in done.stderr
