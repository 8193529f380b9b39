"""berth-gateway against fake_backend.c: what the files test_gateway_*.py share."""

import contextlib
import json

import pytest
from berth import BUILD, Client, Process, free_port, make_tls_certificate, wait_until

BORROW_TOKEN = "borrow-token-0123456789"
ADMIN_TOKEN = "admin-token-0123456789"
REQUEST = {"feature": "F", "version": "24.11", "edition": "Steady", "modules": "fc1"}
NONCE = "AAECAwQFBgcICQoLDA0ODw=="


class Gateway:
    def __init__(self, folder, **settings):
        self.folder = folder
        self.port, self.admin_port = free_port(), free_port()
        make_tls_certificate(folder, ("localhost", "lic.example"))
        (folder / "borrow.token").write_text(BORROW_TOKEN + "\n")
        (folder / "admin.token").write_text(ADMIN_TOKEN + "\n")
        for name in ("borrow.token", "admin.token"):
            (folder / name).chmod(0o600)
        self.settings = settings
        self.backend = self.process = None

    def write_config(self):
        tree = {
            "serve": {"licenses": {"host": "127.0.0.1", "port": self.port,
                                   "tls": {"certificate": "tls.pem", "key": "tls.key"}},
                      "admin": {"host": "127.0.0.1", "port": self.admin_port}},
            "trust": {"vendor_ca": "none.pem", "server_license": "none"},  # not the gateway's
            "rpc": {n: f"ipc://{self.folder}/{n}" for n in ("pool", "trust", "borrow")},
        }
        for dotted, value in self.settings.items():
            *groups, last = dotted.split("__")
            node = tree
            for group in groups:
                node = node.setdefault(group, {})
            node[last] = value
        (self.folder / "config.yaml").write_text(json.dumps(tree))

    def start_backend(self):
        self.backend = Process([BUILD / "tests/component/fake_backend", self.folder],
                               self.folder / "backend.log")

    def start(self, env=None):
        self.write_config()
        self.start_backend()
        self.process = Process([BUILD / "berth-gateway", "-c", self.folder / "config.yaml"],
                               self.folder / "gateway.log", env)
        try:
            wait_until(self.ready, 10, "ready")
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.process.text()}") from None
        return self

    def ready(self):
        assert self.process.running(), self.process.text()
        with contextlib.closing(self.admin()) as a:
            return a.http("GET", "/health/ready")[0] == 200

    def client(self, **more):
        return Client(self.port, self.folder / "tls.pem", **more)

    def admin(self, token=None):
        return Client(self.admin_port, self.folder / "tls.pem", path="/admin", token=token)

    def switch(self, what):
        with contextlib.closing(self.admin(ADMIN_TOKEN)) as a:
            a.call("EndSessionV1", sessionId=what)

    def metric(self, line):
        with contextlib.closing(self.admin()) as a:
            text = a.http("GET", "/metrics")[2].decode()
        for row in text.splitlines():
            if row.startswith(line + " "):
                return float(row.split()[-1])
        return 0.0

    def stop(self):
        for p in (self.process, self.backend):
            if p:
                p.stop()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    g = Gateway(tmp_path_factory.mktemp("gateway"),
                serve__licenses__allowed_origins=["portal.example"]).start()
    yield g
    g.stop()


@pytest.fixture
def own(tmp_path):
    """Gateways of a test's own: own(setting=…)."""
    made = []

    def make(env=None, **settings):
        made.append(Gateway(tmp_path, **settings))
        return made[-1].start(env)
    yield make
    for g in made:
        g.stop()


@pytest.fixture
def client(gateway):
    with contextlib.closing(gateway.client()) as c:
        yield c


def single(client, body, headers=None):
    """(status, answer) of a body that is sent as it is."""
    status, _, answer = client.post(body if isinstance(body, bytes) else json.dumps(body).encode(),
                                    headers)
    return status, json.loads(answer) if answer else None


def call(method, params=None, **more):
    body = {"jsonrpc": "2.0", "method": method, **more}
    if params is not None:
        body["params"] = params
    return body


def protection(g):
    with contextlib.closing(g.client()) as c:
        status, headers, body = c.http("GET", "/health/protection")
    assert status == 200 and headers["Content-Type"] == "application/json"
    return json.loads(body)
