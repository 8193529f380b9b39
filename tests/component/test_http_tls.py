"""The HTTP server's TLS, by Python's ssl and openssl s_client; how it drains."""

import ssl
import subprocess

import pytest
from http_fixture import (  # noqa: F401 - fixtures
    DEADLINE, assert_closed, client_context, pki, read_response, request, server, start)

# ---- TLS ----

@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(start, version):
    server = start()
    assert request(server.connect(client_context(version=version)))[2] == b"hello"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions(start, version):
    server = start()
    context = client_context(version=version)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        server.connect(context)
    server.wait_line("refused tls-handshake .*")


@pytest.mark.parametrize("cipher", ["AES128-SHA", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256",
                                    "ECDHE-ECDSA-AES256-SHA384", "NULL"])
def test_weak_ciphers(start, cipher):
    server = start()
    context = client_context(version=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(cipher + ":@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        server.connect(context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_resumption(start, version):
    server = start()
    context = client_context(version=version)
    session = None
    for i in range(5):
        s = server.connect(context, session)
        assert request(s)[2] == b"hello"
        assert s.session_reused == (i > 0)
        session = s.session
        s.close()


def test_plain_request_to_tls_port(start):
    server = start()
    s = server.raw()
    s.sendall(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"HTTP/" not in s.recv(1000)
    assert_closed(s)
    server.wait_line("refused tls-handshake 127.0.0.1")


def test_renegotiation(start):
    server = start()
    p = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_2",
                          "-legacy_renegotiation"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    p.stdin.write(b"R\n")
    p.stdin.flush()
    p.wait(DEADLINE)  # its input is still open: the server ended it
    assert b"RENEGOTIATING" in p.stdout.read()
    p.stdin.close()
    assert request(server.connect())[2] == b"hello"


def test_reload(start, pki):
    server = start(certificate="server")
    copy = {n: (pki / f"server.{n}").read_bytes() for n in ("pem", "key")}
    old = server.connect()
    before = old.getpeercert(True)
    assert server.command("names localhost", "names .*").group(0) == "names yes"
    try:
        for n in ("pem", "key"):
            (pki / f"server.{n}").write_bytes((pki / f"server2.{n}").read_bytes())
        assert server.command("reload", "reloaded .*").group(0) == "reloaded ok"
        new = server.connect()
        assert new.getpeercert(True) != before
        assert request(old)[2] == b"hello" and request(new)[2] == b"hello"
        assert server.command("names localhost", "names .*").group(0) == "names no"
        assert server.command("names other.example", "names .*").group(0) == "names yes"
        (pki / "server.pem").write_bytes(b"rubbish")
        assert server.command("reload", "reloaded .*").group(0) != "reloaded ok"
        assert request(server.connect())[2] == b"hello"
    finally:
        for n in ("pem", "key"):
            (pki / f"server.{n}").write_bytes(copy[n])


@pytest.mark.parametrize("name, answer", [
    ("localhost", "yes"), ("LOCALHOST", "yes"), ("127.0.0.1", "yes"), ("127.0.0.2", "no"),
    ("evil.example", "no"), ("localhost.evil.example", "no"), ("[::1]", "no")])
def test_names(start, name, answer):
    assert start().command(f"names {name}", "names .*").group(0) == f"names {answer}"


# ---- client certificates ----

def tls_request(server, context, session=None):
    try:
        s = server.connect(context, session)
        result = request(s, path="/cert")
        return s, result
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
        return None, (None, {}, b"")


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("required", [0, 1])
def test_client_certificate(start, pki, version, required):
    server = start(ca=pki / "ca.pem", required=required)
    der = ssl.PEM_cert_to_DER_cert((pki / "client.pem").read_text())
    good = client_context("client", version, pki)
    s, (status, _, body) = tls_request(server, good)
    assert (status, body) == (200, der)
    again, (status, _, body) = tls_request(server, good, s.session)
    assert again.session_reused and (status, body) == (200, der)
    for name in ["stranger", "notclient"]:
        assert tls_request(server, client_context(name, version, pki))[1][0] is None
    none = tls_request(server, client_context(None, version, pki))[1]
    assert none[::2] == ((None, b"") if required else (200, b""))


@pytest.mark.parametrize("version", VERSIONS)
def test_resumed_client_is_verified_again(start, pki, version, tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_bytes((pki / "ca.pem").read_bytes())
    server = start(ca=ca, required=1)
    context = client_context("client", version, pki)
    s, (status, _, _) = tls_request(server, context)
    assert status == 200
    ca.write_bytes((pki / "ca2.pem").read_bytes())
    assert server.command("reload", "reloaded .*").group(0) == "reloaded ok"
    assert tls_request(server, context, s.session)[1][0] is None


# ---- draining ----

@pytest.mark.parametrize("tls", [False, True])
def test_drain(start, tls):
    server = start(tls=tls)
    idle, busy, partial = server.connect(), server.connect(), server.connect()
    assert request(idle)[2] == b"hello"
    partial.sendall(b"GET /hello HTTP/1.1\r\n")
    busy.sendall(b"GET /later/400 HTTP/1.1\r\nHost: x\r\n\r\n")
    server.wait_line("deferred /later/400")
    server.command("drain 5000", "draining")
    assert_closed(idle)
    with pytest.raises(OSError):
        server.raw().recv(1)
    partial.sendall(b"Host: x\r\n\r\n")
    for s, text in [(busy, b"later"), (partial, b"hello")]:
        _, fields, body, _ = read_response(s)
        assert body == text and fields["connection"] == "close"
        assert_closed(s)
    server.wait_line("drained")
    server.wait_line("stopped")


def test_drain_deadline(start):
    server = start()
    s = server.connect()
    s.sendall(b"GET /later/3000 HTTP/1.1\r\nHost: x\r\n\r\n")
    server.wait_line("deferred .*")
    server.command("drain 100", "draining")
    server.wait_line("drained")
    server.wait_line("stopped")
