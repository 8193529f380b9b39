"""The HTTP server against real clients: raw sockets, Python's ssl, openssl s_client."""
import os
import re
import select
import socket
import ssl
import subprocess
import threading
import time

import pytest

SERVER = os.environ["HTTP_TEST_SERVER"]
DEADLINE = 10


def openssl(*args, cwd):
    subprocess.run(["openssl", *args], cwd=cwd, check=True, capture_output=True)


def make_certificate(folder, name, ca=None, san="DNS:localhost,IP:127.0.0.1", usage=None):
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key",
            cwd=folder)
    extensions = ["-addext", f"subjectAltName={san}"]
    if usage:
        extensions += ["-addext", f"extendedKeyUsage={usage}"]
    if ca is None:
        openssl("req", "-x509", "-new", "-key", f"{name}.key", "-out", f"{name}.pem", "-days", "30",
                "-subj", f"/CN={name}", *extensions, cwd=folder)
        return
    openssl("req", "-new", "-key", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
            *extensions, cwd=folder)
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key",
            "-CAcreateserial", "-out", f"{name}.pem", "-days", "30", "-copy_extensions", "copy",
            cwd=folder)


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    make_certificate(folder, "server")
    make_certificate(folder, "server2", san="DNS:other.example")
    make_certificate(folder, "ca")
    make_certificate(folder, "client", "ca", usage="clientAuth")
    make_certificate(folder, "notclient", "ca", usage="serverAuth")
    make_certificate(folder, "ca2")
    make_certificate(folder, "stranger", "ca2", usage="clientAuth")
    return folder


class Server:
    def __init__(self, **options):
        args = [f"{k}={v}" for k, v in options.items()]
        self.tls = "cert" in options
        self.process = subprocess.Popen([SERVER, *args], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines = []
        self.condition = threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()
        self.port = int(self.wait_line(r"port (\d+)").group(1))

    def read(self):
        for line in self.process.stdout:
            with self.condition:
                self.lines.append(line.decode().strip())
                self.condition.notify_all()
        with self.condition:
            self.lines.append("EOF")
            self.condition.notify_all()

    def wait_line(self, pattern, after=0):
        def find():
            for line in self.lines[after:]:
                m = re.fullmatch(pattern, line)
                if m:
                    return m
            return None
        with self.condition:
            assert self.condition.wait_for(find, DEADLINE), (pattern, self.lines[-20:])
            return find()

    def command(self, text, pattern):
        with self.condition:
            after = len(self.lines)
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        return self.wait_line(pattern, after)

    def refused(self):
        return [line.split()[1] for line in self.lines if line.startswith("refused ")]

    def raw(self, source=None):
        s = socket.create_connection(("127.0.0.1", self.port), DEADLINE,
                                     source_address=(source, 0) if source else None)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def connect(self, context=None, session=None, source=None):
        s = self.raw(source)
        if not self.tls:
            return s
        context = context or client_context()
        return context.wrap_socket(s, server_hostname="localhost", session=session)

    def stop(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        code = self.process.wait(DEADLINE)
        errors = self.process.stderr.read().decode()
        assert code == 0 and not errors, errors


def client_context(certificate=None, version=None, folder=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version:
        context.minimum_version = context.maximum_version = version
    if certificate:
        context.load_cert_chain(folder / f"{certificate}.pem", folder / f"{certificate}.key")
    return context


@pytest.fixture
def start(pki):
    servers = []

    def run(tls=True, certificate="server", **options):
        if tls:
            options.update(cert=pki / f"{certificate}.pem", key=pki / f"{certificate}.key")
        servers.append(Server(**options))
        return servers[-1]
    yield run
    for server in servers:
        server.stop()


@pytest.fixture(params=["plain", "tls"])
def server(request, start):
    return start(tls=request.param == "tls")


def read_response(s, head=False, buffer=b""):
    while b"\r\n\r\n" not in buffer:
        piece = s.recv(65536)
        if not piece:
            return None, {}, buffer, b""
        buffer += piece
    header, rest = buffer.split(b"\r\n\r\n", 1)
    lines = header.decode("latin-1").split("\r\n")
    fields = {}
    for line in lines[1:]:
        name, value = line.split(":", 1)
        fields[name.lower()] = value.strip()
    length = 0 if head else int(fields.get("content-length", 0))
    while len(rest) < length:
        piece = s.recv(65536)
        assert piece, "cut"
        rest += piece
    return int(lines[0].split()[1]), fields, rest[:length], rest[length:]


def request(s, method="GET", path="/hello", body=b"", headers=""):
    length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
    s.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n".encode()
              + body)
    return read_response(s, method == "HEAD")[:3]


def assert_closed(s):
    try:
        while s.recv(65536):
            pass
    except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
        pass


# ---- plain service ----

def test_hello_and_headers(server):
    status, fields, body = request(server.connect())
    assert (status, body) == (200, b"hello")
    assert fields["cache-control"] == "no-store"
    assert fields["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/nothing", 404), ("POST", "/hello", 405), ("DELETE", "/echo", 405),
    ("HEAD", "/hello", 200), ("GET", "/empty", 204)])
def test_routing(server, method, path, status):
    s = server.connect()
    got, fields, _ = request(s, method, path)
    assert got == status
    assert fields["cache-control"] == "no-store"
    assert fields["x-content-type-options"] == "nosniff"
    if status == 405:
        assert fields["allow"] == ("GET, HEAD" if path == "/hello" else "POST")
    assert request(s)[0] == 200  # the connection goes on


@pytest.mark.parametrize("size", [0, 1, 100, 4095, 4096, 4097, 8192, 9000, 16383, 16384, 16385,
                                  20000, 20480, 32768, 65535, 65536])
def test_body_ladder(server, size):
    s = server.connect()
    body = os.urandom(size)
    for _ in range(2):
        status, _, got = request(s, "POST", "/echo", body)
        assert status == 200 and got == body


@pytest.mark.parametrize("size", [1, 1000, 3000, 4000, 4096, 5000, 6000, 6500, 7000, 7168])
@pytest.mark.parametrize("body", [0, 20000])
def test_header_ladder(server, size, body):
    s = server.connect()
    pad = f"X-Pad: {'a' * size}\r\n"
    for _ in range(2):
        assert request(s, headers=pad, path="/header")[::2] == (200, str(size).encode())
        assert len(request(s, "POST", "/echo", b"b" * body, headers=pad)[2]) == body


@pytest.mark.parametrize("fields, cookie", [(90, 0), (60, 2000), (20, 3500)])
def test_header_of_many_fields(server, fields, cookie):
    s = server.connect()
    headers = "".join(f"X-{i}: v\r\n" for i in range(fields))
    if cookie:
        headers += f"Cookie: a={'c' * cookie}; b=2\r\n"
    status, _, body = request(s, headers=headers)
    assert (status, body) == (200, b"hello")


def test_header_too_large(server):
    for headers in [f"X-Pad: {'a' * 40000}\r\n", "X: y\r\n" * 101]:
        s = server.connect()
        status, answer, _ = request(s, headers=headers)
        assert status == 431 and answer["connection"] == "close"
        assert_closed(s)


@pytest.mark.parametrize("size", [0, 1, 1400, 15360, 15361, 16384, 100000, 3000000])
def test_answer_ladder(server, size):
    s = server.connect()
    for _ in range(2):
        assert len(request(s, path=f"/big/{size}")[2]) == size
        assert request(s, "HEAD", f"/big/{size}")[2] == b""


def test_byte_by_byte(server):
    s = server.connect()
    for b in b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc":
        s.sendall(bytes([b]))
    assert read_response(s)[2] == b"abc"


def test_chunked(server):
    s = server.connect()
    for _ in range(2):
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                  b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n")
        assert read_response(s)[2] == b"abcdefg"


def test_expect_continue(server):
    s = server.connect()
    s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
              b"Expect: 100-continue\r\n\r\n")
    assert read_response(s)[0] == 100
    s.sendall(b"abc")
    assert read_response(s)[2] == b"abc"


def test_low_rate_latency(server):
    """Work left without an event shows only here: an answer would wait for the next request."""
    s = server.connect()
    for i in range(10):
        begin = time.monotonic()
        assert request(s, "POST", "/echo", b"x" * (i * 700))[0] == 200
        assert time.monotonic() - begin < 1
        assert not select.select([s], [], [], 0.05)[0]  # nothing follows


def test_pipelining(server):
    s = server.connect()
    one = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n%05d"
    s.sendall(b"".join(one % i for i in range(200)))
    rest = b""
    for i in range(200):
        status, _, body, rest = read_response(s, buffer=rest)
        assert (status, body) == (200, b"%05d" % i)


def test_http_1_0(server):
    s = server.connect()
    s.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
    assert read_response(s)[2] == b"hello"
    assert_closed(s)


# ---- answers that come later ----

def test_deferred(server):
    waiting = [server.connect() for _ in range(20)]
    for s in waiting:
        s.sendall(b"GET /later/300 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert request(server.connect())[2] == b"hello"
    for s in waiting:
        assert read_response(s)[2] == b"later"
        assert request(s)[2] == b"hello"


def test_client_gone_before_answer(server):
    for _ in range(5):
        s = server.connect()
        s.sendall(b"GET /later/200 HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_line("deferred /later/200")
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.close()
    server.wait_line("answering /later/200")
    assert request(server.connect())[2] == b"hello"


def test_stop_with_waiting_requests(server):
    sockets = [server.connect() for _ in range(3)]
    for s in sockets[:2]:
        s.sendall(b"GET /later/50 HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_line("deferred .*")
    # Stopping happens in the fixture; an abort or a sanitizer report fails there.


def test_handler_that_never_answers(start):
    server = start(tls=False)
    s = server.connect()
    s.sendall(b"GET /later/7000 HTTP/1.1\r\nHost: x\r\n\r\n")
    status, fields, _, _ = read_response(s)
    assert status == 503 and fields["cache-control"] == "no-store"
    server.wait_line("answering /later/7000")
    assert request(s)[2] == b"hello"


# ---- requests that are refused ----

POST = b"POST /echo HTTP/1.1\r\n"
REFUSED = {
    "length and chunked": (POST + b"Host: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked"
                           b"\r\n\r\n0\r\n\r\n", 400, "length-and-chunked"),
    "chunked and length": (POST + b"Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5"
                           b"\r\n\r\n0\r\n\r\n", 400, "length-and-chunked"),
    "two lengths": (POST + b"Host: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
                    400, "content-length"),
    "two different lengths": (POST + b"Host: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                              400, "content-length"),
    "length list": (POST + b"Host: x\r\nContent-Length: 5, 5\r\n\r\nabcde", 400, "content-length"),
    "signed length": (POST + b"Host: x\r\nContent-Length: +5\r\n\r\nabcde", 400, "content-length"),
    "hex length": (POST + b"Host: x\r\nContent-Length: 0x5\r\n\r\nabcde", 400, "content-length"),
    "huge length": (POST + b"Host: x\r\nContent-Length: 18446744073709551617\r\n\r\n", 400,
                    "content-length"),
    "two hosts": (b"GET /hello HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400, "host"),
    "no host": (b"GET /hello HTTP/1.1\r\n\r\n", 400, "host"),
    "bare LF": (b"GET /hello HTTP/1.1\nHost: x\n\n", 400, "line-end"),
    "bare LF after field": (b"GET /hello HTTP/1.1\r\nHost: x\n\r\n", 400, "line-end"),
    "bare CR": (b"GET /hello HTTP/1.1\r\nHost: x\ry\r\n\r\n", 400, "line-end"),
    "NUL in URL": (b"GET /hel\0lo HTTP/1.1\r\nHost: x\r\n\r\n", 400, "nul"),
    "encoded NUL in URL": (b"GET /hello%00x HTTP/1.1\r\nHost: x\r\n\r\n", 400, "nul"),
    "NUL in field": (b"GET /hello HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n", 400, "nul"),
    "folded": (b"GET /hello HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400, "header-field"),
    "blank before colon": (POST + b"Host: x\r\nContent-Length : 5\r\n\r\nabcde", 400,
                           "header-field"),
    "no colon": (b"GET /hello HTTP/1.1\r\nHost: x\r\nabc\r\n\r\n", 400, "header-field"),
    "identity": (POST + b"Host: x\r\nTransfer-Encoding: identity\r\n\r\n", 400,
                 "transfer-encoding"),
    "gzip, chunked": (POST + b"Host: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400,
                      "transfer-encoding"),
    "xchunked": (POST + b"Host: x\r\nTransfer-Encoding: xchunked\r\n\r\n", 400,
                 "transfer-encoding"),
    "chunked twice": (POST + b"Host: x\r\nTransfer-Encoding: chunked\r\n"
                      b"Transfer-Encoding: chunked\r\n\r\n", 400, "transfer-encoding"),
    "chunk size": (POST + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, "chunk"),
    "chunk bare LF": (POST + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n", 400,
                      "line-end"),
    "chunk end": (POST + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400,
                  "chunk"),
    "trailing length": (POST + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
                        b"Content-Length: 5\r\n\r\n", 400, "header-field"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http-version"),
    "HTTP/0.9": (b"GET /hello\r\n", 400, "line-end"),
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00", 400, "request-line"),
    "too long": (POST + b"Host: x\r\nContent-Length: 65537\r\n\r\n", 413, "body-too-large"),
    "chunks too long": (POST + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n8000\r\n" +
                        b"a" * 0x8000 + b"\r\n8001\r\n", 413, "body-too-large"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("cut", [False, True])
def test_refused(server, name, cut):
    """The interposed functions are in force: libmicrohttpd alone would answer 200 to many."""
    raw, status, reason = REFUSED[name]
    s = server.connect()
    if cut and len(raw) < 1000:
        for b in raw:
            try:
                s.sendall(bytes([b]))
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                break
    else:
        s.sendall(raw)
    got, fields, _, rest = read_response(s)
    assert got == status and not rest
    assert fields["connection"] == "close"
    assert fields["cache-control"] == "no-store"
    assert fields["x-content-type-options"] == "nosniff"
    assert_closed(s)
    server.wait_line(f"refused {reason} 127.0.0.1")
    assert request(server.connect())[2] == b"hello"


def test_requests_before_a_refused_one_are_answered(server):
    s = server.connect()
    good = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
    s.sendall(good + b"GET /later/200 HTTP/1.1\r\nHost: x\r\n\r\n" + good +
              REFUSED["two lengths"][0])
    rest = b""
    for expected in [b"hello", b"later", b"hello"]:
        status, _, body, rest = read_response(s, buffer=rest)
        assert (status, body) == (200, expected)
    assert read_response(s, buffer=rest)[0] == 400
    assert_closed(s)


# ---- deadlines and limits ----

def wait_closed_by(server, s, reason):
    server.wait_line(f"refused {reason} .*")
    assert_closed(s)
    assert request(server.connect())[2] == b"hello"


@pytest.mark.parametrize("tls", [False, True])
def test_silent_connection(start, tls):
    server = start(tls=tls, header_ms=300)
    wait_closed_by(server, server.raw(), "handshake-timeout" if tls else "header-timeout")


@pytest.mark.parametrize("tls", [False, True])
def test_slow_header(start, tls):
    """A byte now and then is activity, but the deadline is for the whole header."""
    server = start(tls=tls, header_ms=400)
    s = server.connect()
    s.sendall(b"GET /hello HTTP/1.1\r\nA: ")
    begin = time.monotonic()
    while "header-timeout" not in server.refused() and time.monotonic() - begin < DEADLINE:
        try:
            s.sendall(b"x")
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            break
        select.select([], [], [], 0.05)
    wait_closed_by(server, s, "header-timeout")


@pytest.mark.parametrize("tls", [False, True])
def test_slow_body(start, tls):
    server = start(tls=tls, request_ms=400)
    s = server.connect()
    s.sendall(POST + b"Host: x\r\nContent-Length: 1000\r\n\r\nabc")
    wait_closed_by(server, s, "body-timeout")


@pytest.mark.parametrize("tls", [False, True])
def test_slow_reader(start, tls):
    server = start(tls=tls, request_ms=400)
    s = server.connect()
    s.sendall(b"GET /big/30000000 HTTP/1.1\r\nHost: x\r\n\r\n")
    server.wait_line("refused slow-reader .*")
    s.close()
    assert request(server.connect())[2] == b"hello"


@pytest.mark.parametrize("tls", [False, True])
def test_idle(start, tls):
    server = start(tls=tls, idle_ms=200)
    s = server.connect()
    assert request(s)[2] == b"hello"
    assert_closed(s)
    assert server.refused() == []


@pytest.mark.parametrize("tls", [False, True])
def test_one_address_with_many_connections(start, tls):
    server = start(tls=tls, per_address=8, connections=64)
    other = server.connect(source="127.0.0.2")
    many = [server.raw() for _ in range(256)]
    server.wait_line("refused connections-per-address 127.0.0.1")
    assert request(other)[2] == b"hello"
    assert request(server.connect(source="127.0.0.3"))[2] == b"hello"
    assert request(server.connect())[2] == b"hello"
    assert int(server.command("count", r"count (\d+)").group(1)) <= 10
    for s in many:
        s.close()


def test_all_connections_taken(start):
    server = start(per_address=8, connections=16)
    many = [server.raw(source=f"127.0.0.{i % 10 + 10}") for i in range(60)]
    assert request(server.connect())[2] == b"hello"
    server.wait_line("refused connections .*")
    for s in many:
        s.close()


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
