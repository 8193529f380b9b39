"""api.md beyond a single call: limits, who may what, absent processes, details of answers."""

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import time
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from berth import RpcError, wait_until
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIST = {"jsonrpc": "2.0", "id": 1, "method": "ListBorrowedLicensesV1"}
REQUEST = {"feature": "F", "version": "24.11", "edition": "Steady", "modules": ""}


def call(method, **params):
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def error_of(client, method, **params):
    with pytest.raises(RpcError) as e:
        client.call(method, **params)
    return e.value


def exchange(site, data, port=None):
    """(status line and header, body) of the one answer to these bytes."""
    context = ssl.create_default_context(cafile=str(site.folder / "tls.pem"))
    with socket.create_connection(("127.0.0.1", port or site.port), 5) as plain, \
            context.wrap_socket(plain, server_hostname="localhost") as s:
        s.sendall(data)
        s.settimeout(5)
        got = b""
        while chunk := s.recv(65536):
            got += chunk
    head, _, body = got.partition(b"\r\n\r\n")
    return head.decode(), body


# ---- HTTP ----

@pytest.mark.parametrize("method,path,status,allow", [
    ("HEAD", "/health/protection", 200, None), ("HEAD", "/licenses", 405, "POST"),
    ("POST", "/health/protection", 405, "GET, HEAD"),
    ("get", "/health/protection", 405, "GET, HEAD"),
    ("GET", "/licenses/", 404, None), ("GET", "//licenses", 404, None),
    ("GET", "/Licenses", 404, None), ("OPTIONS", "*", 404, None),
    ("GET", "/health/%70rotection?a=b", 200, None), ("GET", "/metrics", 404, None)])
def test_paths_and_methods(module_site, method, path, status, allow):
    head, body = exchange(module_site, f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
                                       "Connection: close\r\n\r\n".encode())
    assert head.startswith(f"HTTP/1.1 {status} "), head
    assert allow is None or f"\r\nAllow: {allow}" in head
    assert "\r\nCache-Control: no-store" in head
    assert "\r\nX-Content-Type-Options: nosniff" in head
    assert method != "HEAD" or not body


def test_too_large_is_told_before_the_body_is_sent(module_site):
    for length in (65537, 10 ** 9):
        head, _ = exchange(module_site, b"POST /licenses HTTP/1.1\r\nHost: localhost\r\n"
                           b"Content-Type: application/json\r\nExpect: 100-continue\r\n"
                           b"Content-Length: %d\r\n\r\n" % length)
        assert head.startswith("HTTP/1.1 413 "), head


def test_http_1_0_chunked_and_pipelined(module_site):
    body = json.dumps(LIST).encode()
    start = b"POST /licenses HTTP/1.%d\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head, answer = exchange(module_site,
                            start % 0 + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert head.startswith("HTTP/1.1 200 ") and json.loads(answer)["result"] == []
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 7]), body[i:i + 7])
                      for i in range(0, len(body), 7)) + b"0\r\n\r\n"
    head, answer = exchange(module_site, start % 1 + b"Transfer-Encoding: chunked\r\n"
                            b"Connection: close\r\n\r\n" + chunks)
    assert json.loads(answer)["result"] == []
    three = b"".join(start % 1 + b"Content-Length: %d\r\n%s\r\n" % (len(body), last) + body
                     for last in (b"", b"", b"Connection: close\r\n"))
    head, answer = exchange(module_site, three)
    assert answer.count(b'"result":[]') == 3


# ---- JSON-RPC ----

def test_a_batch_is_answered_call_by_call_in_order(module_site):
    with contextlib.closing(module_site.client()) as client:
        same = {**REQUEST, "instanceId": "twice in a batch"}
        calls = [call("RequestSessionV1", **same), call("RequestSessionV1", **same),
                 call("BorrowLicenseV1"), LIST]
        status, _, body = client.post(calls)
        first, second, borrow, listed = json.loads(body)
        session = first["result"]["sessionId"]
        assert status == 200 and second["result"]["sessionId"] == session
        assert borrow["error"]["code"] == 1009 and listed["result"] == []
        client.give_back(session)


def test_shape_of_answers(module_site):
    with contextlib.closing(module_site.client()) as client:
        info = client.licenses()[0]
        assert set(info) == {"feature", "uuid", "version", "edition", "modules", "count",
                             "available"}
        session = client.request(modules="fc")
        assert set(session) == {"sessionId", "revalidateWithin", "license"}
        assert set(session["license"]) == {"feature", "uuid", "version", "edition", "modules"}
        assert session["revalidateWithin"] == 120
        assert set(client.revalidate(session["sessionId"])) == {"revalidateWithin"}
        assert client.give_back(session["sessionId"]) is None
        e = error_of(client, "RequestSessionV1", **{**REQUEST, "feature": "nothing"})
        assert e.code == 1001 and set(e.data) == {"name", "considered", "omitted"}
        assert e.data["considered"] == [
            {"uuid": info["uuid"], "feature": "F", "reason": "feature"}]
        e = error_of(client, "RequestSessionV1", **{**REQUEST, "modules": "fd"})
        assert e.data["considered"][0]["reason"] == "modules-missing:d"
        e = error_of(client, "RevalidateSessionV1", sessionId="x")
        assert e.code == 1003 and e.data == {"name": "SessionInvalid", "reason": "unknown"}
        e = error_of(client, "RevalidateSessionV1")
        assert e.code == -32602 and set(e.data) == {"field", "reason"}
    protection = module_site.protection()
    assert protection == {"valid_license": True, "state": "valid", "variant": "cloud-ready",
                          "server_id": module_site.server_id, "reason": "", "addons": []}


def test_no_seat_says_when_to_retry(module_site):
    with contextlib.closing(module_site.client()) as client:
        sessions = [client.request()["sessionId"] for _ in range(5)]
        e = error_of(client, "RequestSessionV1", **REQUEST)
        assert e.code == 1002 and 1 <= e.data["retryAfter"] <= 120
        assert [c["reason"] for c in e.data["considered"]] == ["all-in-use"]
        for session in sessions:
            client.give_back(session)


@pytest.mark.parametrize("text,good", [
    ("2026-11-25", True), ("2026-11-25T00:00:00Z", True), ("2026-11-25T00:00:00+01:00", True),
    ("2026-11-25T00:00:00.25-11:30", True), ("2026-11-25T00:00:00", False), ("2026-02-29", False),
    ("2026-13-01", False), ("2026-11-25T24:00:00Z", False), ("25.11.2026", False), ("", False),
    ("2026-11-25Z", False), ("2026-11-25T00:00:00Z ", False)])
def test_dates(module_site, text, good):
    client = module_site.client()
    client.token = (module_site.folder / "borrow.token").read_text().strip()
    with contextlib.closing(client):
        e = error_of(client, "BorrowLicenseV1", uuid="u", feature="F", hostId="h", validUntil=text)
    if good:
        assert e.code == 1005, e  # this server has no addon
    else:
        assert e.code == -32602 and e.data["field"] == "validUntil", e


def test_metrics_that_the_interface_promises(module_site):
    texts = {name: urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
             for name, port in module_site.ops.items()}
    with contextlib.closing(module_site.admin()) as admin:
        texts["gateway"] = admin.http("GET", "/metrics")[2].decode()
    common = ["build_info", "process_cpu_seconds_total", "process_resident_memory_bytes",
              "process_open_fds", "process_start_time_seconds", "rpc_calls_total",
              "rpc_errors_total"]
    promised = {
        "gateway": ["requests_total", "request_duration_seconds_bucket"],
        "pool": ["sessions_live", "sessions_requested_total", "sessions_returned_total",
                 "sessions_expired_total", "sessions_displaced_total", "denials_total",
                 "license_seats", "license_seats_used", "license_seats_borrowed",
                 "licenses_loaded", "licenses_refused"],
        "trust": ["verdict_state", "grace_seconds_left", "cloud_checks_total",
                  "cloud_check_duration_seconds_bucket"],
        "borrow": ["borrows_active"]}
    for name, names in promised.items():
        for metric in names + common:
            assert re.search(rf"^berth_{metric}[{{ ]", texts[name], re.M), (name, metric)


# ---- who may what ----

def test_tokens_are_made_at_first_start_and_kept(site):
    site.license("a")
    site.start()
    tokens = {name: site.folder / f"{name}.token" for name in ("admin", "borrow")}
    made = {name: path.read_text() for name, path in tokens.items()}
    for name, path in tokens.items():
        assert path.stat().st_mode & 0o777 == 0o600 and len(made[name].strip()) >= 32
        assert str(path) in site.server.text() and made[name].strip() not in site.server.text()
    site.server.stop()
    site.spawn_server()
    site.wait_ready()
    assert {name: path.read_text() for name, path in tokens.items()} == made


def issue(folder, stem, issuer=None, usage=None):
    """A CA (no usage) or a certificate of it, as stem.pem and stem.key; returns (key, name)."""
    import datetime
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, stem)])
    now = datetime.datetime.utcnow()
    builder = (x509.CertificateBuilder().subject_name(name)
               .issuer_name(issuer[1] if issuer else name).public_key(key.public_key())
               .serial_number(x509.random_serial_number())
               .not_valid_before(now - datetime.timedelta(days=1))
               .not_valid_after(now + datetime.timedelta(days=1))
               .add_extension(x509.BasicConstraints(not usage, None), True))
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
    certificate = builder.sign(issuer[0] if issuer else key, hashes.SHA256())
    (folder / f"{stem}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{stem}.key").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()))
    return key, name


def test_client_certificates(site):
    """Each listener has a CA of its own; a certificate is good for that one only."""
    authorities = {stem: issue(site.folder, stem) for stem in ("users-ca", "admins-ca")}
    issue(site.folder, "user", authorities["users-ca"], ExtendedKeyUsageOID.CLIENT_AUTH)
    issue(site.folder, "admin", authorities["admins-ca"], ExtendedKeyUsageOID.CLIENT_AUTH)
    issue(site.folder, "server", authorities["users-ca"], ExtendedKeyUsageOID.SERVER_AUTH)
    site.license("a")
    site.configure(serve__licenses__tls__client_ca="users-ca.pem",
                   serve__admin__client_ca="admins-ca.pem")
    site.start()

    def status(client, certificate, body):
        if certificate:
            client.context.load_cert_chain(site.folder / f"{certificate}.pem",
                                           site.folder / f"{certificate}.key")
        with contextlib.closing(client):
            try:
                return client.post(body)[0]
            except (ssl.SSLError, OSError, EOFError):
                return None
            except Exception as e:  # http.client's own for a connection that ended
                return None if "closed" in str(e) or "Disconnected" in repr(e) else e

    sessions = call("ListSessionsV1")
    assert status(site.client(), "user", LIST) == 200
    for certificate in (None, "admin", "server"):
        assert status(site.client(), certificate, LIST) is None, certificate
    assert status(site.admin(), "admin", sessions) == 200
    assert status(site.admin(), None, sessions) == 401
    assert status(site.admin(site.admin_token()), None, sessions) == 200
    assert status(site.admin(), "user", sessions) is None


# ---- limits ----

def test_limits(site):
    site.license("a", count=20)
    site.configure(limits__calls_per_second=1, limits__burst=4, sessions__max_per_client=2,
                   serve__licenses__allowed_origins=["good.example", "https://other.example:8443"])
    site.start()
    client = site.client()

    answers = json.loads(client.post([LIST] * 5)[2])
    assert [a.get("error", {}).get("code") for a in answers] == [None] * 4 + [1010]
    status, headers, body = client.post(LIST)
    error = json.loads(body)["error"]
    assert status == 429 and error["code"] == 1010 and error["data"]["retryAfter"] == 1
    assert error["data"]["name"] == "RateLimited" and headers["Retry-After"] == "1"
    status, _, body = client.post([LIST, LIST])
    assert status == 200 and {a["error"]["code"] for a in json.loads(body)} == {1010}
    assert client.http("GET", "/health/protection")[0] == 200  # not a call

    def answered(body, headers=None):
        """The answer once the bucket holds a call again; max_per_client is 429 too."""
        answer = wait_until(lambda: b"this address" not in (got := client.post(body, headers))[2]
                            and got, 5)
        return answer[0], answer[2]

    for origin, good in (("https://good.example", 200), ("https://good.example:99", 200),
                         ("https://other.example:8443", 200), ("https://other.example", 403),
                         ("https://sub.good.example", 403), ("https://good.example.evil", 403)):
        assert answered(LIST, {"Origin": origin})[0] == good, origin

    def request(host):
        status, body = answered(call("RequestSessionV1", **REQUEST, client={"hostId": host}))
        return status, json.loads(body).get("error", {}).get("code")

    assert request("h1") == request("h1") == (200, None)
    assert request("h1") == (429, 1010)
    assert request("h2") == (200, None)


def test_connections_per_address(site):
    """The oldest silent connection makes room, so that nobody can lock others out by sitting."""
    site.license("a")
    site.configure(limits__connections_per_address=10)
    site.start()
    context = ssl.create_default_context(cafile=str(site.folder / "tls.pem"))
    held = []
    for _ in range(14):
        plain = socket.create_connection(("127.0.0.1", site.port), 5)
        held.append(context.wrap_socket(plain, server_hostname="localhost"))

    def still_open():
        count = 0
        for s in held:
            s.settimeout(0.02)
            try:
                count += bool(s.recv(1))
            except TimeoutError:
                count += 1
            except (ConnectionError, ssl.SSLError):
                continue
        return count

    wait_until(lambda: still_open() == 10, 3)
    with contextlib.closing(site.client(timeout=1)) as client:
        assert client.licenses()
    for s in held:
        s.close()


# ---- a process behind the gateway is away ----

def test_a_process_that_hangs_gives_1011_within_5_s(site):
    site.license("a")
    site.start()
    client = site.client()
    session = client.request()["sessionId"]

    def revalidated():
        answer = json.loads(client.post(call("RevalidateSessionV1", sessionId=session))[2])
        return answer.get("error", {}).get("code")

    for name, method in (("pool", "ListLicensesV1"), ("borrow", "ListBorrowedLicensesV1")):
        pid = site.child(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            e = error_of(client, method)
            assert e.code == 1011 and time.monotonic() - began < 5
            assert e.data == {"name": "Unavailable", "service": name}
        finally:
            os.kill(pid, signal.SIGCONT)
    os.kill(site.child("trust"), signal.SIGSTOP)
    try:
        wait_until(lambda: site.protection()["reason"] == "trust unavailable", 5)
        assert site.protection() == {
            "valid_license": False, "state": "invalid", "variant": None, "server_id": None,
            "reason": "trust unavailable", "grace_seconds_left": None, "addons": None}
        wait_until(lambda: revalidated() == 1011, 2)
        e = error_of(client, "RequestSessionV1", **REQUEST)
        assert e.code == 1011 and e.data["service"] == "trust"
        assert client.licenses() and client.call("ListBorrowedLicensesV1") == []
        with pytest.raises(HTTPError) as not_ready:
            urlopen(f"http://127.0.0.1:{site.ops['pool']}/health/ready")
        assert not_ready.value.code == 503
        assert json.loads(not_ready.value.read())["ready"] is False
        assert urlopen(f"http://127.0.0.1:{site.ops['pool']}/health/alive").status == 200
    finally:
        os.kill(site.child("trust"), signal.SIGCONT)
    wait_until(lambda: site.protection()["valid_license"], 5)
    wait_until(lambda: revalidated() is None, 5)


def test_considered_names_32_and_counts_the_rest(site):
    for i in range(40):
        site.license(str(i), feature="F" if i < 3 else "G", count=1)
    site.start()
    with contextlib.closing(site.client()) as client:
        e = error_of(client, "RequestSessionV1", **{**REQUEST, "version": "99"})
    assert e.code == 1001 and len(e.data["considered"]) == 32 and e.data["omitted"] == 8
    assert [c["reason"] for c in e.data["considered"]] == ["version-older"] * 3 + ["feature"] * 29
