"""berth-gateway against fake_backend.c: envelope, parameters, notifications and batches (api.md)."""

import contextlib
import time

import pytest
from berth import RpcError
from gateway_fixture import (  # noqa: F401 - fixtures
    BORROW_TOKEN, NONCE, REQUEST, call, client, gateway, single)

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
