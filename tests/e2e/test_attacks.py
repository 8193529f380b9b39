"""Attacks on the public port. After each: the four processes are the same ones, a good client from
the same address was served within a second all the time, and the refusal was counted and logged."""

import contextlib
import json
import ssl
import subprocess
import time

import pytest
from attack import CALL, GET, HEAVY, POST, answer_to, connect, post, refused, serve_good_client, unharmed
from berth import RpcError, wait_until


def chunked(body):
    return POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + body


# id: (bytes, expected status or JSON-RPC error code, counted under this reason or None)
ATTACKS = {
    # JSON
    "json-0-bytes": (post(b""), -32700, None),
    "json-limit-less-1": (post(b" " * 65535), -32700, None),
    "json-limit": (post(b" " * 65536), -32700, None),
    "json-limit-plus-1": (post(b" " * 65537), 413, "body-too-large"),
    "json-100-mb": (POST + b"Content-Length: 100000000\r\n\r\n" + b" " * 1000000, 413,
                    "body-too-large"),
    "json-nested": (post(b"[" * 50000 + b"]" * 10000), -32700, None),
    "json-1e999": (post(b'{"jsonrpc":"2.0","id":1,"method":"ReturnSessionV1",'
                        b'"params":{"sessionId":1e999}}'), -32602, None),
    "json-2-to-64": (post(b'{"jsonrpc":"2.0","id":1,"method":"ReturnSessionV1",'
                          b'"params":{"sessionId":18446744073709551616}}'), -32602, None),
    "json-lone-surrogate": (post(b'{"a":"\\udc00"}'), -32700, None),
    "json-overlong-utf8": (post(b'{"a":"\xc0\xaf"}'), -32700, None),
    "json-nul": (post(b'{"a":"\x00"}'), -32700, None),
    "json-nul-escaped": (post(b'{"a":"\\u0000"}'), -32700, None),
    "json-bom": (post(b"\xef\xbb\xbf" + CALL), -32700, None),
    "json-utf16": (post(CALL.decode().encode("utf-16")), -32700, None),
    "json-duplicate-key": (post(b'{"jsonrpc":"2.0","id":1,"method":"x","method":"y"}'), -32700,
                           None),
    "json-batch-of-0": (post(b"[]"), -32600, None),
    "json-batch-of-10000": (post(b"[" + b"1," * 9999 + b"1]"), -32600, None),
    # framing
    "two-lengths": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", 400,
                    "content-length"),
    "equal-lengths": (POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400,
                      "content-length"),
    "list-of-lengths": (POST + b"Content-Length: 2, 2\r\n\r\n{}", 400, "content-length"),
    "negative-length": (POST + b"Content-Length: -1\r\n\r\n", 400, "content-length"),
    "signed-length": (POST + b"Content-Length: +2\r\n\r\n{}", 400, "content-length"),
    "length-2-to-64": (POST + b"Content-Length: 18446744073709551617\r\n\r\n{", 400,
                       "content-length"),
    "length-and-chunked": (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
                           b"0\r\n\r\n", 400, None),
    "gzip-then-chunked": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400,
                          "transfer-encoding"),
    "hidden-chunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400,
                       "transfer-encoding"),
    "chunk-of-2-to-64": (chunked(b"10000000000000001\r\n{\r\n0\r\n\r\n"), (400, 413), None),
    "chunk-without-hex": (chunked(b"-1\r\n{\r\n0\r\n\r\n"), 400, None),
    "chunks-too-large": (chunked(b"8000\r\n" + b" " * 0x8000 + b"\r\n8001\r\n" + b" " * 0x8001),
                         413, "body-too-large"),
    "two-hosts": (GET + b"Host: evil\r\n\r\n", 400, "host"),
    "no-host": (b"GET /health/protection HTTP/1.1\r\n\r\n", 400, "host"),
    "bare-lf": (b"GET /health/protection HTTP/1.1\nHost: localhost\n\n", 400, "line-end"),
    "nul-in-url": (b"GET /health/protection\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "nul"),
    "nul-encoded": (b"GET /health/protection%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "nul"),
    "space-before-colon": (GET + b"X : y\r\n\r\n", 400, "header-field"),
    "folded-field": (GET + b"X: y\r\n z\r\n\r\n", 400, "header-field"),
    "header-40-kb": (GET + b"X: " + b"a" * 40000 + b"\r\n\r\n", 431, "header-too-large"),
    "fields-1000": (GET + b"".join(b"X%d: y\r\n" % i for i in range(4000)) + b"\r\n", 431,
                    "header-too-large"),
    "http-2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http-version"),
    "random": (bytes(range(256)) * 4, 400, None),
    "traversal": (b"GET /ui/../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n"
                  b"Connection: close\r\n\r\n", 404, "not-found"),
    "traversal-encoded": (b"GET /ui/%2e%2e%2f%2e%2e%2fetc%2fpasswd HTTP/1.1\r\nHost: localhost\r\n"
                          b"Connection: close\r\n\r\n", 404, "not-found"),
    "traversal-twice-encoded": (b"GET /ui/%252e%252e%252fetc%252fpasswd HTTP/1.1\r\nHost: localhost"
                                b"\r\nConnection: close\r\n\r\n", 404, "not-found"),
    "traversal-behind-asset": (b"GET /ui/app.js/../../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n"
                               b"Connection: close\r\n\r\n", 404, "not-found"),
    "traversal-absolute": (b"GET /ui//etc/passwd HTTP/1.1\r\nHost: localhost\r\n"
                           b"Connection: close\r\n\r\n", 404, "not-found"),
    "traversal-backslash": (b"GET /ui/..\\..\\etc\\passwd HTTP/1.1\r\nHost: localhost\r\n"
                            b"Connection: close\r\n\r\n", 404, "not-found"),
    "asset-cut-by-nul": (b"GET /ui/app.js%00.png HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "nul"),
    # browsers
    "form-post": (POST.replace(b"application/json", b"text/plain") + b"Connection: close\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(CALL) + CALL, 415, "content-type"),
    "origin-null": (post(CALL, b"Origin: null\r\nConnection: close\r\n"), 403, "origin"),
    "origin-foreign": (post(CALL, b"Origin: https://evil.example\r\nConnection: close\r\n"), 403,
                       "origin"),
    "host-rebound": (post(CALL, b"Origin: https://evil.example\r\nConnection: close\r\n").replace(
        b"Host: localhost", b"Host: evil.example"), 403, "origin"),
    "preflight": (b"OPTIONS /licenses HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                  b"Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n",
                  405, "method"),
}


@pytest.fixture
def target(module_site):
    with unharmed(module_site) as site:
        yield site


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_bytes(target, name):
    data, expected, reason = ATTACKS[name]
    before = refused(target)
    answer = answer_to(target, data)
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    if isinstance(expected, int) and expected < 0:
        assert status == 200 and json.loads(body)["error"]["code"] == expected, answer[:300]
    else:
        assert status in (expected if isinstance(expected, tuple) else (expected,)), answer[:300]
        assert b"Cache-Control: no-store" in head and b"X-Content-Type-Options: nosniff" in head
        assert b"access-control" not in head.lower()
    if reason:
        assert refused(target).get(reason, 0) > before.get(reason, 0)
        assert f"reason={reason}" in target.server.text()


def trickle(site):
    s = connect(site)
    s.sendall(POST[:40])
    return s


def stop_in_body(site):
    s = connect(site)
    s.sendall(POST + b"Content-Length: 1000\r\n\r\n{")
    return s


def never_read(site):
    s = connect(site)
    s.sendall(post(CALL, b"") * 200)
    return s


def half_handshake(site):
    s = connect(site, handshake=False)
    s.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
    return s


CROWDS = {
    "silent-tcp": (5000 if HEAVY else 1000, lambda site: connect(site, handshake=False)),
    "silent-tls": (400, connect),
    "half-handshake": (5000 if HEAVY else 400, half_handshake),
    "slow-header": (400, trickle),
    "slow-body": (200, stop_in_body),
    "slow-read": (100, never_read),
}


@pytest.mark.parametrize("name", CROWDS)
def test_attack_by_many_connections(target, name):
    count, attack = CROWDS[name]
    crowd = []
    try:
        for i in range(count):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                crowd.append(attack(target))
            if i % 50 == 0:
                serve_good_client(target)
        for _ in range(5):
            serve_good_client(target)
    finally:
        for s in crowd:
            s.close()


def test_attack_half_handshake_is_ended(target):
    with half_handshake(target) as s:
        serve_good_client(target)
        s.settimeout(14)
        with contextlib.suppress(ConnectionError):
            assert s.recv(100) == b""
    wait_until(lambda: refused(target).get("handshake-timeout", 0) +
               refused(target).get("tls-handshake", 0) > 0, 2)


def test_attack_header_byte_by_byte_is_ended(target):
    """libmicrohttpd's own timeout counts silence only: this would be open for ever."""
    before = refused(target).get("header-timeout", 0)
    began = time.monotonic()
    with connect(target) as s:
        s.settimeout(1)
        closed = False
        for byte in (GET + b"X: y\r\n\r\n").ljust(200, b"a")[:30]:
            try:
                s.sendall(bytes([byte]))
                if s.recv(1) == b"":
                    closed = True
                    break
            except TimeoutError:
                continue
            except (ConnectionError, ssl.SSLError):
                closed = True
                break
        assert closed and 9 < time.monotonic() - began < 13
    assert refused(target).get("header-timeout", 0) > before


def test_attack_guessed_sessions(target):
    with contextlib.closing(target.client()) as client:
        session = client.request(modules="fc")["sessionId"]
        assert len(session) >= 32 and len(set(session)) > 4
        guesses = ["", "0" * len(session), session[:-1], session + "0", session.upper() + " ",
                   session[:-1] + ("0" if session[-1] != "0" else "1"), "../" + session, "%s%n"]
        guesses += [f"{i:032x}" for i in range(2000)]
        for first in range(0, len(guesses), 64):
            calls = [{"jsonrpc": "2.0", "id": i, "method": "RevalidateSessionV1",
                      "params": {"sessionId": g}}
                     for i, g in enumerate(guesses[first:first + 64])]
            for a in json.loads(client.post(calls)[2]):
                assert a["error"]["code"] == 1003 and a["error"]["data"]["reason"] == "unknown", a
        client.give_back(session)
        with pytest.raises(RpcError) as e:
            client.give_back(session)  # twice
        assert e.value.code == 1003 and e.value.data["reason"] == "returned"
        assert session not in target.server.text()


@pytest.mark.parametrize("options", [["-tls1"], ["-tls1_1"],
                                     ["-tls1_2", "-cipher", "eNULL:aNULL:@SECLEVEL=0"]])
def test_attack_weak_tls(target, options):
    if "-cipher" not in options:
        options = [*options, "-cipher", "ALL:@SECLEVEL=0"]
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{target.port}", *options],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    said = done.stdout + done.stderr
    assert done.returncode and b"Cipher is (NONE)" in said, said


def test_attack_renegotiation(target):
    """A client may not make us handshake again and again: the connection ends."""
    with subprocess.Popen(["openssl", "s_client", "-tls1_2", "-connect",
                           f"127.0.0.1:{target.port}"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        client.stdin.write(b"R\n")
        client.stdin.flush()
        client.wait(10)  # although its input is still open
        said = client.stdout.read()
    begun = said.partition(b"RENEGOTIATING")
    assert begun[1] and b"verify return" not in begun[2], said


if HEAVY:
    def test_attack_testssl(target, tmp_path):
        """Protocols, cipher categories and vulnerabilities by testssl.sh: nothing of weight."""
        found = tmp_path / "found.json"
        subprocess.run(["testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1",
                        "--jsonfile", found, "-p", "-s", "-U", f"localhost:{target.port}"],
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=600)
        findings = json.loads(found.read_text())
        tested = {f["id"] for f in findings}
        assert {"TLS1", "TLS1_1", "TLS1_2", "cipherlist_NULL", "heartbleed", "secure_renego",
                "LUCKY13"} <= tested, tested
        # What testssl.sh 3.0 makes of GnuTLS's TLS 1.3 is that it cannot tell.
        bad = [f for f in findings if f["severity"] not in ("OK", "INFO") and f["id"] != "TLS1_3"]
        assert not bad, bad
