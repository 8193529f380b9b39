"""What the tests of berth-trust with berth-cloud share: a vendor with a backend, and hosts."""

import contextlib
import json
import re
import shutil
import signal
import urllib.request

import pytest
from berth import BUILD, Process, free_port, make_tls_certificate, run, vendor, wait_until

SERVER = "BERTH-COMP-1"


class Place:
    """Vendor keys, a backend, and hosts that run trust."""

    def __init__(self, folder):
        self.folder = folder
        self.keys = folder / "keys"
        vendor("init", "--dir", self.keys)
        self.port = free_port()
        self.state = folder / "cloud.db"
        self.issue("server-license")
        self.cloud_process = None
        self.processes = []

    def issue(self, out, *more, server=SERVER):
        vendor("cloud-license", "--dir", self.keys, "--server-id", server, "--cloud-url",
               f"https://localhost:{self.port}", "--out", self.folder / out, *more)

    def process(self, command, log, env=None):
        process = Process(command, log, env)
        self.processes.append(process)
        return process

    def cloud(self, *more, keys=None, env=None):
        log = self.folder / "cloud.log"
        log.unlink(missing_ok=True)
        self.cloud_process = self.process(
            [BUILD / "berth-cloud", "serve", "--dir", (keys or self.keys) / "cloud", "--listen",
             f"127.0.0.1:{self.port}", "--state", self.state, *more], log, env)
        wait_until(lambda: "cloud.listening" in self.cloud_process.text(), what="backend")

    def command(self, *words):
        return run(BUILD / "berth-cloud", *words, "--state", self.state).stdout

    def stop_cloud(self):
        self.cloud_process.stop()

    def stop(self):
        for process in self.processes:
            with contextlib.suppress(AssertionError, ValueError):
                if process.running():
                    process.stop(signal.SIGKILL)


class Host:
    """One host with its own state folder; `license` may be a copy of another's."""

    def __init__(self, place, name="host", license_dir="server-license", **cloud):
        self.place, self.folder = place, place.folder / name
        self.folder.mkdir()
        self.ops = free_port()
        shutil.copytree(place.folder / license_dir, self.folder / "server-license")
        settings = {"check_interval": "1 s", "grace": "4 h", **cloud}
        self.config = self.folder / "config.yaml"
        make_tls_certificate(self.folder)
        self.config.write_text(json.dumps({
            "serve": {"licenses": {"tls": {"certificate": "tls.pem", "key": "tls.key"}}},
            "trust": {"vendor_ca": str(place.keys / "vendor-ca.pem"),
                      "state_dir": "state", "server_license": "server-license",
                      "cloud": settings},
            "rpc": {"trust": f"ipc://{self.folder}/trust.sock"},
            "ops": {"trust": f"127.0.0.1:{self.ops}"}}))
        self.process = None
        self.env = {}

    def spawn(self):
        self.process = self.place.process([BUILD / "berth-trust", "-c", self.config],
                                          self.folder / "trust.log", self.env)
        return self.process

    def start(self):
        self.spawn()
        wait_until(lambda: self.died() or self.state() == "valid", what="trust valid")
        return self

    def died(self):
        if not self.process.running():
            pytest.fail("trust ended: " + self.process.text())

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ops}{path}", timeout=5) as answer:
            return answer.read().decode()

    def state(self):
        found = re.search(r'^berth_verdict_state\{state="(\w+)"\} 1$', self.get("/metrics"), re.M)
        return found and found.group(1)

    def metric(self, name):
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics"), re.M)
        return float(found.group(1)) if found else 0.0

    def becomes(self, state, seconds=10):
        wait_until(lambda: self.state() == state, seconds, f"verdict {state}")

    def logged(self, text, seconds=10):
        wait_until(lambda: text in self.process.text(), seconds, f"{text} in the log")

    def refused_start(self):
        process = self.spawn()
        assert process.wait(20) == 1, process.text()
        text = process.text()
        assert SERVER in text and str(self.folder) in text and str(self.place.port) in text, text
        return text


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.stop()
