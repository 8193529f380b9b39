"""berth-gateway against fake_backend.c: every rule of api.md that needs no license and no session."""

import contextlib
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import threading
import time

import pytest
from berth import BUILD, Client, Process, RpcError, free_port, make_tls_certificate, wait_until

BORROW_TOKEN = "borrow-token-0123456789"
ADMIN_TOKEN = "admin-token-0123456789"
REQUEST = {"feature": "F", "version": "24.11", "edition": "Steady", "modules": "fc1"}
NONCE = "AAECAwQFBgcICQoLDA0ODw=="


class Gateway:
    def __init__(self, folder, **settings):
        self.folder = folder
        self.port, self.admin_port = free_port(), free_port()
        make_tls_certificate(folder, ("localhost", "lic.example"))
        (folder / "borrow.token").write_text(BORROW_TOKEN + "\n")
        (folder / "admin.token").write_text(ADMIN_TOKEN + "\n")
        for name in ("borrow.token", "admin.token"):
            (folder / name).chmod(0o600)
        self.settings = settings
        self.backend = self.process = None

    def write_config(self):
        tree = {
            "serve": {"licenses": {"host": "127.0.0.1", "port": self.port,
                                   "tls": {"certificate": "tls.pem", "key": "tls.key"}},
                      "admin": {"host": "127.0.0.1", "port": self.admin_port}},
            "trust": {"vendor_ca": "none.pem", "server_license": "none"},  # not the gateway's
            "rpc": {n: f"ipc://{self.folder}/{n}" for n in ("pool", "trust", "borrow")},
        }
        for dotted, value in self.settings.items():
            *groups, last = dotted.split("__")
            node = tree
            for group in groups:
                node = node.setdefault(group, {})
            node[last] = value
        (self.folder / "config.yaml").write_text(json.dumps(tree))

    def start_backend(self):
        self.backend = Process([BUILD / "tests/component/fake_backend", self.folder],
                               self.folder / "backend.log")

    def start(self, env=None):
        self.write_config()
        self.start_backend()
        self.process = Process([BUILD / "berth-gateway", "-c", self.folder / "config.yaml"],
                               self.folder / "gateway.log", env)
        try:
            wait_until(self.ready, 10, "ready")
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.process.text()}") from None
        return self

    def ready(self):
        assert self.process.running(), self.process.text()
        with contextlib.closing(self.admin()) as a:
            return a.http("GET", "/health/ready")[0] == 200

    def client(self, **more):
        return Client(self.port, self.folder / "tls.pem", **more)

    def admin(self, token=None):
        return Client(self.admin_port, self.folder / "tls.pem", path="/admin", token=token)

    def switch(self, what):
        with contextlib.closing(self.admin(ADMIN_TOKEN)) as a:
            a.call("EndSessionV1", sessionId=what)

    def metric(self, line):
        with contextlib.closing(self.admin()) as a:
            text = a.http("GET", "/metrics")[2].decode()
        for row in text.splitlines():
            if row.startswith(line + " "):
                return float(row.split()[-1])
        return 0.0

    def stop(self):
        for p in (self.process, self.backend):
            if p:
                p.stop()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    g = Gateway(tmp_path_factory.mktemp("gateway"),
                serve__licenses__allowed_origins=["portal.example"]).start()
    yield g
    g.stop()


@pytest.fixture
def own(tmp_path):
    """Gateways of a test's own: own(setting=…)."""
    made = []

    def make(env=None, **settings):
        made.append(Gateway(tmp_path, **settings))
        return made[-1].start(env)
    yield make
    for g in made:
        g.stop()


@pytest.fixture
def client(gateway):
    with contextlib.closing(gateway.client()) as c:
        yield c


def single(client, body, headers=None):
    """(status, answer) of a body that is sent as it is."""
    status, _, answer = client.post(body if isinstance(body, bytes) else json.dumps(body).encode(),
                                    headers)
    return status, json.loads(answer) if answer else None


def call(method, params=None, **more):
    body = {"jsonrpc": "2.0", "method": method, **more}
    if params is not None:
        body["params"] = params
    return body


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


# ---- the envelope ----

DEEP = b"[" * 15 + b"]" * 15
DEEPER = b"[" * 16 + b"]" * 16
NOT_JSON = [
    b"", b" ", b"{", b"nul", b"{'a':1}", b"[1,]", b'{"a":1} x', b"\xef\xbb\xbf{}", b"\xff\xfe",
    b'{"jsonrpc":"2.0","id":1,"method":"\xc0\x80"}', b'{"a":"\\u0000"}', b'{"a":"\\ud800"}',
    b'{"jsonrpc":"2.0","id":1,"id":1,"method":"ListLicensesV1"}',
    b'{"jsonrpc":"2.0","id":1,"method":"ListLicensesV1","params":{"a":1,"\\u0061":2}}',
    b'{"a\x00":1}', b'[' * 100000, b'{"a":' + DEEPER + b"}", b"01", b"1e", b'"\t"', b"NaN",
]


@pytest.mark.parametrize("body", NOT_JSON, ids=[repr(b[:24]) for b in NOT_JSON])
def test_parse_error(client, body):
    if len(body) > 65536:
        body = body[:65536]
    status, answer = single(client, body)
    assert status == 200
    assert answer["jsonrpc"] == "2.0" and answer["id"] is None
    assert answer["error"]["code"] == -32700
    assert answer["error"]["message"]


def test_depth_sixteen_is_taken(client):
    body = b'{"jsonrpc":"2.0","id":1,"method":"ListLicensesV1","params":{"x":' + b"[" * 14 + \
        b"]" * 14 + b"}}"
    assert single(client, body)[1]["error"]["code"] == -32602
    body = b'{"jsonrpc":"2.0","id":1,"method":"ListLicensesV1","params":{"x":' + b"[" * 15 + \
        b"]" * 15 + b"}}"
    assert single(client, body)[1]["error"]["code"] == -32700


@pytest.mark.parametrize("body,id_", [
    (b"[]", None), (b"{}", None), (b"1", None), (b'"x"', None), (b"null", None), (b"true", None),
    (b'{"jsonrpc":"1.0","id":1,"method":"ListLicensesV1"}', 1),
    (b'{"jsonrpc":2.0,"id":1,"method":"ListLicensesV1"}', 1),
    (b'{"id":"a","method":"ListLicensesV1"}', "a"),
    (b'{"jsonrpc":"2.0","id":1}', 1), (b'{"jsonrpc":"2.0","id":1,"method":1}', 1),
    (b'{"jsonrpc":"2.0","id":1,"method":null}', 1),
    (b'{"jsonrpc":"2.0","method":1,"params":"bar"}', None),
    (b'{"jsonrpc":"2.0","id":{},"method":"ListLicensesV1"}', None),
    (b'{"jsonrpc":"2.0","id":[1],"method":"ListLicensesV1"}', None),
    (b'{"jsonrpc":"2.0","id":true,"method":"ListLicensesV1"}', None),
    (b'{"jsonrpc":"2.0","id":7,"method":"ListLicensesV1","params":"x"}', 7),
    (b'{"jsonrpc":"2.0","id":7,"method":"ListLicensesV1","params":null}', 7),
    (b'{"JSONRPC":"2.0","ID":7,"Method":"ListLicensesV1"}', None),
])
def test_invalid_request(client, body, id_):
    status, answer = single(client, body)
    assert (status, answer["id"], answer["error"]["code"]) == (200, id_, -32600)


@pytest.mark.parametrize("raw", [
    b"1", b"-0", b"1.0", b"1.50", b"1e3", b"1E+3", b"123456789012345678901234567890", b"null",
    b'""', b'"a\\u0062\\/c"', b'"\xc3\xbc<>&"', b"0.1", b"1e999",
])
def test_id_is_echoed_byte_for_byte(client, raw):
    for body in (b'{"jsonrpc":"2.0","id": ' + raw + b' ,"method":"ListLicensesV1"}',
                 b'{"method":"Nothing","\\u0069d":' + raw + b',"jsonrpc":"2.0"}'):
        _, _, answer = client.post(body)
        assert answer.startswith(b'{"jsonrpc":"2.0","id":' + raw + b',"'), answer


def test_method_not_found(client):
    for name in ("Nothing", "listlicensesv1", "ListLicensesV1 ", "", "ListSessionsV1", "rpc.x"):
        assert single(client, call(name, id=1))[1]["error"]["code"] == -32601


# ---- parameters ----

BAD_PARAMS = [
    ("ListLicensesV1", [], "params"), ("ListLicensesV1", ["F"], "params"),
    ("ListLicensesV1", {"x": 1}, "x"),
    ("RequestSessionV1", None, "feature"), ("RequestSessionV1", {}, "feature"),
    ("RequestSessionV1", {**REQUEST, "Feature": "F"}, "Feature"),
    ("RequestSessionV1", {**REQUEST, "feature": 1}, "feature"),
    ("RequestSessionV1", {**REQUEST, "feature": None}, "feature"),
    ("RequestSessionV1", {k: v for k, v in REQUEST.items() if k != "modules"}, "modules"),
    ("RequestSessionV1", {**REQUEST, "version": "x"}, "version"),
    ("RequestSessionV1", {**REQUEST, "version": ""}, "version"),
    ("RequestSessionV1", {**REQUEST, "version": "1.2.3.4.5"}, "version"),
    ("RequestSessionV1", {**REQUEST, "version": 24.11}, "version"),
    ("RequestSessionV1", {**REQUEST, "edition": "steady"}, "edition"),
    ("RequestSessionV1", {**REQUEST, "edition": "Steady-Progress"}, "edition"),
    ("RequestSessionV1", {**REQUEST, "modules": "cf"}, "modules"),
    ("RequestSessionV1", {**REQUEST, "modules": "ff"}, "modules"),
    ("RequestSessionV1", {**REQUEST, "modules": "x"}, "modules"),
    ("RequestSessionV1", {**REQUEST, "instanceId": "i" * 129}, "instanceId"),
    ("RequestSessionV1", {**REQUEST, "instanceId": 5}, "instanceId"),
    ("RequestSessionV1", {**REQUEST, "client": "me"}, "client"),
    ("RequestSessionV1", {**REQUEST, "client": []}, "client"),
    ("RequestSessionV1", {**REQUEST, "client": {"pid": 5}}, "client.pid"),
    ("RequestSessionV1", {**REQUEST, "client": {"address": "1.2.3.4"}}, "client.address"),
    ("RequestSessionV1", {**REQUEST, "client": {"user": "u" * 257}}, "client.user"),
    ("RequestSessionV1", {**REQUEST, "nonce": NONCE}, "instanceId"),
    ("RequestSessionV1", {**REQUEST, "nonce": NONCE, "instanceId": "i"}, "client.hostId"),
    ("RequestSessionV1", {**REQUEST, "nonce": NONCE, "instanceId": "i", "client": {}},
     "client.hostId"),
    ("RevalidateSessionV1", {}, "sessionId"), ("RevalidateSessionV1", {"sessionId": 1}, "sessionId"),
    ("RevalidateSessionV1", {"sessionId": "s", "nonce": "AAECAwQFBgcICQoLDA0O"}, "nonce"),
    ("RevalidateSessionV1", {"sessionId": "s", "nonce": "!" * 24}, "nonce"),
    ("RevalidateSessionV1", {"sessionId": "s", "nonce": NONCE.rstrip("=")}, "nonce"),
    ("RevalidateSessionV1", {"sessionId": "s", "nonce": "A" * 88}, "nonce"),
    ("RevalidateSessionV1", {"sessionId": "s", "nonce": "A" * 60000}, "nonce"),
    ("ReturnSessionV1", {"sessionId": "s", "x" * 5000: 1}, "x" * 64),
    ("ReturnSessionV1", {"sessionId": "s", "ü" * 60: 1}, "ü" * 32),
    ("ListBorrowedLicensesV1", {"a": 1}, "a"),
]


@pytest.mark.parametrize("method,params,field", BAD_PARAMS)
def test_invalid_params(client, method, params, field):
    status, answer = single(client, call(method, params, id=1))
    error = answer["error"]
    assert (status, error["code"], error["data"]["field"]) == (200, -32602, field)
    assert error["data"]["reason"]
    assert set(error["data"]) == {"field", "reason"}


@pytest.mark.parametrize("params,field", [
    ({"uuid": "u"}, "feature"), ({"validUntil": "tomorrow"}, "validUntil"),
    ({"validUntil": "2026-02-30"}, "validUntil"), ({"validUntil": 5}, "validUntil"),
    ({"validUntil": "2026-11-24T08:00:00"}, "validUntil"), ({"validFrom": ""}, "validFrom"),
    ({"x": "y"}, "x"),
])
def test_invalid_borrow_params(gateway, params, field):
    full = {"uuid": "u", "feature": "F", "hostId": "h", "validUntil": "2026-11-24"}
    body = params if field == "feature" else {**full, **params}
    with contextlib.closing(gateway.client(token=BORROW_TOKEN)) as c, pytest.raises(RpcError) as e:
        c.call("BorrowLicenseV1", **body)
    assert (e.value.code, e.value.data["field"]) == (-32602, field)


def test_params_at_their_limits(client):
    for more in ({"instanceId": "ü" * 128}, {"client": {"user": "ü" * 256}},
                 {"client": {}}, {"modules": ""}, {"modules": "fc123bdomit"},
                 {"version": "1"}, {"version": "24.11.1.0"}, {"edition": "Progress"}):
        client.call("RequestSessionV1", **{**REQUEST, **more})


# ---- results ----

def test_list_licenses(client):
    first, second = client.licenses()
    assert first["uuid"] == "u-<1>"
    assert set(first) == {"feature", "uuid", "version", "edition", "modules", "count", "available"}
    assert second == {
        "feature": "F", "uuid": "u-2", "version": "24.11", "edition": "Steady", "modules": "fc1",
        "count": 5, "available": 4, "validFrom": "2026-11-24T08:00:00Z",
        "validUntil": "2026-11-25T08:00:00Z", "borrowedIntervals": [
            {"validFrom": "2026-11-24T08:00:00Z", "validUntil": "2026-11-24T08:00:01Z",
             "hostId": "00:11:22:33:44:55"}]}


def test_session_results(client):
    session = client.call("RequestSessionV1", **REQUEST)
    assert set(session) == {"sessionId", "revalidateWithin", "license"}
    assert set(session["license"]) == {"feature", "uuid", "version", "edition", "modules"}
    assert session["license"]["uuid"] == "-|127.0.0.1|-"  # the peer's address was added
    assert client.revalidate("s") == {"revalidateWithin": 120}
    assert client.give_back("s") is None


def test_grant(client):
    session = client.call("RequestSessionV1", **REQUEST, nonce=NONCE, instanceId="i-1",
                          client={"hostId": "h-1", "hostname": "x", "user": "y", "pid": "1",
                                  "application": "z"})
    grant = {"payload": NONCE, "signature": "AQIDBA==", "delegation": "AQI=",
             "certificate": "-----BEGIN CERTIFICATE-----\n"}
    assert session["grant"] == grant
    assert session["license"]["uuid"] == "h-1|127.0.0.1|i-1"
    assert client.call("RevalidateSessionV1", sessionId="s", nonce=NONCE) == {
        "revalidateWithin": 120, "grant": grant}


def test_borrowed_results(gateway):
    times = {"validFrom": "2026-11-24T08:00:00Z", "validUntil": "2026-11-25T08:00:00Z"}
    listed = {"borrowId": "b-1", "uuid": "u-1", "feature": "F", "hostId": "00:11:22:33:44:55",
              "fileName": "license_borrowed_b-1.dat", **times}
    with contextlib.closing(gateway.client(token=BORROW_TOKEN)) as c:
        assert c.call("ListBorrowedLicensesV1") == [listed]
        assert c.call("GetBorrowedLicenseV1", borrowId="b-1") == {
            **listed, "license": "the file\nüñ\n"}
        for validity, expected in (
                ({"validFrom": "2026-11-24", "validUntil": "2026-11-25"},
                 ("2026-11-24T00:00:00Z", "2026-11-26T00:00:00Z")),
                ({"validFrom": "2026-11-24T09:00:00+01:00", "validUntil": "2026-11-24T23:00:00Z"},
                 ("2026-11-24T08:00:00Z", "2026-11-24T23:00:00Z")),
                ({"validUntil": "2026-11-25T00:00:00Z"},
                 ("1970-01-01T00:00:00Z", "2026-11-25T00:00:00Z"))):
            b = c.call("BorrowLicenseV1", uuid="u-1", feature="F", hostId="h", **validity)
            assert (b["validFrom"], b["validUntil"]) == expected


CONSIDERED = {"considered": [{"uuid": "u-1", "feature": "F", "reason": "version"}], "omitted": 3}
ERRORS = {
    1001: ("NoLicense", CONSIDERED), 1002: ("NoSeat", {**CONSIDERED, "retryAfter": 7}),
    1003: ("SessionInvalid", {"reason": "some-reason"}),
    1004: ("ServerNotLicensed", {"reason": "some-reason"}),
    1005: ("BorrowNotAllowed", {"reason": "some-reason"}),
    1006: ("BorrowPeriodInvalid", {"reason": "some-reason", "limit": "7 d"}),
    1007: ("BorrowNotAvailable", {"from": "2026-11-24T08:00:00Z", "until": "2026-11-25T08:00:00Z"}),
    1008: ("NotFound", {}), 1011: ("Unavailable", {"service": "pool"}),
}


@pytest.mark.parametrize("code", ERRORS)
def test_errors_of_the_others(client, code):
    name, data = ERRORS[code]
    status, answer = single(client, call("RequestSessionV1", {**REQUEST, "feature": f"code:{code}"},
                                         id=1))
    assert status == 200
    assert answer["error"] == {"code": code, "message": "what is wrong and what to do",
                               "data": {"name": name, **data}}


def test_other_codes_of_the_others(client):
    error = single(client, call("RequestSessionV1", {**REQUEST, "feature": "code:-32602"}, id=1))[1]
    assert error["error"]["data"] == {"field": "instanceId", "reason": "some-reason"}
    error = single(client, call("RequestSessionV1", {**REQUEST, "feature": "code:4711"}, id=1))[1]
    assert error["error"]["code"] == -32603 and "data" not in error["error"]


# ---- notifications and batches ----

def counts(client):
    first = client.licenses()[0]
    return first["count"], first["available"]


def test_notifications(gateway):
    with contextlib.closing(gateway.client(token=BORROW_TOKEN)) as c:
        before = counts(c)
        borrow = {"uuid": "u", "feature": "F", "hostId": "h", "validUntil": "2026-11-25"}
        for body in (call("RequestSessionV1", REQUEST), call("BorrowLicenseV1", borrow),
                     call("Nothing"), call("ReturnSessionV1", {}), call("ReturnSessionV1", [1]),
                     [call("RequestSessionV1", REQUEST), call("ListLicensesV1")]):
            status, _, answer = c.post(body)
            assert (status, answer) == (204, b"")
        assert counts(c) == before
        status, _, answer = c.post(call("ReturnSessionV1", {"sessionId": "s"}))
        assert (status, answer) == (204, b"")
        assert counts(c) == (before[0], before[1] + 1)  # carried out before it was answered


def test_batch(client):
    status, answers = single(client, [
        call("RevalidateSessionV1", {"sessionId": "later:300"}, id=1),
        call("RevalidateSessionV1", {"sessionId": "later:10"}, id="two"),
        call("ReturnSessionV1", {"sessionId": "s"}),
        1, {"foo": "boo"}, call("Nothing", id=5), call("ReturnSessionV1", [], id=6),
        call("RevalidateSessionV1", {"sessionId": "code:1003"}, id=None),
        call("GetBorrowedLicenseV1", {"borrowId": "b"}, id=8)])
    assert status == 200
    assert [(a["id"], a.get("error", {}).get("code")) for a in answers] == [
        (1, None), ("two", None), (None, -32600), (None, -32600), (5, -32601), (6, -32602),
        (None, 1003), (8, 1009)]


def test_batch_calls_are_out_at_the_same_time(client):
    started = time.monotonic()
    _, answers = single(client, [call("RevalidateSessionV1", {"sessionId": "later:500"}, id=i)
                                 for i in range(64)])
    assert [a["id"] for a in answers] == list(range(64))
    assert time.monotonic() - started < 3


def test_batch_sizes(client):
    one = call("ListLicensesV1", id=1)
    assert len(single(client, [one] * 64)[1]) == 64
    for n in (65, 900):
        status, answer = single(client, [one] * n)
        assert (status, answer["id"], answer["error"]["code"]) == (200, None, -32600)
    status, answers = single(client, [one])
    assert isinstance(answers, list) and len(answers) == 1


# ---- tokens ----

@pytest.mark.parametrize("authorization", [
    None, "Bearer", "Bearer ", "Bearer wrong", f"Basic {BORROW_TOKEN}", BORROW_TOKEN,
    f"Bearer {BORROW_TOKEN}x", f"Bearer {BORROW_TOKEN[:-1]}", f"Bearer {ADMIN_TOKEN}"])
def test_borrowing_needs_the_token(client, authorization):
    borrow = {"uuid": "u", "feature": "F", "hostId": "h", "validUntil": "2026-11-25"}
    headers = {"Authorization": authorization} if authorization is not None else {}
    for body in (call("BorrowLicenseV1", borrow, id=1), call("BorrowLicenseV1", {}, id=1),
                 call("GetBorrowedLicenseV1", {"borrowId": "b"}, id=1)):
        status, head, answer = client.post(body, headers)
        error = json.loads(answer)["error"]
        assert (status, error["code"], error["data"]) == (401, 1009, {"name": "Unauthorized"})
        assert head["WWW-Authenticate"].startswith("Bearer")
    assert client.call("ListBorrowedLicensesV1")


def test_borrow_open(own):
    g = own(borrow__open=True)
    with contextlib.closing(g.client()) as c:
        assert c.call("BorrowLicenseV1", uuid="u", feature="F", hostId="h",
                      validUntil="2026-11-25")["borrowId"] == "b-1"


def test_admin_needs_the_token(gateway):
    for token in (None, "wrong", BORROW_TOKEN):
        with contextlib.closing(gateway.admin(token)) as a:
            for body in (call("ListSessionsV1", id=1), call("EndSessionV1", {"sessionId": "x"}, id=1),
                         call("Nothing", id=1)):
                status, answer = single(a, body)
                assert (status, answer["error"]["code"]) == (401, 1009)
            status, answers = single(a, [call("ListSessionsV1", id=1)])
            assert (status, answers[0]["error"]["code"]) == (200, 1009)
    with contextlib.closing(gateway.admin(ADMIN_TOKEN)) as a:
        assert single(a, call("ListLicensesV1", id=1))[1]["error"]["code"] == -32601


def test_admin_methods(gateway):
    license_ = {"feature": "F", "uuid": "u-1", "version": "24.11", "edition": "Steady",
                "modules": "fc1"}
    with contextlib.closing(gateway.admin(ADMIN_TOKEN)) as a:
        sessions = a.call("ListSessionsV1")  # in three pages
        assert [s["sessionId"] for s in sessions] == ["s-0", "s-1", "s-2"]
        assert sessions[0] == {
            "sessionId": "s-0", "license": license_,
            "client": {"hostname": "host", "address": "127.0.0.1"},
            "since": "2026-11-24T08:00:00Z", "lastSeen": "2026-11-24T08:00:01Z",
            "expires": "2026-11-24T08:00:02Z"}
        assert sessions[1]["client"] == {}
        assert a.call("EndSessionV1", sessionId="s-1") is None
        with pytest.raises(RpcError) as e:
            a.call("EndSessionV1", sessionId="code:1003")
        assert e.value.code == 1003
        gateway.switch("pages:huge")
        with pytest.raises(RpcError) as e:
            a.call("ListSessionsV1")
        assert e.value.code == -32603
        gateway.switch("pages:few")
        assert len(a.call("ListSessionsV1")) == 3


def test_slow_pages_end_within_five_seconds(own):
    g = own()
    g.switch("pages:slow")
    with contextlib.closing(g.admin(ADMIN_TOKEN)) as a:
        started = time.monotonic()
        with pytest.raises(RpcError) as e:
            a.call("ListSessionsV1")
        assert 3 < time.monotonic() - started < 5
        assert (e.value.code, e.value.data["service"]) == (1011, "pool")
        g.switch("pages:few")
        assert len(a.call("ListSessionsV1")) == 3
    wait_until(lambda: g.metric('berth_rpc_calls_total{peer="pool"}') >= 6, 5, "late page")


def test_tokens_are_made(own, tmp_path):
    g = own(borrow__token_file="made.token", serve__admin__token_file="made-admin.token")
    for name in ("made.token", "made-admin.token"):
        path = tmp_path / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        token = path.read_text().strip()
        assert len(token) >= 32
        assert str(path) in g.process.text()
        assert token not in g.process.text()
    with contextlib.closing(g.admin((tmp_path / "made-admin.token").read_text().strip())) as a:
        assert a.call("ListSessionsV1")
    assert not list(tmp_path.glob("*.new.*"))


@pytest.mark.parametrize("content", ["", "with blank in the middle", "x" * 2000])
def test_bad_token_file_is_refused(tmp_path, content):
    g = Gateway(tmp_path)
    (tmp_path / "borrow.token").write_text(content)
    g.write_config()
    done = subprocess.run([BUILD / "berth-gateway", "-c", tmp_path / "config.yaml"],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 78
    assert "borrow.token" in done.stdout + done.stderr


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

def protection(g):
    with contextlib.closing(g.client()) as c:
        status, headers, body = c.http("GET", "/health/protection")
    assert status == 200 and headers["Content-Type"] == "application/json"
    return json.loads(body)


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


# ---- others away, reload, end ----

def test_silent_pool_is_1011_within_five_seconds(gateway):
    with contextlib.closing(gateway.client()) as c:
        started = time.monotonic()
        with pytest.raises(RpcError) as e:
            c.call("RequestSessionV1", **{**REQUEST, "feature": "silent"})
        assert time.monotonic() - started < 5
        assert (e.value.code, e.value.data) == (1011, {"name": "Unavailable", "service": "pool"})


def test_backend_dies_and_comes_back(own):
    g = own()
    with contextlib.closing(g.client()) as c:
        with pytest.raises(RpcError) as e:
            c.call("RequestSessionV1", **{**REQUEST, "feature": "die"})
        assert e.value.code == 1011
        g.backend.wait()
        started = time.monotonic()
        for _ in range(3):
            with pytest.raises(RpcError) as e:
                c.revalidate("s")
            assert e.value.code == 1011
        with pytest.raises(RpcError) as e:
            c.call("ListBorrowedLicensesV1")
        assert e.value.data == {"name": "Unavailable", "service": "borrow"}
        assert time.monotonic() - started < 20
        g.start_backend()
        wait_until(g.ready, 3, "ready again")
        assert c.revalidate("s") == {"revalidateWithin": 120}


def test_client_that_leaves_while_its_call_is_out(gateway):
    body = json.dumps(call("RevalidateSessionV1", {"sessionId": "later:300"}, id=1)).encode()
    context = ssl.create_default_context(cafile=str(gateway.folder / "tls.pem"))
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", gateway.port), 5) as raw:
            with context.wrap_socket(raw, server_hostname="localhost") as s:
                s.sendall(b"POST /licenses HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/"
                          b"json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    with contextlib.closing(gateway.client()) as c:
        assert c.revalidate("later:600") == {"revalidateWithin": 1}
    assert gateway.process.running()


def fingerprint(port):
    context = ssl._create_unverified_context()
    with socket.create_connection(("127.0.0.1", port), 5) as raw:
        with context.wrap_socket(raw, server_hostname="localhost") as s:
            return s.getpeercert(True)


def test_reload(own, tmp_path):
    g = own()
    old_ca = (tmp_path / "tls.pem").read_bytes()
    (tmp_path / "old.pem").write_bytes(old_ca)
    open_client = Client(g.port, tmp_path / "old.pem")
    open_client.revalidate("s")
    before = fingerprint(g.port)
    make_tls_certificate(tmp_path, ("localhost",))
    (tmp_path / "borrow.token").write_text("another-token-0123456789")
    g.settings.update(limits__calls_per_second=1000)
    g.write_config()
    os.kill(g.process.pid, signal.SIGHUP)
    wait_until(lambda: fingerprint(g.port) != before, 5, "new certificate")
    assert fingerprint(g.admin_port) == fingerprint(g.port)
    assert open_client.revalidate("s") == {"revalidateWithin": 120}  # the old connection lives
    open_client.close()
    with contextlib.closing(g.client(token="another-token-0123456789")) as c:
        assert c.call("GetBorrowedLicenseV1", borrowId="b-1")
    now = fingerprint(g.port)
    (tmp_path / "tls.pem").write_text("nonsense")
    os.kill(g.process.pid, signal.SIGHUP)
    wait_until(lambda: "reload" in g.process.text() and "tls" in g.process.text(), 5, "refusal")
    assert fingerprint(g.port) == now == fingerprint(g.admin_port)


def test_replaced_secrets_are_taken_over_without_a_signal(own, tmp_path):
    """As Kubernetes replaces mounted secrets: a link above the files is swapped."""
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        make_tls_certificate(tmp_path / version, ("localhost",))
    (tmp_path / "data").symlink_to("one")
    for name in ("tls.pem", "tls.key"):
        (tmp_path / name).symlink_to(f"data/{name}")
    g = own()
    before = fingerprint(g.port)
    expiry = g.metric('berth_tls_certificate_expiry_seconds{listener="licenses"}')
    assert 29 * 86400 < expiry <= 30 * 86400
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "data")
    wait_until(lambda: fingerprint(g.port) != before, 20, "new certificate")
    now = fingerprint(g.port)
    assert fingerprint(g.admin_port) == now
    assert g.metric('berth_tls_reloads_total{outcome="ok"}') == 1
    (tmp_path / "two" / "tls.key").write_bytes((tmp_path / "one" / "tls.key").read_bytes())
    wait_until(lambda: g.metric('berth_tls_reloads_total{outcome="refused"}') == 1, 20, "refusal")
    assert "secrets.refused" in g.process.text()
    assert fingerprint(g.port) == now
    (tmp_path / "borrow.token").write_text("yet-another-token-0123456789")
    (tmp_path / "two" / "tls.pem").write_bytes((tmp_path / "one" / "tls.pem").read_bytes())
    wait_until(lambda: fingerprint(g.port) == before, 20, "the first pair is back")
    with contextlib.closing(g.client(token="yet-another-token-0123456789")) as c:
        assert c.call("GetBorrowedLicenseV1", borrowId="b-1")


def test_reload_of_limits(own):
    g = own()
    g.settings.update(limits__connections_per_address=3)
    g.write_config()
    os.kill(g.process.pid, signal.SIGHUP)

    def refused():  # or an idle one is closed for it: the count tells
        with contextlib.ExitStack() as stack, contextlib.suppress(ConnectionError, ssl.SSLError):
            for _ in range(6):
                stack.enter_context(contextlib.closing(g.client())).revalidate("s")
        return g.metric('berth_http_refused_total{reason="connections-per-address"}') > 0
    wait_until(refused, 5, "the fourth connection is one too many")


def test_stop_answers_what_is_in_flight(own):
    g = own()
    answers = []

    def run():
        with contextlib.closing(g.client()) as c:
            answers.append(c.revalidate("later:1500"))
    with contextlib.closing(g.client()) as idle:
        idle.revalidate("s")
        thread = threading.Thread(target=run)
        thread.start()
        wait_until(lambda: g.metric('berth_http_connections{listener="licenses"}') >= 2, 5, "in")
        wait_until(lambda: g.metric('berth_rpc_calls_total{peer="pool"}') >= 2, 5, "call is out")
        started = time.monotonic()
        assert g.process.stop() == 0
        assert time.monotonic() - started < 5.5
        thread.join()
    assert answers == [{"revalidateWithin": 1}]


def test_without_admin(own, tmp_path):
    g = Gateway(tmp_path)
    (tmp_path / "admin.token").unlink()
    g.write_config()
    g.start_backend()
    process = Process([BUILD / "berth-gateway", "-c", tmp_path / "config.yaml"],
                      tmp_path / "gateway.log", {"BERTH_SERVE_ADMIN_OFF": "1"})
    try:
        wait_until(lambda: protection(g)["valid_license"], 5, "serves")
        with pytest.raises(ConnectionError):
            socket.create_connection(("127.0.0.1", g.admin_port), 1)
        assert not (tmp_path / "admin.token").exists()
    finally:
        assert process.stop() == 0
        g.backend.stop()


def test_unbatched(own):
    g = own(env={"BERTH_RPC_UNBATCHED": "1"})
    with contextlib.closing(g.client()) as c:
        for _ in range(20):
            c.revalidate("s")


def test_no_secret_in_the_log(gateway):
    text = gateway.process.text()
    assert BORROW_TOKEN not in text and ADMIN_TOKEN not in text
    assert "request.refused" in text
