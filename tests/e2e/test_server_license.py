"""[S1], [S5], and what follows from the verdict."""

import os
import shutil
import signal
import time

import pytest
from berth import BUILD, Process, RpcError, Site, free_port, run, vendor, wait_until
from clocks import HOUR, Clocks


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


def start_services(site, clocks):
    """The four processes on their own, trust by the clocks of the test."""
    site.configure(rpc={n: f"ipc://{site.rpc}/{n}" for n in ("pool", "trust", "borrow")},
                   trust__cloud={"check_interval": "1 s"})
    site.start_cloud()
    for name in ("trust", "pool", "borrow", "gateway"):
        site.services[name] = Process([BUILD / f"berth-{name}", "-c", site.config],
                                      site.folder / f"{name}.log", clocks.env if name == "trust" else None)
    site.wait_ready(20)


def test_s6_four_hours_of_grace_as_clients_see_them(site):
    """Valid at 3 h 59 min, invalid at 4 h, valid again after a success; the date does not matter. Only
    trust's clock is moved: sessions live on."""
    site.license("a", count=2)
    clocks = Clocks(site.folder / "clocks")
    start_services(site, clocks)
    client = site.client()
    session = client.request()["sessionId"]
    site.stop_cloud()
    wait_until(lambda: site.protection()["state"] == "grace", 10, "grace")
    clocks.passes(4 * HOUR - 60 - 20)
    clocks.set_date(-20 * HOUR)
    state = wait_until(lambda: site.protection()["grace_seconds_left"] <= 100 and site.protection(), 10,
                       "time passed")
    assert state["state"] == "grace" and state["valid_license"] and 0 < state["grace_seconds_left"]
    client.revalidate(session)
    other = client.request()["sessionId"]
    client.give_back(other)
    clocks.passes(100)
    wait_until(lambda: site.protection()["state"] == "invalid", 5, "grace over")
    for attempt in (client.request, lambda: client.revalidate(session)):
        with pytest.raises(RpcError) as refused:
            attempt()
        assert refused.value.code == 1004 and refused.value.data["reason"] == "grace-over"
    clocks.set_date(20 * HOUR)
    site.start_cloud()
    clocks.passes(60)
    wait_until(lambda: site.protection()["state"] == "valid", 10, "valid again")
    client.revalidate(session)
    client.request()


def test_clock_skew_is_shown(site):
    """More than five minutes apart from the backend's clock: shown, and all goes on."""
    clocks = Clocks(site.folder / "clocks")
    start_services(site, clocks)
    assert "clock_skew_seconds" not in site.protection()
    for seconds in (400, -4000):
        clocks.set_date(seconds)
        wait_until(lambda s=seconds: abs(site.protection().get("clock_skew_seconds", 0) - s) < 60, 10, "shown")
        assert site.protection()["state"] == "valid"
    assert "clock " in site.berth("status", "-c", site.config).stdout
    clocks.set_date(0)
    wait_until(lambda: "clock_skew_seconds" not in site.protection(), 10, "right again")


def copy_of(site, name):
    """The whole disk of a server, on another host: another folder, other ports, the same secrets."""
    copy = Site.__new__(Site)
    copy.__dict__.update(site.__dict__)
    copy.folder = site.folder.parent / name
    shutil.copytree(site.folder, copy.folder, ignore=shutil.ignore_patterns("*.db*", "rpc", "*.log"))
    copy.port, copy.admin_port = free_port(), free_port()
    copy.ops = {service: free_port() for service in site.ops}
    copy.rpc, copy.license_folder = copy.folder / "rpc", copy.folder / "license"
    copy.cloud = copy.server = None
    copy.services = {}
    copy.configure()
    return copy


def test_s7_a_copied_disk_is_refused_while_the_first_lives(site):
    """So is a copied key; the first, killed and started again, goes on at once; its goodbye releases."""
    site.configure(trust__cloud={"check_interval": "1 s"})
    site.start()
    disk, key = copy_of(site, "disk"), copy_of(site, "key")
    shutil.rmtree(key.folder / "state")
    client = site.client()
    site.license("a", count=2)
    session = wait_until(lambda: answered(client.request), 10, "a session")["sessionId"]
    for copy in (disk, key):
        server = copy.spawn_server()
        assert server.wait(20) == 1
        assert "in use on another host" in server.text()
        assert site.protection()["state"] == "valid"
        client.revalidate(session)
    trust = site.child("trust")
    os.kill(trust, signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: answered(lambda: client.revalidate(session)) and site.child("trust") != trust, 10,
               "goes on")
    assert time.monotonic() - began < 5  # 3 s, and some for a loaded machine
    assert disk.spawn_server().wait(20) == 1
    cloud, site.cloud = site.cloud, None  # the backend stays
    site.server.stop()
    site.server, site.cloud = None, cloud
    key.cloud = cloud
    try:
        key.spawn_server()
        key.wait_ready()
        assert key.protection()["state"] == "valid"
        again = site.spawn_server()
        assert again.wait(20) == 1 and "in use on another host" in again.text()
    finally:
        key.cloud = None
        key.stop()


def answered(call):
    try:
        return call() or True
    except RpcError:
        return None
