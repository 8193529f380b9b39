"""The operations guide, "Moving to another machine": its steps, with folders for machines. (That a copy is
refused while the first lives: test_server_license.py.)"""

import contextlib
import datetime
import shutil


def move(site, folder):
    """A copy of all but the backend's own files; nothing stays behind."""
    shutil.copytree(site.folder, folder, symlinks=True,
                    ignore=lambda _, names: [n for n in names if n.startswith("cloud.")])
    for entry in folder.iterdir():
        old = site.folder / entry.name
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    site.folder = folder


def test_after_a_clean_stop_everything_goes_on_elsewhere_at_once(site, tmp_path_factory):
    shutil.rmtree(site.folder / "server-license")
    site.issue_server_license("--addon", "borrow")
    site.license("a", count=3)
    site.start()
    uuid = next(iter(site.listed()))
    until = datetime.datetime.utcnow() + datetime.timedelta(days=2)
    with contextlib.closing(site.client(token=(site.folder / "borrow.token").read_text().strip())) as c:
        session = c.request()["sessionId"]
        borrowed = c.call("BorrowLicenseV1", uuid=uuid, feature="F", hostId="00:11:22:33:44:55",
                          validUntil=until.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert site.server.stop() == 0
    move(site, tmp_path_factory.mktemp("new") / "machine")
    site.start()
    with contextlib.closing(site.client()) as c:
        assert c.revalidate(session)["revalidateWithin"] > 0
        assert [b["borrowId"] for b in c.call("ListBorrowedLicensesV1")] == [borrowed["borrowId"]]
        assert c.request()["sessionId"] != session
