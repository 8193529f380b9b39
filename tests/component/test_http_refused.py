"""The HTTP server against raw sockets: what it refuses, its deadlines and limits."""

import select
import ssl
import time

import pytest
from http_fixture import (  # noqa: F401 - fixtures
    DEADLINE, assert_closed, pki, read_response, request, server, start)

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
