"""berth-gateway against fake_backend.c: who may borrow and administer (api.md)."""

import contextlib
import json
import stat
import subprocess
import time

import pytest
from berth import BUILD, RpcError, wait_until
from gateway_fixture import (  # noqa: F401 - fixtures
    ADMIN_TOKEN, BORROW_TOKEN, Gateway, call, client, gateway, own, single)


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
