"""[W1]: HTTP and JSON-RPC as api.md says, against the running server; and bad input."""

import json
import socket
import ssl

import pytest
from berth import wait_until

OK = {"jsonrpc": "2.0", "id": 1, "method": "ListLicensesV1"}


@pytest.fixture
def client(module_site):
    client = module_site.client()
    yield client
    client.close()


def error(answer):
    status, _, body = answer
    assert status == 200, answer
    return json.loads(body)["error"]


def raw(site, data, port=None, seconds=10):
    """Sends bytes over TLS and reads until the server closes; what it said."""
    context = ssl.create_default_context(cafile=str(site.folder / "tls.pem"))
    with socket.create_connection(("127.0.0.1", port or site.port), 5) as plain:
        plain.settimeout(seconds)
        with context.wrap_socket(plain, server_hostname="localhost") as s:
            s.sendall(data)
            got = b""
            try:
                while chunk := s.recv(65536):
                    got += chunk
            except (ConnectionError, ssl.SSLError):
                pass
            return got


@pytest.mark.parametrize("body", [
    b"", b"{", b"[1,", b'{"jsonrpc":"2.0","id":1,"method":"ListLicensesV1"} x', b"\xff\xfe",
    b'{"a":"\xc3\x28"}', b'{"a":1,"a":2}', b'{"a":"\\ud800"}', b'{"a":"\\u0000"}', b"\xef\xbb\xbf{}",
    b"[" * 17 + b"]" * 17, b"[" * 60000, b"nul", b'{"id":01}', b"\x00", b"{'a':1}",
    b'{"a":1,"\\u0061":2}'])
def test_not_json(client, body):
    e = error(client.post(body))
    assert e["code"] == -32700


@pytest.mark.parametrize("body", [
    b"[]", b"1", b'"x"', b"null", b"{}", b'{"jsonrpc":"1.0","id":1,"method":"ListLicensesV1"}',
    b'{"jsonrpc":"2.0","id":1}', b'{"jsonrpc":"2.0","id":1,"method":7}',
    b'{"jsonrpc":"2.0","id":[1],"method":"ListLicensesV1"}',
    json.dumps([OK] * 65).encode()])
def test_bad_envelope(client, body):
    assert error(client.post(body))["code"] == -32600


def test_unknown_method(client):
    e = error(client.post({**OK, "method": "ListLicensesV2"}))
    assert e["code"] == -32601
    assert error(client.post({**OK, "method": "ListSessionsV1"}))["code"] == -32601


@pytest.mark.parametrize("params,field", [
    ({}, "feature"), ({"feature": "F"}, "version"),
    ({"feature": 1, "version": "1", "edition": "Steady", "modules": ""}, "feature"),
    ({"feature": "F", "version": "x", "edition": "Steady", "modules": ""}, "version"),
    ({"feature": "F", "version": "1.2.3.4.5", "edition": "Steady", "modules": ""}, "version"),
    ({"feature": "F", "version": "1", "edition": "Steady-Progress", "modules": ""}, "edition"),
    ({"feature": "F", "version": "1", "edition": "Steady", "modules": "cf"}, "modules"),
    ({"feature": "F", "version": "1", "edition": "Steady", "modules": "ff"}, "modules"),
    ({"feature": "F", "version": "1", "edition": "Steady", "modules": "", "more": 1}, "more"),
    ({"feature": "F", "version": "1", "edition": "Steady", "modules": "", "instanceId": "x" * 129},
     "instanceId"),
    ({"feature": "F", "version": "1", "edition": "Steady", "modules": "", "client": []}, "client"),
    ({"feature": "F", "version": "1", "edition": "Steady", "modules": "",
      "client": {"hostname": "x" * 257}}, "client.hostname"),
    ({"feature": "F", "version": "1", "edition": "Steady", "modules": "",
      "client": {"colour": "red"}}, "client.colour"),
    ({"feature": "F", "version": "1", "edition": "Steady", "modules": "", "nonce": "!"}, "nonce"),
    ({"feature": "F", "version": "1", "edition": "Steady", "modules": "",
      "nonce": "AAAAAAAAAAAAAAAAAAAAAA=="}, "instanceId"),
])
def test_bad_params(client, params, field):
    e = error(client.post({"jsonrpc": "2.0", "id": 1, "method": "RequestSessionV1",
                           "params": params}))
    assert e["code"] == -32602 and e["data"]["field"] == field and e["data"]["reason"]


def test_params_by_position_are_refused(client):
    assert error(client.post({**OK, "method": "ReturnSessionV1", "params": ["x"]}))["code"] == -32602
    assert error(client.post({**OK, "params": {"x": 1}}))["code"] == -32602


@pytest.mark.parametrize("raw_id", ["1", "1.0", "-0", "1e400", "123456789012345678901234567890",
                                    '"a\\u0062\\/"', "null", '"ä€😀"'])
def test_id_is_echoed_byte_for_byte(client, raw_id):
    body = f'{{"jsonrpc":"2.0","id": {raw_id} ,"method":"ListLicensesV1"}}'.encode()
    _, _, answer = client.post(body)
    assert f'"id":{raw_id}'.encode() in answer.replace(b'"id": ', b'"id":'), answer


def test_batch(client):
    calls = [{**OK, "id": 1}, {"jsonrpc": "2.0", "id": 2, "method": "nope"}, 3,
             {"jsonrpc": "2.0", "method": "ListLicensesV1"},
             {"jsonrpc": "2.0", "id": "z", "method": "RevalidateSessionV1",
              "params": {"sessionId": "x"}}]
    status, _, body = client.post(calls)
    answers = json.loads(body)
    assert status == 200 and [a["id"] for a in answers] == [1, 2, None, "z"]
    assert "result" in answers[0]
    assert [a["error"]["code"] for a in answers[1:]] == [-32601, -32600, 1003]
    status, _, body = client.post([{k: v for k, v in OK.items() if k != "id"}] * 3)
    assert (status, body) == (204, b"")


def test_notifications(client):
    note = {k: v for k, v in OK.items() if k != "id"}
    assert client.post(note)[0] == 204
    free = client.licenses()[0]["available"]
    assert client.post({"jsonrpc": "2.0", "method": "RequestSessionV1", "params": {
        "feature": "F", "version": "24.11", "edition": "Steady", "modules": "fc"}})[0] == 204
    assert client.licenses()[0]["available"] == free
    # A notification that returns a session is carried out.
    session = client.request(modules="fc")["sessionId"]
    assert client.post({"jsonrpc": "2.0", "method": "ReturnSessionV1",
                        "params": {"sessionId": session}})[0] == 204
    wait_until(lambda: client.licenses()[0]["available"] == free, 3)


def test_http_rules(module_site, client):
    status, headers, body = client.post(OK)
    assert status == 200 and headers["Content-Type"].startswith("application/json")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert not [h for h in headers if h.lower().startswith("access-control")]
    assert client.http("GET", "/nothing")[0] == 404
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        status, headers, _ = client.http(method, "/licenses")
        assert status == 405 and "POST" in headers["Allow"], method
    assert client.http("POST", "/health/protection", b"")[0] == 405
    assert client.post(OK, {"Content-Type": "text/plain"})[0] == 415
    assert client.post(OK, {"Content-Type": "application/json; charset=utf-8"})[0] == 200
    assert client.http("GET", "/metrics")[0] == 404  # not on the public port
    assert client.http("GET", "/admin")[0] == 404


def test_size_limit(client):
    body = json.dumps(OK).encode()
    assert client.post(body + b" " * (65536 - len(body)))[0] == 200
    assert client.post(body + b" " * (65537 - len(body)))[0] == 413
    client.close()
    assert client.post(OK)[0] == 200


@pytest.mark.parametrize("size", [1000, 4000, 8000, 16000, 32000, 60000])
def test_ladder_of_sizes(client, size):
    body = json.dumps(OK).encode()
    assert client.post(body + b" " * (size - len(body)))[0] == 200
    if size <= 4000:
        assert client.post(OK, {"X-Padding": "x" * size})[0] == 200


def test_origin(client):
    assert client.post(OK, {"Origin": "https://localhost:1234"})[0] == 200
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        assert client.post(OK, {"Origin": origin})[0] == 403, origin


SMUGGLING = {
    "two lengths": b"POST /licenses HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                   b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "length and chunked": b"POST /licenses HTTP/1.1\r\nHost: localhost\r\n"
                          b"Content-Type: application/json\r\nContent-Length: 2\r\n"
                          b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two hosts": b"GET /health/protection HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
    "bare LF": b"GET /health/protection HTTP/1.1\nHost: localhost\n\n",
    "NUL in URL": b"GET /health/protection\x00x HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("form", SMUGGLING)
def test_smuggling_forms_are_refused(module_site, form):
    answer = raw(module_site, SMUGGLING[form])
    assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]


def test_plain_http_to_the_tls_port_is_closed(module_site):
    with socket.create_connection(("127.0.0.1", module_site.port), 5) as s:
        s.settimeout(10)
        s.sendall(b"GET /health/protection HTTP/1.1\r\nHost: localhost\r\n\r\n")
        got = b""
        try:
            while chunk := s.recv(4096):
                got += chunk
        except ConnectionError:
            pass
        assert not got.startswith(b"HTTP")


@pytest.mark.parametrize("version,good", [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
def test_tls_versions(module_site, version, good):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(str(module_site.folder / "tls.pem"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
    with socket.create_connection(("127.0.0.1", module_site.port), 5) as plain:
        plain.settimeout(5)
        try:
            with context.wrap_socket(plain, server_hostname="localhost"):
                assert good
        except (ssl.SSLError, ConnectionError):
            assert not good


def test_admin_needs_the_token(module_site):
    site = module_site
    call = {"jsonrpc": "2.0", "id": 1, "method": "ListSessionsV1"}
    for token in (None, "wrong", ""):
        admin = site.admin(token)
        status, _, body = admin.post(call)
        assert status == 401 and json.loads(body)["error"]["code"] == 1009
        admin.close()
    client = site.client()
    session = client.request(modules="fc", client={"hostname": "h1", "user": "u1"})["sessionId"]
    admin = site.admin(site.admin_token())
    rows = {s["sessionId"]: s for s in admin.call("ListSessionsV1")}
    row = rows[session]
    assert row["client"]["hostname"] == "h1" and row["license"]["feature"] == "F"
    assert row["since"].endswith("Z") and row["lastSeen"] and row["expires"] > row["since"]
    assert admin.call("EndSessionV1", sessionId=session) is None
    from berth import RpcError
    with pytest.raises(RpcError) as e:
        client.revalidate(session)
    assert e.value.code == 1003 and e.value.data["reason"] == "ended"


def test_borrowing_needs_the_token(client):
    status, _, body = client.post({"jsonrpc": "2.0", "id": 1, "method": "GetBorrowedLicenseV1",
                                   "params": {"borrowId": "x"}})
    assert status == 401 and json.loads(body)["error"]["code"] == 1009
    assert client.call("ListBorrowedLicensesV1") == []


def test_health_and_metrics(module_site):
    admin = module_site.admin()
    assert admin.http("GET", "/health/alive")[0] == 200
    status, _, body = admin.http("GET", "/health/ready")
    ready = json.loads(body)
    assert status == 200 and ready["ready"] is True
    assert all(set(c) == {"name", "ok", "reason"} for c in ready["conditions"])
    status, headers, body = admin.http("GET", "/metrics")
    assert status == 200 and "0.0.4" in headers["Content-Type"] and b"berth_build_info" in body


def test_metrics_of_every_process_pass_promtool(module_site):
    import subprocess
    from urllib.request import urlopen
    texts = {"gateway": module_site.admin().http("GET", "/metrics")[2]}
    for name, port in module_site.ops.items():
        texts[name] = urlopen(f"http://127.0.0.1:{port}/metrics").read()
        assert urlopen(f"http://127.0.0.1:{port}/health/alive").status == 200
    for name, text in texts.items():
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
        assert done.returncode == 0, (name, done.stdout, done.stderr)
        for line in text.decode().splitlines():
            assert line.startswith(("#", "berth_")), line


def test_slow_clients_do_not_starve_a_good_one(module_site):
    context = ssl.create_default_context(cafile=str(module_site.folder / "tls.pem"))
    slow = []
    try:
        for _ in range(100):
            s = context.wrap_socket(socket.create_connection(("127.0.0.1", module_site.port), 5),
                                    server_hostname="localhost")
            s.sendall(b"POST /licenses HTTP/1.1\r\nHost: lo")
            slow.append(s)
        client = module_site.client(timeout=2)
        for _ in range(5):
            assert client.licenses()
            client.close()
    finally:
        for s in slow:
            s.close()
