"""licenses.md and operations.md, sentence by sentence, where no other file does it."""

import base64
import datetime
import hashlib
import json
import os
import shutil
import signal
import uuid

import pytest
from berth import BUILD, ROOT, Process, RpcError, run, vendor, wait_until
from cryptography.hazmat.primitives import serialization

TOOLS = ("berth", "berth-vendor", "berth-cloud", "berth-gateway", "berth-pool", "berth-trust",
         "berth-borrow")


def utc(days=0, seconds=0):
    moment = datetime.datetime.utcnow() + datetime.timedelta(days=days, seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def signed_block(site, extra=(), **fields):
    """A block as the vendor could make it, also one that its tool refuses to make."""
    lines = {"format": "1", "uuid": str(uuid.uuid4()), "feature": "F", "version": "24.11",
             "edition": "Steady", "modules": "", "count": "1", "server-id": site.server_id,
             "issued": utc(-1)}
    lines.update({k.replace("_", "-"): str(v) for k, v in fields.items()})
    text = "".join(f"{k}: {v}".rstrip() + "\n" for k, v in lines.items())
    text += "".join(line + "\n" for line in extra)
    key = serialization.load_pem_private_key((site.keys / "license-key.key").read_bytes(), None)
    raw = key.public_key().public_bytes(serialization.Encoding.Raw,
                                        serialization.PublicFormat.Raw)
    signature = base64.b64encode(key.sign(b"berth-license-v1\n" + text.encode())).decode()
    return (f"-----BEGIN LICENSE-----\n{text}-----END LICENSE-----\n"
            f"signature: {hashlib.sha256(raw).hexdigest()[:16]} {signature}\n")


def features(site):
    return sorted(row["feature"] for row in site.listed().values())


def log_lines(site, event):
    return [line for line in site.server.text().splitlines() if event in line]


def test_blocks_that_load_and_blocks_that_do_not(site):
    folder = site.license_folder
    two = signed_block(site, feature="A") + "\n# between\n\n" + signed_block(site, feature="B")
    (folder / "license_two.dat").write_bytes(b"\xef\xbb\xbf" + two.encode())
    (folder / "license_crlf.dat").write_bytes(
        signed_block(site, feature="C").replace("\n", " \t\r\n").encode())
    (folder / "license_unknown.dat").write_text(signed_block(site, ["color: red"], feature="D"))
    (folder / "license_must.dat").write_text(signed_block(site, ["must-know: 1"], feature="M"))
    (folder / "license_duplicate.dat").write_text(signed_block(site, ["count: 1"], feature="M"))
    (folder / "license_format.dat").write_text(signed_block(site, feature="M", format=2))
    (folder / "license_zero.dat").write_text(signed_block(site, feature="M", count=0))
    (folder / "license_many.dat").write_text(signed_block(site, feature="M", count=1000001))
    (folder / "other.dat").write_text(signed_block(site, feature="M"))
    (folder / "license_million.dat").write_text(signed_block(site, feature="E", count=1000000))
    site.start()
    assert features(site) == ["A", "B", "C", "D", "E"]
    for name in ("must", "duplicate", "format", "zero", "many"):
        assert [line for line in log_lines(site, "license.refused")
                if f"license_{name}.dat" in line and "reason=" in line], name
    assert "reason=format" in [line for line in log_lines(site, "license.refused")
                               if "license_format.dat" in line][0]


def test_the_newest_takes_over_when_its_time_comes(site):
    name = str(uuid.uuid4())
    site.license("old", count=2, uuid=name, issued=utc(-3))
    site.license("new", count=7, uuid=name, issued=utc(-1), valid_from=utc(seconds=8))
    site.start()
    assert [row["count"] for row in site.listed().values()] == [2]
    wait_until(lambda: [row["count"] for row in site.listed().values()] == [7], 15, "the newest rules")


def test_same_issue_time_the_greater_signature_wins_with_a_warning(site):
    same = {"uuid": str(uuid.uuid4()), "issued": utc(-1)}
    blocks = {count: signed_block(site, count=count, **same) for count in (2, 3)}
    signature = {count: base64.b64decode(text.split()[-1]) for count, text in blocks.items()}
    for count, text in blocks.items():
        (site.license_folder / f"license_{count}.dat").write_text(text)
    site.start()
    assert [row["count"] for row in site.listed().values()] == [max((2, 3), key=signature.get)]
    assert [line for line in site.server.text().splitlines()
            if " warn " in line and same["uuid"] in line]


def test_an_expired_newest_keeps_the_old_one_down(site):
    name = str(uuid.uuid4())
    site.license("old", count=2, uuid=name, issued=utc(-9))
    site.license("new", count=2, uuid=name, issued=utc(-5), valid_until=utc(-1))
    site.start()
    with pytest.raises(RpcError) as refused:
        site.client().request()
    assert refused.value.code == 1001
    assert refused.value.data["considered"][0]["reason"] == "expired", refused.value.data


def test_a_rotated_license_key_and_its_end(site, tmp_path):
    keys = tmp_path / "own-keys"
    shutil.copytree(site.keys, keys)
    site.keys = keys
    site.license("before", feature="Before")
    site.configure(trust__cloud__check_interval="1 s")
    site.start_cloud("--next-check", "1")
    site.start()
    vendor("rotate-license-key", "--dir", keys)
    made = site.license("after", feature="After")
    wait_until(lambda: features(site) == ["After", "Before"], 10, "a license of the new key")
    key_id = made.read_text().split("signature: ")[1].split()[0]
    cloud = [BUILD / "berth-cloud", "revoke-key", key_id, "--state", site.folder / "cloud.db"]
    run(*cloud)
    wait_until(lambda: features(site) == ["Before"], 15, "the key is revoked")
    assert log_lines(site, "revoked-key")
    run(cloud[0], "restore-key", *cloud[2:])
    wait_until(lambda: features(site) == ["After", "Before"], 15, "the key is restored")


def test_a_certificate_from_elsewhere_trusts_no_key(site, tmp_path):
    foreign = tmp_path / "foreign"
    vendor("init", "--dir", foreign)
    vendor("rotate-license-key", "--dir", foreign)
    mine, site.keys = site.keys, foreign
    site.license("foreign", feature="Foreign")
    site.keys = mine
    site.license("good", feature="Good")
    site.start()
    assert features(site) == ["Good"]


def test_log_at_start(site):
    site.license("good", feature="Good")
    (site.license_folder / "license_bad.dat").write_text("nothing\n")
    site.start()
    text = site.server.text()
    version = run(BUILD / "berth", "--version").stdout.split()[1]
    assert f"version={version}" in text and f"config={site.config}" in text
    assert [x for x in log_lines(site, "license.loaded") if "license_good.dat" in x]
    assert [x for x in log_lines(site, "license.refused") if "license_bad.dat" in x]


def test_log_as_json_in_a_file(site):
    site.license("a")
    site.configure(log__format="json", log__file="berth.log")
    site.start_cloud()
    site.spawn_server()
    log = site.folder / "berth.log"
    wait_until(lambda: "server.ready" in log.read_text(), 15, "ready, in the file")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    for row in rows:
        assert {"time", "level", "process", "event"} <= set(row), row
    assert not [row for row in rows if row["event"] == "process.start" and "version" not in row]


def test_what_lies_next_to_the_executable_is_the_default(site):
    programs = site.folder / "opt"
    programs.mkdir()
    for tool in TOOLS:
        shutil.copy2(BUILD / tool, programs / tool)
    site.license("beside", feature="Beside", folder=programs)
    (programs / "license").mkdir()
    site.license("below", feature="Below", folder=programs / "license")
    site.license("not", feature="Not")
    site.configure(licenses__search_paths=None,
                   serve__licenses__tls={"certificate": "../tls.pem", "key": "../tls.key"},
                   trust__server_license="../server-license")
    (programs / "state").mkdir()
    site.config.rename(programs / "config.yaml")
    site.start_cloud()
    site.server = Process([programs / "berth", "serve", "all"], site.folder / "server.log")
    wait_until(lambda: features(site) == ["Below", "Beside"], 15, "serves")
    assert site.server.stop(signal.SIGTERM, 8) == 0
    site.server = None
    assert (programs / "admin.token").exists() and not (site.folder / "admin.token").exists()
    assert (programs / "admin.token").stat().st_mode & 0o777 == 0o600


def test_health_arguments(site):
    site.license("a")
    site.start()
    for name in ("pool", "trust", "borrow", "gateway"):
        for words in (["health"], ["health", "alive"]):
            done = run(BUILD / f"berth-{name}", "-c", site.config, *words, check=False)
            assert done.returncode == 0, (name, words, done.stderr)
    site.server.stop(signal.SIGTERM, 8)
    site.server = None
    for name in ("pool", "trust", "borrow", "gateway"):
        assert run(BUILD / f"berth-{name}", "-c", site.config, "health", check=False).returncode == 1


def test_usage_of_each_tool():
    for tool in TOOLS:
        assert run(BUILD / tool, "--nonsense", check=False).returncode == 2, tool
        assert run(BUILD / tool, "-h").stderr == "", tool


@pytest.mark.parametrize("variable,value", [
    ("BERTH_SESSIONS_REVALIDATION_INTERVAL", "0 s"), ("BERTH_TRUST_CLOUD_GRACE", "5 h"),
    ("BERTH_SERVE_LICENSES_PORT", "65536"), ("BERTH_BORROW_MAX_PERIOD", "8 d"),
    ("BERTH_BORROW_MAX_AHEAD", "43 d"), ("BERTH_LOG_FORMAT", "xml")])
def test_overrides_have_the_same_ranges(site, variable, value):
    site.configure()
    for tool, code in (("berth", 1), ("berth-pool", 78)):
        command = ["check-config", site.config] if tool == "berth" else ["-c", site.config]
        done = run(BUILD / tool, *command, check=False, env={variable: value})
        assert done.returncode == code and variable in done.stderr, done.stderr


def test_borrow_addon_is_the_only_one(keys, tmp_path):
    done = vendor("cloud-license", "--dir", keys, "--server-id", "A", "--cloud-url",
                  "https://localhost:1", "--addon", "fly", "--out", tmp_path / "x", check=False)
    assert done.returncode in (1, 2) and "fly" in done.stderr and not (tmp_path / "x").exists()


def test_cloud_commands(site):
    site.license("a")
    site.start()
    state = ["--state", site.folder / "cloud.db"]
    cloud = BUILD / "berth-cloud"
    assert site.server_id in run(cloud, "list", *state).stdout
    run(cloud, "revoke", site.server_id, *state)
    assert "revoked" in run(cloud, "list", *state).stdout
    run(cloud, "restore", site.server_id, *state)
    assert run(cloud, "forget-ledger", site.server_id, *state).returncode == 0
    for wrong in (["revoke"], ["list", "x"], ["serve"], ["fly"]):
        assert run(cloud, *wrong, *state, check=False).returncode == 2, wrong
    (site.folder / "none").mkdir()
    shutil.copy2(site.keys / "vendor-ca.pem", site.folder / "none")
    done = run(cloud, "serve", "--dir", site.folder / "none", "--listen", "127.0.0.1:0", *state,
               check=False)
    assert done.returncode == 1 and "cloud.pem: No such file or directory" in done.stderr


def test_sample_configuration_is_accepted():
    assert run(BUILD / "berth", "check-config", ROOT / "deploy" / "config.sample.yaml").returncode == 0
    assert os.access(BUILD / "berth", os.X_OK)
