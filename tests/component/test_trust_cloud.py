"""berth-trust with berth-cloud, and with backends that are none: what becomes of the verdict."""

import contextlib
import datetime
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import threading
import time

import pytest
from berth import BUILD, free_port, make_tls_certificate, run, vendor, wait_until
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from trust_place import SERVER, Host, place  # noqa: F401 (place is a fixture)

def test_valid_revoked_restored(place):
    place.cloud()
    host = Host(place).start()
    assert SERVER in place.command("list")
    place.command("revoke", SERVER)
    host.becomes("invalid", 4)
    assert "revoked" in host.process.text() and "revoked" in place.command("list")
    place.command("restore", SERVER)
    host.becomes("valid", 4)


def test_backend_gone_grace_over_and_back(place):
    place.cloud()
    host = Host(place, grace="2 s").start()
    place.cloud_process.stop(signal.SIGKILL)
    host.becomes("grace", 4)
    assert 0 < host.metric("berth_grace_seconds_left") <= 2
    host.becomes("invalid", 4)
    assert "grace-over" in host.process.text()
    place.cloud()
    host.becomes("valid", 4)


def test_no_start_without_backend(place):
    assert "confirm" in Host(place).refused_start()


def test_no_start_when_revoked(place):
    place.cloud()
    place.command("revoke", SERVER)
    assert "revoked" in Host(place).refused_start()


def test_backend_of_another_vendor(place, tmp_path):
    vendor("init", "--dir", tmp_path / "false")
    place.cloud(keys=tmp_path / "false")
    assert "certificate" in Host(place).refused_start()


def test_killed_trust_continues_at_once(place):
    place.cloud()
    host = Host(place).start()
    token = host.folder / "state" / "cloud-token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    for _ in range(5):
        host.process.stop(signal.SIGKILL)
        host.start()


def test_copied_key_is_in_use_elsewhere_until_goodbye(place):
    place.cloud()
    first = Host(place, "first").start()
    second = Host(place, "second")
    assert "in use on another host" in second.refused_start()
    assert first.state() == "valid"
    assert first.process.stop() == 0
    second.start()
    assert "in use on another host" in first.refused_start()


def test_copied_key_and_silence(place):
    place.cloud("--silence", "2")
    first = Host(place, "first").start()
    first.process.stop(signal.SIGKILL)
    second = Host(place, "second")
    wait_until(lambda: try_start(second), 10, "the other host may take it after the silence")
    assert second.state() == "valid"


def try_start(host):
    host.spawn()
    return wait_until(lambda: not host.process.running() or host.state() == "valid",
                      what="start decided") and host.process.running()


def test_cloned_disk(place):
    """The clone has the token too, the newest and the one before. It is refused while the first lives,
    and the first does not notice; what the clone does, its goodbye too, changes nothing."""
    place.cloud()
    first = Host(place, "first", check_interval="2 s").start()
    checks = 'berth_cloud_checks_total{outcome="ok"}'
    for name, more in (("second", 0), ("third", 1), ("fourth", 3)):
        clone = Host(place, name)
        shutil.copytree(first.folder / "state", clone.folder / "state")
        before = first.metric(checks)
        wait_until(lambda b=before, m=more: first.metric(checks) >= b + m, 20, "the first goes on")
        assert "in use on another host" in clone.refused_start()
    first.process.stop(signal.SIGKILL)
    assert "in use on another host" in clone.refused_start()
    begin = time.monotonic()
    first.start()
    assert time.monotonic() - begin < 3
    assert "in-use-elsewhere" not in first.process.text()


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_key_that_others_may_read(place, mode):
    place.cloud()
    host = Host(place)
    key = host.folder / "server-license" / "server-license.key"
    key.chmod(mode)
    process = host.spawn()
    assert process.wait(20) == 1 and "chmod 600" in process.text() and str(key) in process.text()


def test_key_of_another_license(place):
    place.cloud()
    place.issue("other")
    host = Host(place)
    shutil.copy(place.folder / "other" / "server-license.key", host.folder / "server-license")
    process = host.spawn()
    assert process.wait(20) == 1 and "does not belong" in process.text()


def test_state_dir_that_cannot_be_written(place):
    place.cloud()
    host = Host(place)
    (host.folder / "state").write_text("a file")
    process = host.spawn()
    assert process.wait(20) == 78 and "state_dir" in process.text()


def test_damaged_token_is_not_fatal(place):
    place.cloud()
    host = Host(place).start()
    assert host.process.stop() == 0
    (host.folder / "state" / "cloud-token").write_bytes(b"\0\xff" * 4000)
    host.start()
    assert "cloud.token-ignored" in host.process.text()


# ---- backends that answer what is no answer ----

class Listener:
    """Listens where trust looks for the backend, or for its proxy; serve() is told each connection."""

    def __init__(self, port=0):
        self.socket = socket.create_server(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    @staticmethod
    def pump(source, sink):
        data = b""
        with contextlib.suppress(OSError):
            while block := source.recv(65536):
                data += block
                sink.sendall(block)
            sink.shutdown(socket.SHUT_WR)
        return data


class FalseBackend(Listener):
    """Has the vendor's TLS certificate, or another one, and says what it is told."""

    def __init__(self, place):
        self.cloud, self.mode, self.requests = place.keys / "cloud", "ok", 0
        self.present(self.cloud / "cloud.pem", self.cloud / "cloud.key")
        super().__init__(place.port)

    def present(self, certificate, key):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(self.cloud / "vendor-ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        self.context = context

    def serve(self, connection):
        with contextlib.suppress(OSError), connection:
            connection.settimeout(20)
            with self.context.wrap_socket(connection, server_side=True) as tls:
                head = b""
                while b"\r\n\r\n" not in head:
                    data = tls.recv(65536)
                    if not data:
                        return
                    head += data
                self.requests += 1
                self.answer(tls)

    def answer(self, tls):
        good = json.dumps({"format": 1, "status": "ok", "nextCheckSeconds": 1, "token": "t",
                           "ledger": None, "revokedKeyIds": []}).encode()
        answers = {
            "ok": (200, good), "500": (500, good), "204": (204, b""), "garbage": (200, b"\xff{]"),
            "empty": (200, b""), "html": (200, b"<html>ok</html>"), "cut": (200, good[:-4]),
            "twice": (200, good + good), "format": (200, good.replace(b'"format": 1', b'"format": 2')),
            "refused-403": (403, b'{"format":1,"status":"refused","reason":"revoked",'
                                 b'"nextCheckSeconds":1,"token":""}'),
        }
        if self.mode == "redirect":
            tls.sendall(f"HTTP/1.1 307 x\r\nLocation: https://localhost:{self.port}/v1/validate\r\n"
                        "Content-Length: 0\r\n\r\n".encode())
        elif self.mode == "huge":
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5368709120\r\n\r\n")
            with contextlib.suppress(OSError):
                for _ in range(5 * 1024):
                    tls.sendall(b" " * 1048576)
        elif self.mode == "headers":
            tls.sendall(b"HTTP/1.1 200 OK\r\n")
            with contextlib.suppress(OSError):
                while True:
                    tls.sendall(b"X: " + b"a" * 8000 + b"\r\n")
        elif self.mode == "close":
            return
        elif self.mode == "hang":
            with contextlib.suppress(OSError):
                tls.recv(1)  # until the other side gives up
        else:
            status, body = answers[self.mode]
            tls.sendall(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n"
                        "Connection: close\r\n\r\n".encode() + body)


@pytest.mark.parametrize("mode", ["500", "204", "garbage", "empty", "html", "cut", "twice", "format",
                                  "refused-403", "redirect", "huge", "headers", "close"])
def test_answer_that_is_none(place, mode):
    backend = FalseBackend(place)
    try:
        host = Host(place, grace="3 s").start()
        backend.mode = mode
        host.becomes("grace", 5)
        before = backend.requests
        wait_until(lambda: backend.requests > before, what="it is asked again")
        host.becomes("invalid", 6)
        assert "grace-over" in host.process.text()
        assert "5368709120" not in host.process.text()
        backend.mode = "ok"
        host.becomes("valid", 5)
    finally:
        backend.close()


def vendor_signs(place, name, usage, san, hours=(-24, 24)):  # noqa: F811
    """A certificate of the real vendor CA, which the vendor would not issue."""
    ca = x509.load_pem_x509_certificate((place.keys / "vendor-ca.pem").read_bytes())
    ca_key = serialization.load_pem_private_key((place.keys / "vendor-ca.key").read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.utcnow()
    cert = (x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(
                NameOID.COMMON_NAME, "localhost")]))
            .issuer_name(ca.subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(hours=hours[0]))
            .not_valid_after(now + datetime.timedelta(hours=hours[1]))
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(x509.ExtendedKeyUsage([usage]), False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(san)]), False)
            .sign(ca_key, hashes.SHA256()))
    (place.folder / f"{name}.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (place.folder / f"{name}.key").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return place.folder / f"{name}.pem", place.folder / f"{name}.key"


@pytest.mark.parametrize("kind", ["own-ca", "server-license", "client-usage", "other-name", "expired",
                                  "not-yet"])
def test_false_backend_is_not_believed(place, kind):  # noqa: F811
    """It says ok, but it is not the vendor's: at start, and when it takes the real one's place."""
    if kind == "own-ca":
        make_tls_certificate(place.folder, stem="own")
        pair = place.folder / "own.pem", place.folder / "own.key"
    elif kind == "server-license":  # a customer plays the backend for another
        place.issue("other", server="OTHER-1")
        pair = place.folder / "other/server-license.pem", place.folder / "other/server-license.key"
    elif kind == "client-usage":
        pair = vendor_signs(place, kind, ExtendedKeyUsageOID.CLIENT_AUTH, "localhost")
    elif kind == "other-name":
        pair = vendor_signs(place, kind, ExtendedKeyUsageOID.SERVER_AUTH, "backend.example")
    else:  # by more than a day, which a clock may be wrong
        pair = vendor_signs(place, kind, ExtendedKeyUsageOID.SERVER_AUTH, "localhost",
                            (-1000, -25) if kind == "expired" else (25, 1000))
    backend = FalseBackend(place)
    try:
        # With the right usage and name a certificate from here is good: it is those that count.
        backend.present(*vendor_signs(place, "good", ExtendedKeyUsageOID.SERVER_AUTH, "localhost"))
        host = Host(place, grace="3 s").start()
        backend.present(*pair)
        host.becomes("grace")
        seen = backend.requests
        host.becomes("invalid")
        host.logged("reason=grace-over")
        assert "certificate" in host.process.text()
        host.process.stop(signal.SIGKILL)
        assert "certificate" in host.refused_start()
        assert backend.requests == seen  # it never saw a token
    finally:
        backend.close()


@pytest.mark.parametrize("hours", [(-1000, -23), (23, 1000)])
def test_backend_whose_certificate_is_a_little_out_of_time(place, hours):  # noqa: F811
    """Who tells the right time must be reached by a server whose clock is wrong by less than a day."""
    backend = FalseBackend(place)
    try:
        backend.present(*vendor_signs(place, "near", ExtendedKeyUsageOID.SERVER_AUTH, "localhost", hours))
        host = Host(place).start()
        assert host.state() == "valid"
    finally:
        backend.close()


class Relay(Listener):
    """Between trust and the backend: records what the backend sends, and plays it again."""

    def __init__(self, port, target):
        self.target, self.recorded, self.replaying, self.replayed = target, b"", False, 0
        super().__init__(port)

    def serve(self, connection):
        with contextlib.suppress(OSError), connection:
            connection.settimeout(10)
            if self.replaying:
                connection.recv(65536)
                self.replayed += 1
                connection.sendall(self.recorded)
                while connection.recv(65536):
                    pass
                return
            with socket.create_connection(("127.0.0.1", self.target), 10) as other:
                up = threading.Thread(target=self.pump, args=(connection, other), daemon=True)
                up.start()
                self.recorded = self.pump(other, connection)


def test_replayed_answer_is_none(place):  # noqa: F811
    port, place.port = place.port, free_port()
    place.cloud()
    relay = Relay(port, place.port)
    place.port = port
    host = Host(place, grace="3 s").start()
    wait_until(lambda: len(relay.recorded) > 500, what="an answer is recorded")
    relay.replaying = True
    host.becomes("invalid")
    assert relay.replayed > 0
    host.logged("reason=grace-over")
    relay.replaying = False
    host.becomes("valid")


class Proxy(Listener):
    """An HTTP proxy that only connects, as companies have."""

    def __init__(self):
        self.asked = []
        super().__init__()

    def serve(self, connection):
        with contextlib.suppress(OSError), connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096)
            target = head.split()[1].decode()
            self.asked.append(head.split()[0].decode() + " " + target)
            with socket.create_connection(("127.0.0.1", int(target.rpartition(":")[2]))) as other:
                connection.sendall(b"HTTP/1.1 200 connected\r\n\r\n")
                threading.Thread(target=self.pump, args=(connection, other), daemon=True).start()
                self.pump(other, connection)


@pytest.mark.parametrize("by", ["option", "environment"])
def test_through_a_proxy(place, by):  # noqa: F811
    """The TLS goes through it to the backend, and nothing else does."""
    place.cloud()
    proxy = Proxy()
    url = f"http://127.0.0.1:{proxy.port}"
    host = Host(place, **({"proxy": url} if by == "option" else {}))
    host.env = {"https_proxy": url, "no_proxy": ""} if by == "environment" else {}
    host.start()
    assert set(proxy.asked) == {f"CONNECT localhost:{place.port}"}
    proxy.close()
    host.becomes("grace")


def test_trust_goes_on_while_the_backend_hangs(place):
    backend = FalseBackend(place)
    try:
        host = Host(place).start()
        backend.mode = "hang"
        before = backend.requests
        wait_until(lambda: backend.requests > before, what="a check that hangs")
        for _ in range(20):
            assert host.state() == "valid"
        assert host.process.stop(seconds=5) == 0
    finally:
        backend.close()


# ---- the backend by itself ----

def post(place, license_dir, body, path="/v1/validate", cert=True):
    command = ["curl", "-s", "--max-time", "20", "--cacert", place.keys / "vendor-ca.pem", "-w",
               "\n%{http_code}", "-H", "Content-Type: application/json", "-d",
               body if isinstance(body, str) else json.dumps(body)]
    if cert:
        folder = place.folder / license_dir
        command += ["--cert", folder / "server-license.pem", "--key", folder / "server-license.key"]
    done = subprocess.run([*map(str, command), f"https://localhost:{place.port}{path}"],
                          capture_output=True, text=True, timeout=30)
    text, _, status = done.stdout.rpartition("\n")
    return int(status), text


def question(server=SERVER, token=""):
    return {"format": 1, "serverId": server, "token": token, "version": "1", "uptimeSeconds": 1,
            "ledger": None}


def test_backend_refuses_what_is_no_server(place, tmp_path):
    place.cloud()
    assert post(place, "server-license", question())[0] == 200
    assert post(place, "server-license", question("OTHER"))[0] == 403
    assert post(place, "server-license", "{")[0] == 400
    assert post(place, "server-license", question(), cert=False)[0] in (0, 403)
    make_tls_certificate(place.folder, stem="server-license")
    assert post(place, ".", question())[0] in (0, 403)
    assert post(place, "server-license", "x" * 100000)[0] in (0, 413)
    assert place.cloud_process.running()


def test_goodbye_needs_the_token_alone(place):
    place.cloud()
    token = json.loads(post(place, "server-license", question())[1])["token"]
    assert json.loads(post(place, "server-license", question())[1])["reason"] == "in-use-elsewhere"
    nameless = {"format": 1, "token": token}
    assert post(place, "server-license", nameless)[0] == 400  # to validate, the server says who it is
    assert post(place, "server-license", nameless, path="/v1/goodbye")[0] == 200
    assert json.loads(post(place, "server-license", question())[1])["status"] == "ok"


def test_backend_commands(place):
    place.cloud()
    assert post(place, "server-license", question())[0] == 200
    assert "in use" in place.command("list")
    key = "0123456789abcdef"
    place.command("revoke-key", key)
    place.command("revoke", SERVER)
    status, text = post(place, "server-license", question())
    answer = json.loads(text)
    assert status == 200 and answer["status"] == "refused" and answer["reason"] == "revoked"
    assert answer["revokedKeyIds"] == [key] and 1 <= answer["nextCheckSeconds"] <= 3600
    place.stop_cloud()
    place.cloud()
    assert json.loads(post(place, "server-license", question())[1])["reason"] == "revoked"
    assert os.stat(place.state).st_mode & 0o077 == 0
    for bad in (["revoke"], ["revoke", "a/b"], ["nonsense"], ["list", "x"], ["revoke-key", "12"]):
        assert run(BUILD / "berth-cloud", *bad, "--state", place.state, check=False).returncode == 2
    assert run(BUILD / "berth-cloud", "list", "--state", place.folder / "none.db",
               check=False).returncode == 1
