"""[L1] to [L4]."""

import os
import re

import pytest
from berth import RpcError, wait_until


@pytest.fixture
def running(site):
    site.license("first", count=1, uuid="11111111-1111-4111-8111-111111111111")
    return site.start()


FIRST = "11111111-1111-4111-8111-111111111111"
SECOND = "22222222-2222-4222-8222-222222222222"


def test_l1_every_matching_file_is_loaded_at_start(site):
    site.license("a", feature="A")
    site.license("b", feature="B")
    (site.license_folder / "other.dat").write_text((site.license_folder / "license_a.dat")
                                                   .read_text().replace("A", "A"))
    site.start()
    assert sorted(i["feature"] for i in site.listed().values()) == ["A", "B"]


def test_l1_new_changed_and_removed_files_are_picked_up(running):
    running.license("second", uuid=SECOND)
    wait_until(lambda: SECOND in running.listed(), 2.5, "new file")
    (running.license_folder / "license_second.dat").unlink()
    wait_until(lambda: SECOND not in running.listed(), 2.5, "file gone")


def test_l1_replaced_by_rename(running, tmp_path):
    new = running.license("new", count=7, uuid=FIRST, folder=tmp_path, issued="2030-01-01T00:00:00Z")
    os.replace(new, running.license_folder / "license_first.dat")
    wait_until(lambda: running.listed()[FIRST]["count"] == 7, 2.5, "replaced by rename")


def test_l1_replaced_by_symlink_swap(site, tmp_path):
    # As Kubernetes mounts a config map: license_x.dat → ..data/license_x.dat, ..data → a folder.
    for n, count in ((1, 3), (2, 4)):
        folder = site.license_folder / f"..v{n}"
        folder.mkdir()
        site.license("x", count=count, uuid=FIRST, folder=folder, issued=f"2026-01-0{n}T00:00:00Z")
    data = site.license_folder / "..data"
    data.symlink_to("..v1")
    (site.license_folder / "license_x.dat").symlink_to("..data/license_x.dat")
    site.start()
    assert site.listed()[FIRST]["count"] == 3
    swap = site.license_folder / "..data_tmp"
    swap.symlink_to("..v2")
    os.replace(swap, data)
    wait_until(lambda: site.listed()[FIRST]["count"] == 4, 2.5, "symlink swapped")


def damaged(text, how):
    block = re.search(r"-----BEGIN LICENSE-----\n(.*?)-----END", text, re.S).group(1)
    lines = block.splitlines(keepends=True)
    return {
        "count": text.replace("count: 5", "count: 50"),
        "reordered": text.replace(block, "".join(lines[:1] + lines[2:3] + lines[1:2] + lines[3:])),
        "cut": text[:text.index("-----END LICENSE")],
        "unsigned": re.sub(r"signature:.*", "", text),
        "signature": re.sub(r"(signature: \w+ )(.)", lambda m: m[1] + ("B" if m[2] == "A" else "A"),
                            text),
        "binary": "\x00" + text,
        "latin1": None,
        "empty": "",
        "no block": "server=https://localhost:22022\n",
        "format": text.replace("format: 1", "format: 2"),
        "added key": text.replace("count: 5", "count: 5\nnote: hello"),
    }[how]


@pytest.mark.parametrize("how", ["count", "reordered", "cut", "unsigned", "signature", "binary",
                                 "latin1", "format", "added key", "empty", "no block"])
def test_l2_a_damaged_file_is_refused_and_the_others_load(site, how):
    path = site.license("bad", feature="Bad")
    text = damaged(path.read_text(), how)
    path.write_bytes(text.encode() if text is not None else path.read_bytes() + b"# \xe9\n")
    site.license("good", feature="Good")
    site.start()
    assert [i["feature"] for i in site.listed().values()] == ["Good"]
    line = wait_until(lambda: [x for x in site.server.text().splitlines()
                               if "license.refused" in x and "license_bad.dat" in x], 3, "log")
    assert "reason=" in line[0]
    assert ("reason=format " in line[0]) == (how == "format")
    metrics = wait_until(lambda: __import__("urllib.request").request.urlopen(
        f"http://127.0.0.1:{site.ops['pool']}/metrics").read().decode(), 3, "metrics")
    assert re.search(r'^berth_\w*refused\w*\{[^}]*reason="[a-z-]+"[^}]*\} [1-9]', metrics, re.M), metrics


def test_l2_a_license_for_another_server_is_refused(site):
    site.license("foreign", feature="Foreign", server_id="OTHER-1")
    site.license("good", feature="Good")
    site.start()
    assert [i["feature"] for i in site.listed().values()] == ["Good"]
    with pytest.raises(RpcError) as refused:
        site.client().request(feature="Foreign")
    assert refused.value.code == 1001


def test_l2_expired_licenses_load_and_serve_nothing(site):
    site.license("old", uuid=FIRST, valid_from="2020-01-01T00:00:00Z",
                 valid_until="2021-01-01T00:00:00Z", issued="2020-01-01T00:00:00Z")
    site.start()
    assert FIRST in site.listed()
    with pytest.raises(RpcError) as refused:
        site.client().request()
    assert refused.value.code == 1001
    assert refused.value.data["considered"][0]["reason"] == "expired"


def test_l3_newest_of_one_identity_wins_whatever_the_order(site):
    for name, count, issued in (("a", 3, "2026-03-01T00:00:00Z"), ("b", 1, "2026-01-01T00:00:00Z"),
                                ("z", 2, "2026-02-01T00:00:00Z")):
        site.license(name, count=count, uuid=FIRST, issued=issued)
    site.license("other", feature="Other", count=9, uuid=FIRST)  # same UUID, another feature: apart
    site.start()
    client = site.client()
    counts = sorted((i["feature"], i["count"]) for i in client.licenses())
    assert counts == [("F", 3), ("Other", 9)]


def test_l4_the_server_line_can_be_edited(site):
    path = site.license("a")
    text = path.read_text()
    assert re.search(r"^server=https://\S+", text, re.M)
    path.write_text(re.sub(r"^server=.*$", "server=https://elsewhere.example.com:22022\n"
                           "server=https://second.example.com:22022", text, flags=re.M))
    site.start()
    assert len(site.listed()) == 1


def test_an_editor_that_writes_crlf_and_blanks_does_no_harm(site):
    path = site.license("a")
    path.write_bytes(b"\xef\xbb\xbf" + b"".join(line.rstrip(b"\n") + b"  \r\n" for line in
                                                path.read_bytes().splitlines(keepends=True)))
    site.start()
    assert len(site.listed()) == 1
