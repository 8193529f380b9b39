"""`berth serve` with fake processes: a copy of the executable in a folder of its own, and beside it
scripts that do what the test tells them, by the file plan-<name>, at each start."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BERTH_BUILD", ROOT / "build"))
NAMES = ("trust", "pool", "borrow", "gateway")

FAKE = """#!%s
import os, signal, socket, sys, time
here = os.path.dirname(os.path.abspath(sys.argv[0]))
name = os.path.basename(sys.argv[0])[len("berth-"):]
def note(what):
    with open(here + "/events", "a") as f:
        f.write(name + " " + what + "\\n")
def tell(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
def stop(signo, frame):
    note("term")
    if plan == "deaf":
        return
    tell("STOPPING=1")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGHUP, lambda s, f: note("hup"))
plan = open(here + "/plan-" + name).read().strip()
note("start %%d %%s %%s" %% (os.getpid(), os.environ.get("BERTH_RPC_POOL"),
                         os.environ.get("BERTH_SERVE_ADMIN_OFF")))
note("args " + " ".join(sys.argv[1:]))
if plan.startswith("refuse"):
    tell("STATUS=" + plan[7:])
    sys.exit(78)
if plan == "mute":
    sys.exit(3)
if plan != "slow":
    tell("READY=1")
while True:
    signal.pause()
""" % sys.executable


def wait_until(condition, seconds=15, what="condition"):
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        pause.wait(0.02)


class Stage:
    def __init__(self, folder):
        self.folder = folder
        shutil.copy(BUILD / "berth", folder / "berth")
        for name in NAMES:
            path = folder / f"berth-{name}"
            path.write_text(FAKE)
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
            self.plan(name, "ready")
        self.config = folder / "c.yaml"
        self.config.write_text(
            "serve: {licenses: {host: 127.0.0.1, port: 4711, tls: {certificate: c, key: k}}}\n"
            "trust: {vendor_ca: ca, server_license: sl}\n")
        # A socket's path is short, and pytest's folders are not.
        self.run_dir = Path(tempfile.mkdtemp(prefix="berth-"))
        self.process = None

    def plan(self, name, what):
        path = self.folder / f"plan-{name}"
        path.with_suffix(".new").write_text(what)
        path.with_suffix(".new").rename(path)

    def start(self, what="all"):
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(
            [self.folder / "berth", "serve", what, "-c", self.config], stdout=self.log,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "XDG_RUNTIME_DIR": str(self.run_dir)})

    def text(self):
        return (self.folder / "log").read_text()

    def events(self, name=None, kind=None):
        path = self.folder / "events"
        lines = [e.split() for e in path.read_text().splitlines()] if path.exists() else []
        return [e for e in lines if (not name or e[0] == name) and (not kind or e[1] == kind)]

    def pid(self, name):
        return int(self.events(name, "start")[-1][2])

    def wait_ready(self):
        wait_until(lambda: "berth is ready" in self.text(), what="ready")

    def wait_starts(self, name, count, seconds=15):
        wait_until(lambda: len(self.events(name, "start")) >= count, seconds,
                   f"{count} starts of {name}")

    def end(self, sig=signal.SIGTERM, seconds=10):
        self.process.send_signal(sig)
        return self.process.wait(seconds)

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        shutil.rmtree(self.run_dir)


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    yield stage
    stage.close()


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_starts_tells_ready_and_stops_in_order(stage):
    stage.start()
    stage.wait_ready()
    assert "berth is ready: https://127.0.0.1:4711" in stage.text()
    starts = stage.events(kind="start")
    assert sorted(e[0] for e in starts) == sorted(NAMES)
    private = {e[3] for e in starts}
    assert len(private) == 1
    folder = Path(private.pop().removeprefix("ipc://")).parent
    assert folder.parent == stage.run_dir
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {e[4] for e in starts} == {"None"}
    assert {tuple(e[2:]) for e in stage.events(kind="args")} == {("-c", str(stage.config))}
    stage.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(stage.events(kind="hup")) == 4, what="all reloaded")
    assert stage.end() == 0
    terms = [e[0] for e in stage.events(kind="term")]
    assert terms[0] == "gateway" and sorted(terms) == sorted(NAMES)
    assert not folder.exists()


def test_interrupt_ends_with_0(stage):
    stage.start()
    stage.wait_ready()
    assert stage.end(signal.SIGINT) == 0


def test_licenses_goes_without_the_admin_listener(stage):
    stage.start("licenses")
    stage.wait_ready()
    assert {e[4] for e in stage.events(kind="start")} == {"1"}
    assert stage.end() == 0


def test_written_rpc_addresses_stay(stage):
    with open(stage.config, "a") as f:
        f.write("rpc: {pool: 'ipc:///x/pool'}\n")
    stage.start()
    stage.wait_ready()
    assert {e[3] for e in stage.events(kind="start")} == {"None"}
    assert stage.end() == 0


@pytest.mark.parametrize("plan, reason", [
    ("refuse no server license in /etc/berth/sl", "no server license in /etc/berth/sl"),
    ("mute", "ended with exit code 3")])
def test_a_refused_start_ends_with_its_reason(stage, plan, reason):
    stage.plan("pool", "slow")
    stage.plan("trust", plan)
    stage.start()
    assert stage.process.wait(10) == 1
    assert f"berth: berth-trust: {reason}" in stage.text()
    assert "berth is ready" not in stage.text()
    for e in stage.events(kind="start"):
        assert gone(int(e[2])), e


def test_a_missing_executable_ends_the_start(stage):
    (stage.folder / "berth-borrow").unlink()
    stage.start()
    assert stage.process.wait(10) == 1
    assert "No such file or directory" in stage.text()


def test_one_that_dies_later_is_restarted(stage):
    stage.start()
    stage.wait_ready()
    for count in (2, 3):
        os.kill(stage.pid("pool"), signal.SIGKILL)
        stage.wait_starts("pool", count)
    assert "ended by signal 9" in stage.text()
    assert "restart_in_ms=100" in stage.text() and "restart_in_ms=200" in stage.text()
    assert len(stage.events("trust", "start")) == 1
    assert stage.process.poll() is None
    assert stage.end() == 0


def test_one_that_refuses_later_is_tried_again_slowly(stage):
    stage.start()
    stage.wait_ready()
    stage.plan("trust", "refuse state cannot be written")
    os.kill(stage.pid("trust"), signal.SIGKILL)
    stage.wait_starts("trust", 2)
    stage.plan("trust", "ready")
    wait_until(lambda: "restart_in_ms=5000" in stage.text(), what="the longest wait")
    assert "state cannot be written" in stage.text()
    stage.wait_starts("trust", 3)
    assert stage.end() == 0


def test_one_that_does_not_stop_is_killed(stage):
    stage.plan("pool", "deaf")
    stage.start()
    stage.wait_ready()
    begin = time.monotonic()
    assert stage.end() == 0
    assert 5 < time.monotonic() - begin < 9
    assert gone(stage.pid("pool"))


def test_stop_while_starting(stage):
    stage.plan("gateway", "slow")
    stage.start()
    stage.wait_starts("gateway", 1)
    assert stage.end() == 0


def test_a_wrong_configuration_refuses_the_start(stage):
    stage.config.write_text("log: {level: loud}\n")
    stage.start()
    assert stage.process.wait(10) == 1
    assert "c.yaml:1: log.level: 'loud' is not debug" in stage.text()
    assert not stage.events()


def run(*arguments):
    return subprocess.run([BUILD / "berth", *arguments], capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize("option, file", [("--reference", "docs/reference/configuration.md"),
                                          ("--sample", "deploy/config.sample.yaml")])
def test_pages_made_from_the_table_are_true(option, file):
    assert run("check-config", option).stdout == (ROOT / file).read_text()


def test_usage():
    for wrong in ([], ["nothing"], ["serve"], ["serve", "some"], ["serve", "all", "-c"],
                  ["check-config"], ["check-config", "a", "b"]):
        done = run(*wrong)
        assert done.returncode == 2 and "usage: berth" in done.stderr, wrong
    for right in (["-h"], ["--version"], ["serve", "-h"], ["check-config", "--help"]):
        done = run(*right)
        assert done.returncode == 0 and "berth" in done.stdout, right


def test_check_config(tmp_path):
    done = run("check-config", ROOT / "deploy/config.sample.yaml")
    assert done.returncode == 0 and done.stdout.endswith("config.sample.yaml: ok\n")
    (tmp_path / "c.yaml").write_text("log: {level: loud}\nx: 1\n")
    done = run("check-config", tmp_path / "c.yaml")
    assert done.returncode == 1
    assert "c.yaml:1: log.level" in done.stderr and "c.yaml:2: x: no such key" in done.stderr
