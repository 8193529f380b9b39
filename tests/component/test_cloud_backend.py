"""berth-cloud under many servers, killed, full, and as those see it who run it."""

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import urllib.error
import urllib.request

import pytest
from berth import BUILD, free_port, run, wait_until
from trust_place import place  # noqa: F401 (a fixture)

SERVERS = BUILD / "tests/component/cloud_servers"


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def metric(port, name):
    found = re.search(rf"^{re.escape(name)} (\S+)$", get(port, "/metrics")[1], re.M)
    return float(found.group(1)) if found else None


def crowd(place, servers, rounds, threads=16):  # noqa: F811
    process = subprocess.Popen([SERVERS, place.keys, f"https://localhost:{place.port}", str(servers),
                                str(rounds), str(threads)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def outcome(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[:2000]
    return json.loads(out)


def test_a_thousand_servers_check_in(place):  # noqa: F811
    ops = free_port()
    place.cloud("--ops", f"127.0.0.1:{ops}")
    result = outcome(crowd(place, 1000, 1))
    assert result["checks"] == 1000 and result["failures"] == 0 and result["retries"] == 0, result
    assert metric(ops, 'berth_cloud_servers{status="in use"}') == 1000
    assert metric(ops, "berth_cloud_ledger_heads") == 1000
    assert metric(ops, 'berth_cloud_requests_total{method="validate",outcome="ok"}') == 1000
    commits = metric(ops, "berth_cloud_commit_duration_seconds_count")
    assert 0 < commits <= 1000
    assert len([line for line in place.command("list").splitlines() if " in use " in line]) == 1000


def test_killed_and_restarted_it_knows_everything(place):  # noqa: F811
    """Each server goes on with the token and the ledger that it has, also with those of an answer that
    was lost. None is refused: nothing that was answered is forgotten."""
    place.cloud()
    process = crowd(place, 40, 15)
    for _ in range(4):
        wait_until(lambda: process.poll() is not None or place.command("list").count("in use") == 40, 30,
                   "all have checked in")
        place.cloud_process.stop(signal.SIGKILL)
        place.cloud()
    result = outcome(process)
    assert result["checks"] == 40 * 15 and result["failures"] == 0 and result["retries"] > 0, result
    place.cloud_process.stop(signal.SIGKILL)
    listed = place.command("list")
    assert len(re.findall(r"^MANY-\d+ .* 15 [0-9a-f]{64}$", listed, re.M)) == 40, listed


def strace_works():
    return shutil.which("strace") and subprocess.run(["strace", "-o", "/dev/null", "true"],
                                                     capture_output=True).returncode == 0


@pytest.mark.skipif(not strace_works(), reason="strace may not trace here")
def test_disk_that_fails(place):  # noqa: F811
    """A write that is not known to be on disk is not answered: the process ends, and starts again from
    what is there. No server is refused afterwards."""
    place.cloud()
    place.stop_cloud()
    process = crowd(place, 20, 10, 8)
    deaths = 0
    for when in (1, 2, 5, 9):
        strace = ["strace", "-f", "-o", place.folder / "trace", "-e", "trace=fdatasync,fsync", "-e",
                  f"inject=fdatasync,fsync:error=EIO:when={when}+"]
        failing = place.process(
            [*strace, BUILD / "berth-cloud", "serve", "--dir", place.keys / "cloud", "--listen",
             f"127.0.0.1:{place.port}", "--state", place.state], place.folder / "failing.log")
        wait_until(lambda p=failing: not p.running() or process.poll() is not None, 60, "it ends")
        if process.poll() is not None:
            failing.stop(signal.SIGKILL)
            break
        assert failing.wait() == 1, failing.text()
        deaths += 1
    assert deaths >= 2 and "cloud.state-failed" in (place.folder / "failing.log").read_text()
    place.cloud()
    result = outcome(process)
    assert result["checks"] == 200 and result["failures"] == 0, result


def test_state_of_an_earlier_version(place):  # noqa: F811
    """What it says still counts; new columns are added."""
    db = sqlite3.connect(place.state)
    db.executescript(
        "CREATE TABLE servers(server_id TEXT PRIMARY KEY, held INTEGER NOT NULL, current BLOB NOT NULL,"
        " previous BLOB, last_seen_s INTEGER NOT NULL, ledger_sequence INTEGER, ledger_hash TEXT)"
        " WITHOUT ROWID;")
    db.execute("INSERT INTO servers VALUES('MANY-0000', 0, zeroblob(32), NULL, 5, 7, ?)", ["a" * 64])
    db.execute("INSERT INTO servers VALUES('OLD', 1, zeroblob(32), NULL, 5, NULL, NULL)")
    db.commit()
    db.close()
    place.cloud()
    process = crowd(place, 1, 1)  # says that its ledger is the first one
    assert "ledger-rollback" in process.communicate(timeout=60)[1] and process.returncode == 1
    place.command("forget-ledger", "MANY-0000")
    assert outcome(crowd(place, 1, 1))["checks"] == 1
    listed = place.command("list")
    assert re.search(r"^OLD +silent", listed, re.M) and re.search(r"^MANY-0000 +in use .* 1 ", listed, re.M)


def test_health_and_metrics(place):  # noqa: F811
    ops = free_port()
    place.cloud("--ops", f"127.0.0.1:{ops}")
    assert get(ops, "/health/alive")[0] == 200
    status, text = get(ops, "/health/ready")
    assert status == 200 and {c["name"] for c in json.loads(text)["conditions"]} == {"state",
                                                                                      "certificate"}
    assert metric(ops, "berth_cloud_certificate_expiry_seconds") > 86400
    checked = subprocess.run(["promtool", "check", "metrics"], input=get(ops, "/metrics")[1], text=True,
                             capture_output=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    health = [BUILD / "berth-cloud", "health", "--ops", f"127.0.0.1:{ops}"]
    assert run(*health).returncode == 0
    # To servers it says only that it is alive.
    for path, expected in (("/metrics", "404"), ("/health/ready", "404"), ("/health/alive", "200")):
        done = run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert",
                   place.keys / "vendor-ca.pem", f"https://localhost:{place.port}{path}")
        assert done.stdout == expected, path
    place.stop_cloud()
    assert run(*health, check=False).returncode == 1
    assert run(BUILD / "berth-cloud", "health", check=False).returncode == 2
