"""What the tests of attacks share. The outcome that every attack must have (security.md): the processes
are the same ones, a good client from the same address was served within a second all the time, no
sanitizer has a report, no secret is in the log; and the refusal was counted and logged."""

import contextlib
import os
import re
import socket
import ssl
import time

from berth import SERVICES

SERVED_WITHIN_S = 1.0
# Tenfold crowds and a million guesses: minutes of processor time (CONTRIBUTING.md).
HEAVY = bool(os.environ.get("BERTH_HEAVY_ATTACKS"))
GET = b"GET /health/protection HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /licenses HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CALL = b'{"jsonrpc":"2.0","id":1,"method":"ListLicensesV1"}'


def post(body, more=b"Connection: close\r\n"):
    return POST + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def connect(site, handshake=True):
    plain = socket.create_connection(("127.0.0.1", site.port), 5)
    if not handshake:
        return plain
    context = ssl.create_default_context(cafile=str(site.folder / "tls.pem"))
    return context.wrap_socket(plain, server_hostname="localhost")


def answer_to(site, data):
    """What the server says to these bytes until it closes."""
    got = b""
    with connect(site) as s:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            s.sendall(data)
        s.settimeout(5)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while chunk := s.recv(65536):
                got += chunk
    return got


def refused(site):
    """reason → count, of berth_http_refused_total."""
    with contextlib.closing(site.admin()) as admin:
        text = admin.http("GET", "/metrics")[2].decode()
    return {m[1]: float(m[2]) for m in
            re.finditer(r'^berth_http_refused_total\{reason="([^"]+)"\} (\S+)$', text, re.M)}


def serve_good_client(site):
    """A new connection and a call, within the time that every attack must leave us."""
    began = time.monotonic()
    with contextlib.closing(site.client(timeout=SERVED_WITHIN_S)) as client:
        assert client.licenses()
    took = time.monotonic() - began
    assert took < SERVED_WITHIN_S, f"{took:.2f} s"


@contextlib.contextmanager
def unharmed(site):
    """Whatever is done to the running site inside, it must be as well afterwards."""
    before = [site.child(name) for name in SERVICES]
    yield site
    serve_good_client(site)
    assert [site.child(name) for name in SERVICES] == before
    log = site.server.text()
    assert site.admin_token() not in log
    assert "Sanitizer" not in log and "runtime error" not in log
