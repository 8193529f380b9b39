"""The HTTP server against real clients: what the files test_http_*.py share."""

import os
import re
import socket
import ssl
import subprocess
import threading

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
