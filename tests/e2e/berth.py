"""What the end-to-end tests share: real keys, real binaries, a real TLS client.

A Site is one installation in a folder of its own: vendor keys, backend, server license, license
files, configuration, and the processes. Nothing sleeps: wait_until() waits for a condition and fails
with what it last saw."""

import contextlib
import datetime
import fcntl
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from http.client import HTTPSConnection
from pathlib import Path
from urllib.request import urlopen

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BERTH_BUILD", ROOT / "build"))
SERVICES = ("trust", "pool", "borrow", "gateway")


class Gone(Exception):
    """A process that was waited for has ended: no use to wait on."""


def wait_until(condition, seconds=10, what="condition"):
    """Calls condition() until it returns something true; that is returned."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    last = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (OSError, AssertionError, ssl.SSLError, KeyError) as e:
            last = e
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s; last: {last!r}")
        pause.wait(0.03)


DEFAULT_PORTS = range(22020, 22040)
# Below those that the kernel gives to connections; whoever takes one locks a byte of this file.
_ports = random.sample(range(10000, min(32000, int(Path("/proc/sys/net/ipv4/ip_local_port_range")
                                                   .read_text().split()[0]))), 10000)
_ports_file = os.open(f"{tempfile.gettempdir()}/berth-test-ports-{os.getuid()}", os.O_RDWR | os.O_CREAT, 0o600)


def free_port():
    """A port that nobody listens at, and that no other process of the tests is given while this one lives."""
    while True:
        port = _ports.pop()
        if port in DEFAULT_PORTS:
            continue
        try:
            fcntl.lockf(_ports_file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind(("127.0.0.1", port))
            return port
        except OSError:
            pass


def make_tls_certificate(folder, names=("localhost",), stem="tls"):
    """A self-signed server certificate for the names and 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.utcnow()
    import ipaddress
    san = [x509.DNSName(n) for n in names] + [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.SubjectAlternativeName(san), False)
            .add_extension(x509.BasicConstraints(True, None), True)
            .sign(key, hashes.SHA256()))
    (folder / f"{stem}.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (folder / f"{stem}.key").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()))


def run(*command, check=True, env=None):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
    if check and done.returncode:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def vendor(*arguments, check=True):
    return run(BUILD / "berth-vendor", *arguments, check=check)


class RpcError(Exception):
    def __init__(self, error):
        super().__init__(json.dumps(error))
        self.code = error["code"]
        self.message = error["message"]
        self.data = error.get("data", {})


class Client:
    """A JSON-RPC client on one keep-alive connection."""

    def __init__(self, port, ca, path="/licenses", token=None, timeout=10):
        self.context = ssl.create_default_context(cafile=str(ca))
        self.port, self.path, self.token, self.timeout = port, path, token, timeout
        self.connection = None
        self.next_id = 0

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def open_socket(self):
        """Of one connection; other ways to a server are subclasses."""
        return socket.create_connection(("localhost", self.port), self.timeout)

    def http(self, method, path, body=None, headers=None):
        """(status, headers, body) of one request; reconnects once if the connection was closed."""
        for attempt in (0, 1):
            if not self.connection:
                self.connection = HTTPSConnection("localhost", self.port, timeout=self.timeout,
                                                  context=self.context)
                self.connection._create_connection = lambda *_: self.open_socket()
            try:
                self.connection.request(method, path, body, headers or {})
                answer = self.connection.getresponse()
                return answer.status, dict(answer.getheaders()), answer.read()
            except (ConnectionError, ssl.SSLError, OSError) as e:
                self.close()
                if attempt or isinstance(e, TimeoutError):
                    raise
            except Exception:
                self.close()
                if attempt:
                    raise
        raise AssertionError("unreachable")

    def post(self, body, headers=None):
        head = {"Content-Type": "application/json"}
        if self.token:
            head["Authorization"] = f"Bearer {self.token}"
        head.update(headers or {})
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return self.http("POST", self.path, body, head)

    def call(self, method, **params):
        self.next_id += 1
        _, _, body = self.post({"jsonrpc": "2.0", "id": self.next_id, "method": method,
                                "params": params})
        answer = json.loads(body)
        assert answer["jsonrpc"] == "2.0" and answer["id"] == self.next_id, answer
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]

    def request(self, feature="F", version="24.11", edition="Steady", modules="", **more):
        return self.call("RequestSessionV1", feature=feature, version=version, edition=edition,
                         modules=modules, **more)

    def revalidate(self, session):
        return self.call("RevalidateSessionV1", sessionId=session)

    def give_back(self, session):
        return self.call("ReturnSessionV1", sessionId=session)

    def licenses(self):
        return self.call("ListLicensesV1")


class Process:
    """A child in a session of its own, its output in a file."""

    def __init__(self, command, log, env=None):
        self.log = Path(log)
        self.file = open(self.log, "ab")
        self.popen = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL,
                                      stdout=self.file, stderr=subprocess.STDOUT,
                                      start_new_session=True, env={**os.environ, **(env or {})})

    @property
    def pid(self):
        return self.popen.pid

    def text(self):
        return self.log.read_text(errors="replace")

    def running(self):
        return self.popen.poll() is None

    def wait(self, seconds=10):
        return self.popen.wait(seconds)

    def stop(self, sig=signal.SIGTERM, seconds=10):
        if self.running():
            os.kill(self.pid, sig)
        try:
            return self.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait()
            raise AssertionError(f"did not stop within {seconds} s:\n{self.text()[-3000:]}")
        finally:
            self.file.close()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


class Site:
    server_id = "BERTH-TEST-0001"

    def __init__(self, folder, keys):
        self.folder, self.keys = Path(folder), Path(keys)
        self.port, self.admin_port, self.cloud_port = free_port(), free_port(), free_port()
        self.ops = {name: free_port() for name in ("pool", "trust", "borrow")}
        self.license_folder = self.folder / "license"
        self.license_folder.mkdir()
        (self.folder / "state").mkdir()
        self.rpc = self.folder / "rpc"
        make_tls_certificate(self.folder)
        self.cloud = self.server = None
        self.services = {}
        self.settings = {}
        self.issue_server_license()

    # -- making things --

    def issue_server_license(self, *arguments, out="server-license"):
        vendor("cloud-license", "--dir", self.keys, "--server-id", self.server_id, "--cloud-url",
               f"https://localhost:{self.cloud_port}", "--out", self.folder / out, *arguments)

    def license(self, name, feature="F", version="24.11", edition="Steady", modules="", count=5,
                server_id=None, folder=None, **more):
        """Issues license_<name>.dat; more: uuid, issued, valid_from, valid_until. Returns the path."""
        path = (folder or self.license_folder) / f"license_{name}.dat"
        arguments = []
        for key, value in more.items():
            arguments += ["--" + key.replace("_", "-"), value]
        vendor("license", "--dir", self.keys, "--server-id", server_id or self.server_id,
               "--feature", feature, "--version", version, "--edition", edition, "--modules",
               modules, "--count", count, "--out", path, *arguments)
        return path

    def configure(self, **settings):
        """Dotted keys with __ for the dots: sessions__revalidation_interval='2 s'."""
        self.settings.update(settings)
        tree = {
            "serve": {
                "licenses": {"host": "127.0.0.1", "port": self.port,
                             "tls": {"certificate": "tls.pem", "key": "tls.key"}},
                "admin": {"host": "127.0.0.1", "port": self.admin_port}},
            "licenses": {"search_paths": ["license"]},
            "sessions": {"state_dir": "state"},
            "trust": {"vendor_ca": str(self.keys / "vendor-ca.pem"), "state_dir": "state",
                      "server_license": "server-license"},
            "borrow": {"directory": "state"},
            "ops": {name: f"127.0.0.1:{port}" for name, port in self.ops.items()},
        }
        for dotted, value in self.settings.items():
            *groups, last = dotted.split("__")
            node = tree
            for group in groups:
                node = node.setdefault(group, {})
            if value is None:
                node.pop(last, None)
            else:
                node[last] = value
        self.config.write_text(json.dumps(tree, indent=1))

    @property
    def config(self):
        return self.folder / "config.yaml"

    # -- processes --

    def start_cloud(self, *arguments):
        self.cloud = Process([BUILD / "berth-cloud", "serve", "--dir", self.keys / "cloud",
                              "--listen", f"127.0.0.1:{self.cloud_port}", "--state",
                              self.folder / "cloud.db", *arguments], self.folder / "cloud.log")
        wait_until(lambda: socket.create_connection(("127.0.0.1", self.cloud_port), 1).close() or
                   True, what="backend listens")

    def stop_cloud(self):
        if self.cloud:
            self.cloud.stop()
            self.cloud = None

    def spawn_server(self, env=None, what="all"):
        if not self.config.exists():
            self.configure()
        self.server = Process([BUILD / "berth", "serve", what, "-c", self.config],
                              self.folder / "server.log", env)
        return self.server

    def start(self, env=None):
        """Backend and `berth serve all`, until ready."""
        if not self.cloud:
            self.start_cloud()
        self.spawn_server(env)
        self.wait_ready()
        return self

    def wait_ready(self, seconds=15):
        def ready():
            if self.server and not self.server.running():
                raise Gone(self.server.text()[-4000:])
            with contextlib.closing(self.admin()) as admin:
                if admin.http("GET", "/health/ready")[0] != 200:
                    return False
            for port in self.ops.values():
                if urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5).status != 200:
                    return False
            return not self.server or "server.ready" in self.server.text()
        try:
            wait_until(ready, seconds, "server ready")
        except AssertionError as e:
            log = self.server.text()[-4000:] if self.server else ""
            raise AssertionError(f"{e}\n{log}") from None

    def child(self, name):
        """The process id of one of the four under the supervisor."""
        done = subprocess.run(["pgrep", "-P", str(self.server.pid), "-f", f"berth-{name}"],
                              capture_output=True, text=True)
        pids = done.stdout.split()
        assert len(pids) == 1, f"{name}: {pids}"
        return int(pids[0])

    def stop(self):
        problems = []
        for process in [*self.services.values(), self.server, self.cloud]:
            if process:
                try:
                    process.stop()
                except AssertionError as e:
                    problems.append(str(e))
        self.server = self.cloud = None
        self.services = {}
        assert not problems, problems

    # -- clients --

    def client(self, **more):
        return Client(self.port, self.folder / "tls.pem", **more)

    def admin(self, token=None):
        return Client(self.admin_port, self.folder / "tls.pem", path="/admin", token=token)

    def admin_token(self):
        return (self.folder / "admin.token").read_text().strip()

    def protection(self):
        with contextlib.closing(self.client()) as c:
            return json.loads(c.http("GET", "/health/protection")[2])

    def berth(self, *arguments, check=True):
        return run(BUILD / "berth", *arguments, check=check)

    def listed(self):
        """uuid → LicenseInfo of all that is loaded."""
        with contextlib.closing(self.client()) as c:
            return {info["uuid"]: info for info in c.licenses()}
