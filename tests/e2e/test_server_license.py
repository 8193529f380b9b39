"""[S1], [S5], and what follows from the verdict."""

import shutil

import pytest
from berth import BUILD, RpcError, run, vendor, wait_until


def test_s1_without_a_server_license_the_server_does_not_start(site):
    shutil.rmtree(site.folder / "server-license")
    site.start_cloud()
    server = site.spawn_server()
    assert server.wait(20) == 1
    text = server.text()
    assert "server-license" in text and str(site.folder) in text


def test_s1_with_a_foreign_server_license_the_server_does_not_start(site, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "keys"
    vendor("init", "--dir", other)
    shutil.rmtree(site.folder / "server-license")
    vendor("cloud-license", "--dir", other, "--server-id", site.server_id, "--cloud-url",
           f"https://localhost:{site.cloud_port}", "--out", site.folder / "server-license")
    site.start_cloud()
    server = site.spawn_server()
    assert server.wait(20) == 1
    assert "vendor" in server.text()


def test_s1_expired_server_license(site):
    shutil.rmtree(site.folder / "server-license")
    done = vendor("cloud-license", "--dir", site.keys, "--server-id", site.server_id, "--cloud-url",
                  f"https://localhost:{site.cloud_port}", "--valid-until", "2020-01-01", "--out",
                  site.folder / "server-license", check=False)
    if done.returncode == 0:  # the tool may refuse to issue what is over already
        site.start_cloud()
        server = site.spawn_server()
        assert server.wait(20) == 1
        assert "expired" in server.text()
    else:
        assert "valid-until" in done.stderr


def test_s5_backend_says_no_at_start(site):
    site.start_cloud()
    run(BUILD / "berth-cloud", "revoke", site.server_id, "--state", site.folder / "cloud.db")
    server = site.spawn_server()
    assert server.wait(20) == 1
    assert "revoked" in server.text()


def test_s6_backend_unreachable_at_start(site):
    server = site.spawn_server()
    assert server.wait(25) == 1
    assert f"localhost:{site.cloud_port}" in server.text()


def test_s5_validated_online_and_served(site):
    site.license("a", count=1)
    site.start()
    state = site.protection()
    assert state["valid_license"] is True and state["state"] == "valid"
    assert state["variant"] == "cloud-ready" and state["server_id"] == site.server_id
    assert state["reason"] == ""
    listed = run(BUILD / "berth-cloud", "list", "--state", site.folder / "cloud.db").stdout
    assert site.server_id in listed
    client = site.client()
    assert client.request()["license"]["feature"] == "F"


def test_s7_revoked_while_running_then_restored(site):
    site.license("a", count=2)
    site.configure(trust__cloud={"check_interval": "1 s"})
    site.start()
    client = site.client()
    session = client.request()["sessionId"]
    state = site.folder / "cloud.db"
    run(BUILD / "berth-cloud", "revoke", site.server_id, "--state", state)
    wait_until(lambda: not site.protection()["valid_license"], 5, "revocation seen")
    protection = site.protection()
    assert protection["state"] == "invalid" and protection["reason"] == "revoked"
    for attempt in (client.request, lambda: client.revalidate(session)):
        with pytest.raises(RpcError) as refused:
            attempt()
        assert refused.value.code == 1004 and refused.value.data["reason"] == "revoked"
    assert client.licenses()
    assert client.call("ListBorrowedLicensesV1") == []
    run(BUILD / "berth-cloud", "restore", site.server_id, "--state", state)
    wait_until(lambda: site.protection()["valid_license"], 70, "restored")
    client.revalidate(session)
    client.give_back(session)


def test_grace_when_the_backend_goes_away(site):
    site.license("a", count=2)
    site.configure(trust__cloud={"check_interval": "1 s", "grace": "8 s"})
    site.start()
    client = site.client()
    session = client.request()["sessionId"]
    site.stop_cloud()
    state = wait_until(lambda: site.protection()["state"] == "grace" and site.protection(), 6,
                       "grace")
    assert state["valid_license"] is True and 0 <= state["grace_seconds_left"] <= 8
    client.revalidate(session)
    wait_until(lambda: site.protection()["state"] == "invalid", 12, "grace over")
    with pytest.raises(RpcError) as refused:
        client.request()
    assert refused.value.code == 1004 and refused.value.data["reason"] == "grace-over"
    site.start_cloud()
    wait_until(lambda: site.protection()["state"] == "valid", 10, "valid again")
    client.request()


def test_dead_trust_stops_issuing(site):
    import os
    import signal
    site.license("a", count=2)
    site.start()
    client = site.client()
    session = client.request()["sessionId"]
    os.kill(site.child("trust"), signal.SIGSTOP)
    stopped = site.child("trust")
    try:
        def refused():
            try:
                client.revalidate(session)
            except RpcError as e:
                return (e.code, e.data.get("service")) == (1011, "trust")
            return False
        wait_until(refused, 6, "issuing stops")
        # The gateway's lease may end a moment after pool's.
        state = wait_until(lambda: not site.protection()["valid_license"] and site.protection(), 3)
        expected = {"valid_license": False, "state": "invalid", "reason": "trust unavailable",
                    "variant": None, "server_id": None, "addons": None}
        assert {k: state[k] for k in expected} == expected
    finally:
        os.kill(stopped, signal.SIGCONT)

    def goes_on():
        try:
            return client.revalidate(session)
        except RpcError as e:
            assert e.code == 1011
            return None
    wait_until(goes_on, 5, "issuing goes on")
