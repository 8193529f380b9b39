"""berth-gateway against fake_backend.c: others that are away, reload, the end."""

import contextlib
import json
import os
import signal
import socket
import ssl
import threading
import time

import pytest
from berth import BUILD, Client, Process, RpcError, make_tls_certificate, wait_until
from gateway_fixture import (  # noqa: F401 - fixtures
    ADMIN_TOKEN, BORROW_TOKEN, Gateway, REQUEST, call, client, gateway, own, protection)


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
    for token in (BORROW_TOKEN, ADMIN_TOKEN):
        with contextlib.closing(gateway.client(token=token)) as c, pytest.raises(RpcError):
            c.call("NoSuchMethodV1")
    with contextlib.closing(gateway.admin(BORROW_TOKEN)) as a, pytest.raises(RpcError):
        a.call("ListSessionsV1")
    text = gateway.process.text()
    assert BORROW_TOKEN not in text and ADMIN_TOKEN not in text
    assert "request.refused" in text
