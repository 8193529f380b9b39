"""berth-gateway against fake_backend.c: the rules of HTTP, health, limits (api.md)."""

import contextlib
import json
import socket
import subprocess

import pytest
from berth import BUILD, RpcError, wait_until
from gateway_fixture import (  # noqa: F401 - fixtures
    ADMIN_TOKEN, call, client, gateway, own, protection)

# ---- HTTP ----

@pytest.mark.parametrize("method,path,status,allow", [
    ("GET", "/", 404, None), ("POST", "/license", 404, None), ("GET", "/health/alive", 404, None),
    ("GET", "/metrics", 404, None), ("POST", "/admin", 404, None), ("GET", "/ui/../config", 404, None),
    ("GET", "/licenses", 405, "POST"), ("PUT", "/licenses", 405, "POST"),
    ("DELETE", "/licenses", 405, "POST"), ("OPTIONS", "/licenses", 405, "POST"),
    ("POST", "/health/protection", 405, "GET, HEAD"),
])
def test_paths_and_methods(client, method, path, status, allow):
    got, headers, _ = client.http(method, path)
    assert got == status
    assert headers.get("Allow") == allow


@pytest.mark.parametrize("content_type,status", [
    ("application/json", 200), ("Application/JSON; charset=UTF-8", 200),
    ('application/json;charset="utf-8"', 200), ("application/json; charset=latin1", 415),
    ("text/plain", 415), ("application/jsonx", 415), ("application/x-www-form-urlencoded", 415),
    ("", 415), ("application/json; charset=utf-8; x=y", 415),
])
def test_content_type(client, content_type, status):
    body = json.dumps(call("ListLicensesV1", id=1)).encode()
    assert client.post(body, {"Content-Type": content_type})[0] == status


def test_no_content_type(gateway):
    body = json.dumps(call("ListLicensesV1", id=1)).encode()
    with contextlib.closing(gateway.client()) as c:
        assert c.http("POST", "/licenses", body)[0] == 415


def test_body_limit(gateway):
    body = json.dumps(call("ListLicensesV1", id=1)).encode()
    for size, status in ((65535, 200), (65536, 200), (65537, 413), (1000000, 413)):
        with contextlib.closing(gateway.client()) as c:
            assert c.post(body + b" " * (size - len(body)))[0] == status, size


def test_headers_of_every_answer(gateway):
    with contextlib.closing(gateway.client()) as c, contextlib.closing(gateway.admin()) as a:
        for who, method, path, body in (
                (c, "POST", "/licenses", b"{}"), (c, "GET", "/health/protection", None),
                (c, "GET", "/nothing", None), (c, "PUT", "/licenses", b""),
                (a, "GET", "/metrics", None), (a, "GET", "/health/ready", None)):
            _, headers, _ = who.http(method, path, body, {"Content-Type": "application/json"})
            assert headers["Cache-Control"] == "no-store"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert not [h for h in headers if h.lower().startswith("access-control")]


@pytest.mark.parametrize("origin,status", [
    ("https://localhost", 200), ("https://LOCALHOST:22022", 200), ("https://lic.example:8443", 200),
    ("https://127.0.0.1:22022", 200), ("https://portal.example", 200),
    ("https://evil.example", 403), ("null", 403), ("", 403), ("https://", 403),
    ("https://localhost.evil.example", 403), ("https://evil.example/localhost", 403),
    ("https://localhost@evil.example", 403), ("localhost", 403), ("https://xlocalhost", 403),
])
def test_origin(gateway, origin, status):
    body = json.dumps(call("ListLicensesV1", id=1)).encode()
    with contextlib.closing(gateway.client()) as c, contextlib.closing(gateway.admin()) as a:
        assert c.post(body, {"Origin": origin})[0] == status
        assert c.http("GET", "/health/protection", headers={"Origin": origin})[0] == status
        assert (a.http("GET", "/metrics", headers={"Origin": origin})[0] == 403) == (status == 403)


def test_plain_http_is_closed(gateway):
    with socket.create_connection(("127.0.0.1", gateway.port), 5) as s:
        s.sendall(b"GET /health/protection HTTP/1.1\r\nHost: localhost\r\n\r\n")
        s.settimeout(5)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while chunk := s.recv(4096):
                answer += chunk
        assert b"HTTP" not in answer


# ---- limits ----

def test_rate_limit(own):
    g = own(limits__calls_per_second=2, limits__burst=3)
    body = call("RevalidateSessionV1", {"sessionId": "s"}, id=1)
    with contextlib.closing(g.client()) as c:
        assert [c.post(body)[0] for _ in range(3)] == [200] * 3
        status, headers, answer = c.post(body)
        error = json.loads(answer)["error"]
        assert (status, error["code"]) == (429, 1010)
        assert error["data"] == {"name": "RateLimited", "retryAfter": 1}
        assert headers["Retry-After"] == "1"
        status, headers, answer = c.post([body] * 5)
        assert status == 200 and "Retry-After" not in headers
        assert [a["error"]["code"] for a in json.loads(answer)][-1] == 1010
        assert c.post(b"{")[0] == 429
        assert c.http("GET", "/health/protection")[0] == 200  # no call
        wait_until(lambda: c.post(body)[0] == 200, 3, "the bucket fills")
    with contextlib.closing(g.admin(ADMIN_TOKEN)) as a:
        for _ in range(10):
            a.call("ListSessionsV1")


# ---- health ----

def test_protection_and_ready(own):
    g = own()
    valid = {"valid_license": True, "state": "valid", "variant": "cloud-ready",
             "server_id": "SRV-1", "reason": "", "addons": ["borrow"]}
    assert protection(g) == valid
    g.switch("verdict:grace")
    wait_until(lambda: protection(g) == {**valid, "state": "grace", "reason": "backend-unreachable",
                                         "grace_seconds_left": 1234}, 5, "grace")
    g.switch("verdict:invalid")
    wait_until(lambda: protection(g) == {**valid, "valid_license": False, "state": "invalid",
                                         "reason": "revoked"}, 5, "invalid")
    g.switch("verdict:silent")
    nothing = {"valid_license": False, "state": "invalid", "variant": None, "server_id": None,
               "reason": "trust unavailable", "grace_seconds_left": None, "addons": None}
    wait_until(lambda: protection(g) == nothing, 6, "stale")
    with contextlib.closing(g.admin()) as a:
        status, _, body = a.http("GET", "/health/ready")
        assert status == 503
        conditions = {c["name"]: c for c in json.loads(body)["conditions"]}
        assert conditions["pool"] == {"name": "pool", "ok": True, "reason": ""}
        assert not conditions["trust"]["ok"] and conditions["trust"]["reason"]
        assert a.http("GET", "/health/alive")[0] == 200
    done = subprocess.run([BUILD / "berth-gateway", "health", "-c", g.folder / "config.yaml"],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "trust" in done.stdout + done.stderr
    g.switch("verdict:valid")
    wait_until(g.ready, 5, "ready again")
    assert subprocess.run([BUILD / "berth-gateway", "health", "-c", g.folder / "config.yaml"],
                          timeout=20).returncode == 0


def test_metrics(gateway, client):
    name = 'berth_requests_total{method="RevalidateSessionV1",outcome="%s"}'
    before = gateway.metric(name % "ok"), gateway.metric(name % "SessionInvalid")
    client.revalidate("s")
    with pytest.raises(RpcError):
        client.revalidate("code:1003")
    assert gateway.metric(name % "ok") == before[0] + 1
    assert gateway.metric(name % "SessionInvalid") == before[1] + 1
    assert gateway.metric('berth_rpc_connected{peer="pool"}') == 1
    with contextlib.closing(gateway.admin()) as a:
        text = a.http("GET", "/metrics")[2].decode()
    assert "berth_build_info" in text and "berth_request_duration_seconds_bucket" in text
    with contextlib.suppress(FileNotFoundError):
        done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                              capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
