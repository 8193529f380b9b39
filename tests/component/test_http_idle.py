"""Connections between requests: libmicrohttpd has them no longer, and gets them again. And those that
nobody can have, because no descriptor is left."""

import contextlib
import os
import resource
import signal
import socket
import ssl
import struct
import threading
import time

import pytest
from http_fixture import DEADLINE, client_context, pki, start  # noqa: F401 - fixtures

HELLO = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
BOTH = pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])


def until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.05)


def idle(server):
    return int(server.command("idle", r"idle (\d+)").group(1))


def count(server):
    return int(server.command("count", r"count (\d+)").group(1))


def answer(s, body=b"hello"):
    got = b""
    while not got.endswith(body):
        more = s.recv(65536)
        assert more, got[-200:]
        got += more
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    return got


@BOTH
def test_parked_and_served_again(start, tls):  # noqa: F811
    server = start(tls=tls)
    with server.connect() as s:
        until(lambda: idle(server) == 1)  # nothing was asked yet
        for _ in range(3):
            s.sendall(HELLO)
            answer(s)
            assert idle(server) == 0
            until(lambda: idle(server) == 1)
        assert count(server) == 1


@BOTH
def test_large_body_and_pipeline_right_after_parking(start, tls):  # noqa: F811
    server = start(tls=tls)
    with server.connect() as s:
        until(lambda: idle(server) == 1)
        body = bytes(range(256)) * 240
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) +
                  body)
        assert answer(s, body[-1000:]).endswith(body)
        until(lambda: idle(server) == 1)
        s.sendall(HELLO * 20)
        got = b""
        while got.count(b"hello") < 20:
            got += s.recv(65536)


@BOTH
def test_not_parked_within_a_request(start, tls):  # noqa: F811
    """Silent in the middle of a header, then of a body, then until the handler answers, each for longer
    than an idle connection is kept: another one, served later, is parked meanwhile."""
    server = start(tls=tls)
    request = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
    with server.connect() as s, server.connect() as other:
        for part in (request[:30], request[30:-3]):
            s.sendall(part)
            other.sendall(HELLO)
            answer(other)
            until(lambda: idle(server) == 1)
        s.sendall(request[-3:])
        answer(s)
        s.sendall(b"GET /later/2500 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        server.wait_line(r"deferred .*")
        other.sendall(HELLO)
        answer(other)
        until(lambda: idle(server) == 1)
        answer(s, b"later")


@BOTH
@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_client_goes_while_parked(start, tls, how):  # noqa: F811
    server = start(tls=tls)
    s = server.connect()
    s.sendall(HELLO)
    answer(s)
    until(lambda: idle(server) == 1)
    if how == "reset":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "half":
        socket.socket.shutdown(s, socket.SHUT_WR)
    else:
        s.close()
    until(lambda: count(server) == 0)
    s.close()


class AtOnce:
    """A TLS client that sends the end of its handshake and the first request in one piece."""

    def __init__(self, server):
        self.socket, self.out, self.incoming = server.raw(), ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context().wrap_bio(self.incoming, self.out)

    def request(self):
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.socket.sendall(self.out.read())
                self.incoming.write(self.socket.recv(65536))
        self.tls.write(HELLO)
        return self.out.read()

    def recv(self, size):
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLWantReadError:
                more = self.socket.recv(65536)
                self.incoming.write(more) if more else self.incoming.write_eof()


@BOTH
def test_request_and_end_at_once(start, tls):  # noqa: F811
    """The end arrives with the request, and no event of its own tells of it; over TLS it is one without
    close_notify, and comes with the end of the handshake, too."""
    server = start(tls=tls)
    client = AtOnce(server) if tls else server.connect()
    request = client.request() if tls else HELLO
    s = client.socket if tls else client
    server.process.send_signal(signal.SIGSTOP)
    s.sendall(request)
    s.shutdown(socket.SHUT_WR)
    server.process.send_signal(signal.SIGCONT)
    answer(client)
    until(lambda: count(server) == 0)
    s.close()


@BOTH
def test_end_before_the_answer(start, tls):  # noqa: F811
    """Who shuts its half while the handler thinks is answered all the same."""
    server = start(tls=tls)
    with server.connect() as s:
        s.sendall(b"GET /later/200 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        server.wait_line(r"deferred .*")
        socket.socket.shutdown(s, socket.SHUT_WR)
        answer(s, b"later")
    until(lambda: count(server) == 0)


def test_end_within_the_handshake(start):  # noqa: F811
    server = start(header_ms=10 * DEADLINE * 1000)  # the end it must be that ends the connection
    s = socket.create_connection(("127.0.0.1", server.port))
    until(lambda: count(server) == 1)
    s.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    s.shutdown(socket.SHUT_WR)
    until(lambda: count(server) == 0)
    s.close()


def test_many_are_parked_and_wake_together(start):  # noqa: F811
    server = start(per_address=1000)
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(server.connect()) for _ in range(200)]
        for _ in range(2):
            for s in crowd:
                s.sendall(HELLO)
            for s in crowd:
                answer(s)
            until(lambda: idle(server) == 200)
        assert count(server) == 200
    until(lambda: count(server) == 0)


@BOTH
def test_drained_while_parked(start, tls):  # noqa: F811
    server = start(tls=tls)
    with server.connect() as s:
        until(lambda: idle(server) == 1)
        server.command("drain 5000", r"draining")
        server.wait_line(r"drained")
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert s.recv(10) == b""


@BOTH
def test_stopped_while_parked(start, tls):  # noqa: F811
    server = start(tls=tls)
    with server.connect() as s, server.connect() as other:
        s.sendall(HELLO)
        answer(s)
        until(lambda: idle(server) == 2)
        other.sendall(b"GET /later/60000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        server.wait_line(r"deferred .*")


def test_without_descriptors_it_waits_and_does_not_spin(start):  # noqa: F811
    server = start(tls=False, per_address=1000)
    pid = server.process.pid
    most = len(os.listdir(f"/proc/{pid}/fd")) + 5
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(server.raw()) for _ in range(20)]
        until(lambda: server.refused().count("descriptors") >= 3)
        tries, took = server.refused().count("descriptors"), time.monotonic() - began
        assert tries <= took / 0.1 + 2, f"{tries} tries in {took:.1f} s"
        for s in crowd[:18]:
            s.close()
        crowd[-1].sendall(HELLO)
        answer(crowd[-1])
