"""docker-compose.yml and its overlays as Compose understands them; no engine is needed."""

import os
import shutil

import pytest
import yaml

from berth import ROOT
from engine import PATH, SERVICES, UID, run

COMPOSE = ROOT / "deploy" / "compose"


def composed(*overlays, **env):
    """What Compose makes of the files, for people who set nothing."""
    if not shutil.which("docker-compose", path=PATH):
        pytest.skip("docker-compose is not installed")
    files = [part for f in (ROOT / "docker-compose.yml", *overlays) for part in ("-f", f)]
    done = run("docker-compose", *files, "config", env={"PATH": PATH, "HOME": "/", **env})
    assert not done.stderr, done.stderr
    return yaml.safe_load(done.stdout)


def secrets_of(service):
    return {s["source"] for s in service.get("secrets", [])}


@pytest.mark.parametrize("overlay", [None, "demo.yml", "on-premises.yml"])
def test_every_service_is_hardened(overlay):
    overlays = [COMPOSE / overlay] if overlay else []
    services = composed(*overlays, BERTH_DONGLE_GID="990")["services"]
    assert set(SERVICES) <= set(services)
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["user"] == f"{UID}:{UID}", name
        assert service["cap_drop"] == ["ALL"] and "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "devices", "pid", "ipc", "userns_mode"} & set(service), name
        if name in ("keys", "client"):
            continue # they end by themselves
        assert service["mem_limit"] and 0 < service["pids_limit"] <= 64, name
        assert service["restart"] == "unless-stopped" and service["healthcheck"], name
        assert service["stop_grace_period"] == "8s", name


def test_only_gateway_is_published_and_only_trust_reaches_out():
    all_of_it = composed()
    services, networks = all_of_it["services"], all_of_it["networks"]
    assert {n for n, s in services.items() if s.get("ports")} == {"gateway"}
    assert services["gateway"]["ports"] == [{"published": 22022, "target": 22022},
                                            "127.0.0.1:22023:22023/tcp"]
    used = {name: set(s["networks"]) for name, s in services.items()}
    assert used == {"trust": {"inside", "outside"}, "gateway": {"inside", "front"},
                    "pool": {"inside"}, "borrow": {"inside"}}
    assert networks["inside"]["internal"] is True
    masquerade = "com.docker.network.bridge.enable_ip_masquerade"
    assert networks["front"]["driver_opts"] == {masquerade: "false"}


def test_each_service_gets_the_keys_that_it_needs():
    services = composed()["services"]
    for name in SERVICES:
        own = {"ca.pem", f"{name}.pem", f"{name}.key"}
        more = {"trust": {"server-license.pem", "server-license.key"},
                "gateway": {"tls.key", "admin.token", "borrow.token"}}.get(name, set())
        assert secrets_of(services[name]) == own | more, name
        state = {v.split(":")[0] for v in services[name]["volumes"] if v.split(":")[1] == "/state"}
        assert state == (set() if name == "gateway" else {f"{name}-state"}), name


def test_no_start_waits_in_a_circle():
    services = composed(COMPOSE / "demo.yml")["services"]
    left = {name: set(s.get("depends_on", {})) for name, s in services.items()}
    while left:
        free = [name for name, needs in left.items() if not needs & set(left)]
        assert free, left
        for name in free:
            del left[name]
    # pool is ready only when borrow was there, and borrow only with pool.
    assert "borrow" not in services["pool"]["depends_on"]
    assert "pool" not in services["borrow"]["depends_on"]


def test_the_dongle_reaches_trust_alone_and_needs_no_way_out():
    all_of_it = composed(COMPOSE / "on-premises.yml", BERTH_DONGLE_GID="990")
    trust = all_of_it["services"].pop("trust")
    assert trust["device_cgroup_rules"] == ["c 189:* rmw"]
    assert trust["group_add"] == ["990"]
    assert "/dev/bus/usb:/dev/bus/usb:rw" in trust["volumes"]
    assert all_of_it["networks"]["outside"]["internal"] is True
    for name, service in all_of_it["services"].items():
        assert not {"device_cgroup_rules", "group_add"} & set(service), name
        assert not any("/dev" in v for v in service["volumes"]), name


def test_the_overlay_for_dongles_wants_the_group():
    if not shutil.which("docker-compose", path=PATH):
        pytest.skip("docker-compose is not installed")
    done = run("docker-compose", "-f", ROOT / "docker-compose.yml", "-f",
               COMPOSE / "on-premises.yml", "config", check=False,
               env={"PATH": PATH, "HOME": os.sep})
    assert done.returncode and "berth-dongle" in done.stderr
