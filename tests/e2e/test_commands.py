"""berth status, licenses, sessions and check-license against a server that answers as told."""

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from berth import BUILD, free_port, make_tls_certificate, run, vendor

LICENSES = [
    {"feature": "MVTec_HALCON", "uuid": "3c2d8f6e-0b7a-4f1e-9a52-6f0f4c1f3a77", "version": "24.11",
     "edition": "Steady", "modules": "fc12d", "count": 5, "available": 3,
     "validUntil": "2027-11-24T00:00:00Z"},
    {"feature": "MVTec_HDevelop", "uuid": "7c2d8f6e-0b7a-4f1e-9a52-6f0f4c1f3a77", "version": "25.05",
     "edition": "Progress", "modules": "", "count": 2, "available": 1,
     "borrowedIntervals": [{"validFrom": "2026-11-24T00:00:00Z", "validUntil": "2026-11-25T00:00:00Z",
                            "hostId": "h"}]}]
SESSIONS = [{"sessionId": "abcdefghijklmnop", "license": {"feature": "MVTec_HALCON", "version": "24.11",
                                                       "edition": "Steady", "modules": "fc12d"},
             "client": {"user": "anna\x1b[31m", "hostname": "station-17"}, "since": "2026-11-24T08:00:00Z",
             "lastSeen": "2026-11-24T08:01:00Z", "expires": "2026-11-24T08:03:00Z"}]
PROTECTION = {"valid_license": True, "state": "grace", "variant": "cloud-ready", "server_id": "BERTH-1",
              "reason": "", "grace_seconds_left": 1234, "addons": ["borrow"]}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def answer(self, status, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/health/protection":
            self.answer(200, PROTECTION)
        else:
            self.answer(404, b"")

    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.answers is not None:
            self.answer(*self.server.answers)
        elif self.path == "/admin" and self.headers.get("Authorization") != "Bearer s3cret":
            self.answer(401, {"jsonrpc": "2.0", "id": call["id"],
                              "error": {"code": 1009, "message": "wrong token"}})
        else:
            result = {"ListLicensesV1": LICENSES, "ListSessionsV1": SESSIONS}[call["method"]]
            self.answer(200, {"jsonrpc": "2.0", "id": call["id"], "result": result})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    make_tls_certificate(folder)
    (folder / "admin.token").write_text("s3cret\n")
    return folder


@pytest.fixture
def server(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.answers = None
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    server.url = f"https://localhost:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def config(folder, server):
    path = folder / "config.yaml"
    path.write_text(json.dumps({
        "serve": {"licenses": {"host": "0.0.0.0", "port": server.server_port,
                               "tls": {"certificate": "tls.pem", "key": "tls.key"}},
                  "admin": {"port": server.server_port, "token_file": "admin.token"}},
        "trust": {"vendor_ca": "vendor-ca.pem", "server_license": "s"}}))
    return path


def berth(*arguments, check=False):
    return run(BUILD / "berth", *arguments, check=check)


def test_licenses(server, folder, config):
    for where in (["--server", server.url + "/", "--ca", folder / "tls.pem"], ["-c", config]):
        done = berth("licenses", *where, check=True)
        lines = done.stdout.splitlines()
        assert lines[0].split()[:4] == ["FEATURE", "VERSION", "EDITION", "MODULES"]
        assert lines[1].split()[:6] == ["MVTec_HALCON", "24.11", "Steady", "fc12d", "5", "3"]
        assert lines[2].split()[3:7] == ["-", "2", "1", "1"]
        assert json.loads(berth("licenses", *where, "--json", check=True).stdout) == LICENSES


def test_sessions(server, folder, config):
    given = ["--server", server.url, "--ca", folder / "tls.pem"]
    token = ["--token-file", folder / "admin.token"]
    for where in (given + token, ["-c", config]):
        done = berth("sessions", *where, check=True)
        assert "abcdef…" in done.stdout and "ghij" not in done.stdout
        assert "station-17" in done.stdout and "\x1b" not in done.stdout
        assert json.loads(berth("sessions", *where, "--json", check=True).stdout) == SESSIONS
    (folder / "wrong.token").write_text("other")
    done = berth("sessions", *given, "--token-file", folder / "wrong.token")
    assert done.returncode == 1 and "wrong token (1009)" in done.stderr
    assert berth("sessions", *given).returncode == 1
    assert berth("sessions", *given, "--token-file", folder / "absent").returncode == 1


def test_status(server, folder, config):
    done = berth("status", "-c", config, check=True)
    for text in ("BERTH-1", "valid, in grace: 1234 s left", "addon      borrow", "7, 4 free", "sessions   1"):
        assert text in done.stdout
    answer = json.loads(berth("status", "-c", config, "--json", check=True).stdout)
    assert answer == {"protection": PROTECTION, "licenses": LICENSES, "sessions": SESSIONS}
    answer = json.loads(berth("status", "--server", server.url, "--ca", folder / "tls.pem", "--json",
                              check=True).stdout)
    assert answer["sessions"] is None


def test_status_without_a_verdict(server, config, monkeypatch):
    for key, value in {"valid_license": False, "state": "invalid", "variant": None, "server_id": None,
                       "reason": "trust unavailable", "grace_seconds_left": None, "addons": None}.items():
        monkeypatch.setitem(PROTECTION, key, value)
    text = berth("status", "-c", config, check=True).stdout
    assert "server     unknown" in text and "trust unavailable" in text
    assert "license    NOT VALID\n" in text


@pytest.mark.parametrize("answers", [
    (500, b""), (200, b"not JSON"), (200, b""), (200, b"[]"), (200, b'{"result":1,"result":2}'),
    (200, b'{"error":{"code":1011,"message":"pool is away"}}'), (404, b""), (302, b""),
])
def test_answers_that_are_none(server, folder, answers):
    server.answers = answers
    done = berth("licenses", "--server", server.url, "--ca", folder / "tls.pem")
    assert done.returncode == 1
    assert done.stderr.startswith("berth licenses: ") and not done.stdout


def test_unreachable(server, folder, tmp_path):
    done = berth("licenses", "--server", f"https://localhost:{free_port()}", "--ca", folder / "tls.pem")
    assert done.returncode == 3
    make_tls_certificate(tmp_path)
    done = berth("licenses", "--server", server.url, "--ca", tmp_path / "tls.pem")
    assert done.returncode == 3  # another server's certificate


def test_usage(folder, tmp_path):
    assert berth("licenses").returncode == 2
    assert berth("licenses", "--server", "https://localhost:1").returncode == 2
    assert berth("licenses", "--server", "http://localhost:1", "--ca", folder / "tls.pem").returncode == 2
    assert berth("status", "--nonsense").returncode == 2
    assert berth("check-license").returncode == 2
    assert berth("sessions", "-h").returncode == 0
    assert berth("status", "-c", tmp_path / "absent.yaml").returncode == 1


def test_check_license(keys, tmp_path):
    vendor("cloud-license", "--dir", keys, "--server-id", "BERTH-1", "--cloud-url", "https://localhost",
           "--out", tmp_path / "s")

    def make(name, *arguments, server_id="BERTH-1"):
        vendor("license", "--dir", keys, "--server-id", server_id, "--feature", "MVTec_HALCON", "--version",
               "24.11", "--edition", "Steady", "--modules", "fc", "--count", "3", *arguments,
               "--out", tmp_path / name)
        return tmp_path / name

    known = ["--ca", keys / "vendor-ca.pem", "--server-license", tmp_path / "s" / "server-license.pem"]
    good, foreign = make("license_good.dat"), make("license_foreign.dat", server_id="BERTH-2")
    expired = make("license_expired.dat", "--valid-until", "2020-01-01")
    forged = tmp_path / "license_forged.dat"
    forged.write_text(good.read_text().replace("count: 3", "count: 4"))
    both = tmp_path / "license_both.dat"
    both.write_text(good.read_text() + foreign.read_text())

    done = berth("check-license", good, *known)
    assert done.returncode == 0 and "license_good.dat:3: ok: MVTec_HALCON 24.11 Steady" in done.stdout
    done = berth("check-license", expired, *known)
    assert done.returncode == 0 and "EXPIRED" in done.stdout
    for file, reason in ((foreign, "server-id"), (forged, "signature"), (tmp_path / "absent.dat", "io")):
        done = berth("check-license", file, good, *known)
        assert done.returncode == 1 and f"refused: {reason}" in done.stdout and ": ok: " in done.stdout
    done = berth("check-license", both, *known)
    assert done.returncode == 1 and ":3: ok" in done.stdout and "refused: server-id" in done.stdout
    assert berth("check-license", foreign, *known, "--server-id", "BERTH-2").returncode == 0
    done = berth("check-license", good, "--ca", keys / "vendor-ca.pem")
    assert done.returncode == 1 and "unknown-key" in done.stdout and "--server-license" in done.stderr
