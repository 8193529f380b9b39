"""The life of a process under daemon_main, and its operations listener."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from berth import free_port, wait_until

FIXTURE = Path(os.environ["DAEMON_FIXTURE"])


class Daemon:
    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.flag = folder / "ready"
        self.flag.touch()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.notify.settimeout(10)
        self.env = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify"),
                    "FIXTURE_READY": str(self.flag)}
        self.write()
        self.process = None

    def write(self, more=""):
        self.config = self.folder / "c.yaml"
        self.config.write_text(
            "serve: {licenses: {tls: {certificate: c, key: k}}}\n"
            "trust: {vendor_ca: ca, server_license: sl}\n"
            f"ops: {{pool: '127.0.0.1:{self.port}'}}\n{more}\n")

    def start(self, plan=""):
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen([FIXTURE, "-c", self.config], stdout=self.log,
                                        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                        env={**self.env, "FIXTURE_PLAN": plan})

    def text(self):
        return (self.folder / "log").read_text()

    def told(self):
        return self.notify.recv(65536).decode()

    def run(self, *arguments):
        return subprocess.run([FIXTURE, "-c", self.config, *arguments], capture_output=True,
                              text=True, timeout=20, env=self.env)

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as r:
                return r.status, r.headers, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.headers, e.read().decode()

    def reload(self, sign):
        before = self.text().count(sign)
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.text().count(sign) > before, what=sign)

    def end(self, sig=signal.SIGTERM):
        self.process.send_signal(sig)
        return self.process.wait(10)

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.notify.close()


@pytest.fixture
def daemon(tmp_path):
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.close()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_ready_and_stopped(daemon, sig):
    daemon.start()
    assert daemon.told() == "READY=1"
    assert daemon.end(sig) == 0
    assert daemon.told() == "STOPPING=1"
    text = daemon.text()
    assert "process.start" in text and f"config={daemon.config}" in text and "version=" in text


def test_ready_is_told_when_it_is_true(daemon):
    daemon.flag.unlink()
    daemon.start()
    wait_until(lambda: "process.start" in daemon.text(), what="start")
    wait_until(lambda: daemon.run("health", "alive").returncode == 0, what="alive")
    done = daemon.run("health")
    assert done.returncode == 1
    assert done.stderr == 'not ready: file: the "file" is not there\n'
    daemon.notify.setblocking(False)
    with pytest.raises(BlockingIOError):
        daemon.told()
    daemon.notify.settimeout(10)
    daemon.flag.touch()
    assert daemon.told() == "READY=1"
    assert daemon.run("health").returncode == 0
    assert daemon.end() == 0
    assert "not reachable" in daemon.run("health").stderr


def test_operations(daemon):
    daemon.start()
    assert daemon.told() == "READY=1"
    status, headers, body = daemon.get("/health/alive")
    assert status == 200 and json.loads(body) == {"alive": True}
    status, headers, body = daemon.get("/health/ready")
    assert status == 200
    assert json.loads(body) == {"ready": True, "conditions": [
        {"name": "always", "ok": True, "reason": ""}, {"name": "file", "ok": True, "reason": ""}]}
    daemon.flag.unlink()
    status, headers, body = daemon.get("/health/ready")
    assert status == 503 and json.loads(body)["ready"] is False
    assert json.loads(body)["conditions"][1]["reason"] == 'the "file" is not there'
    status, headers, body = daemon.get("/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "berth_build_info{" in body and "# HELP berth_fixture_total" in body
    assert daemon.get("/other")[0] == 404
    assert daemon.end() == 0


def test_refused_start(daemon):
    daemon.start("refuse")
    assert daemon.process.wait(10) == 78
    assert "berth-fixture: no license" in daemon.text()
    assert daemon.told() == "STATUS=no license looked in /x"


def test_refused_configuration(daemon):
    daemon.write("log: {level: loud}")
    daemon.start()
    assert daemon.process.wait(10) == 78
    assert "c.yaml:4: log.level" in daemon.text()
    assert daemon.told().startswith("STATUS=")
    daemon.write("log: {file: no/such/folder}")
    daemon.start()
    assert daemon.process.wait(10) == 78
    assert "log.file" in daemon.text()


def test_taken_port_ends_with_1(daemon):
    with socket.socket() as s:
        s.bind(("127.0.0.1", daemon.port))
        s.listen()
        daemon.start()
        assert daemon.process.wait(10) == 1


def test_fails_while_running(daemon):
    daemon.start("fail")
    assert daemon.process.wait(10) == 78
    told = daemon.told()
    assert "STATUS=the state cannot be written" in (told, daemon.told() if "READY" in told else "")


def test_stops_within_5_s_whatever_the_service_does(daemon):
    daemon.start("deaf")
    assert daemon.told() == "READY=1"
    begin = time.monotonic()
    assert daemon.end() == 0
    assert 4 < time.monotonic() - begin < 8


def test_reload(daemon):
    daemon.start()
    assert daemon.told() == "READY=1"
    daemon.write("log: {format: json}")
    daemon.reload("config.reloaded")
    wait_until(lambda: '"event":"config.reloaded"' in daemon.text(), what="json")
    for more, message in (("log: {level: loud}", "is not debug"),
                          ("sessions: {state_dir: x}", "sessions.state_dir cannot be changed"),
                          ("sessions: {max_per_client: 13}", "thirteen is not possible")):
        daemon.write(more)
        daemon.reload("config.refused")
        assert message in daemon.text()
    assert daemon.end() == 0


def test_rotated_log(daemon):
    daemon.write("log: {file: x.log}")
    daemon.start()
    assert daemon.told() == "READY=1"
    (daemon.folder / "x.log").rename(daemon.folder / "x.log.1")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until((daemon.folder / "x.log").exists, what="a new file")
    assert daemon.end() == 0
    assert "process.stopped" in (daemon.folder / "x.log").read_text()


def test_usage():
    for wrong in (["x"], ["-c"], ["alive"], ["-c", "a", "-c", "b"]):
        done = subprocess.run([FIXTURE, *wrong], capture_output=True, text=True, timeout=20)
        assert done.returncode == 2 and "usage: berth-fixture" in done.stderr, wrong
    for right in (["-h"], ["--help"], ["--version"]):
        done = subprocess.run([FIXTURE, *right], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0 and "berth-fixture" in done.stdout, right


def test_ends_when_its_supervisor_is_killed(daemon):
    code = ("import os, subprocess, sys\n"
            "os.environ['BERTH_SUPERVISED'] = str(os.getpid())\n"
            "p = subprocess.Popen(sys.argv[1:])\n"
            "print(p.pid, flush=True)\n"
            "p.wait()\n")
    supervisor = subprocess.Popen([sys.executable, "-c", code, FIXTURE, "-c", daemon.config],
                                  stdout=subprocess.PIPE, text=True, env=daemon.env)
    supervisor.stdout.readline()
    assert daemon.told() == "READY=1"
    supervisor.kill()
    supervisor.wait()
    assert daemon.told() == "STOPPING=1"
    # The port is free again: it has gone.
    wait_until(lambda: "not reachable" in daemon.run("health", "alive").stderr, what="gone")
    supervisor.stdout.close()


def test_ends_with_its_supervisor(daemon):
    """What is started by a supervisor that has gone already does not stay."""
    daemon.env["BERTH_SUPERVISED"] = "1" if os.getpid() != 1 else "2"
    daemon.start()
    assert daemon.process.wait(10) == 1
