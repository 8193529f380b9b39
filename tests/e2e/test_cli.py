"""berth: commands, exit codes, the supervisor."""

import json
import os
import shutil
import signal

import pytest
from berth import BUILD, Process, free_port, run, wait_until


def test_usage():
    for tool in ("berth", "berth-vendor", "berth-cloud", "berth-gateway", "berth-pool", "berth-trust",
                 "berth-borrow"):
        assert run(BUILD / tool, "--version").stdout.strip()
        assert run(BUILD / tool, "-h").stdout
    assert run(BUILD / "berth", "nonsense", check=False).returncode == 2
    assert run(BUILD / "berth", check=False).returncode == 2


def test_check_config(site):
    site.configure()
    assert site.berth("check-config", site.config).returncode == 0
    site.config.write_text("serve:\n  licenses:\n    prot: 1\nsessions:\n  revalidation_interval: 2 weeks\n")
    done = site.berth("check-config", site.config, check=False)
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert ":3:" in text and "serve.licenses.port" in text
    assert ":5:" in text and "revalidation_interval" in text and "24 h" in text
    started = run(BUILD / "berth", "serve", "all", "-c", site.config, check=False)
    assert started.returncode == 1 and "revalidation_interval" in started.stdout + started.stderr
    assert run(BUILD / "berth-pool", "-c", site.config, check=False).returncode == 78


def test_environment_overrides(site):
    site.license("a")
    port = free_port()
    site.configure()
    site.start_cloud()
    site.spawn_server({"BERTH_SERVE_LICENSES_PORT": str(port)})
    site.wait_ready()
    site.port = port
    assert site.listed()


def test_check_license(site):
    good = site.license("good")
    bad = site.license("bad")
    bad.write_text(bad.read_text().replace("count: 5", "count: 6"))
    ca = site.keys / "vendor-ca.pem"
    site.configure()
    done = site.berth("check-license", good, "-c", site.config, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    done = site.berth("check-license", good, bad, "-c", site.config, check=False)
    assert done.returncode == 1 and "signature" in done.stdout + done.stderr, (done.stdout, ca)


def test_the_configuration_next_to_the_executable(site):
    """Commands take it too, where they are not told where the server is."""
    good = site.license("good")
    own = site.folder / "berth"
    shutil.copy(BUILD / "berth", own)
    assert run(own, "licenses", check=False).returncode == 2
    assert run(own, "check-license", good, check=False).returncode == 1
    site.configure()
    assert run(own, "check-license", good, check=False).returncode == 0
    assert run(own, "licenses", check=False).returncode == 3
    site.start()
    assert "24.11" in run(own, "licenses").stdout and "valid" in run(own, "status").stdout


def test_status_licenses_sessions(site):
    site.license("a", count=3)
    site.start()
    session = site.client().request(client={"hostname": "host-7"})["sessionId"]
    status = site.berth("status", "-c", site.config).stdout
    assert "valid" in status and "F" in status
    rows = json.loads(site.berth("licenses", "--json", "-c", site.config).stdout)
    assert rows[0]["available"] == 2
    assert "24.11" in site.berth("licenses", "-c", site.config).stdout
    table = site.berth("sessions", "-c", site.config).stdout
    assert "host-7" in table
    rows = json.loads(site.berth("sessions", "--json", "-c", site.config).stdout)
    assert rows[0]["sessionId"] == session
    remote = site.berth("licenses", "--server", f"https://localhost:{site.port}", "--ca",
                        site.folder / "tls.pem")
    assert "24.11" in remote.stdout
    nobody = site.berth("licenses", "--server", f"https://localhost:{free_port()}", "--ca",
                        site.folder / "tls.pem", check=False)
    assert nobody.returncode == 3 and nobody.stderr
    bad_token = site.folder / "bad.token"
    bad_token.write_text("x" * 32)
    refused = site.berth("sessions", "-c", site.config, "--token-file", bad_token, check=False)
    assert refused.returncode == 1 and "token" in refused.stderr


def test_sigterm_ends_all_with_0(site):
    site.license("a")
    site.start()
    pids = [site.child(n) for n in ("trust", "pool", "borrow", "gateway")]
    assert site.server.stop(signal.SIGTERM, 8) == 0
    site.server = None
    assert not any(os.path.exists(f"/proc/{p}") for p in pids)


def test_serve_licenses_has_no_admin_listener(site):
    site.license("a")
    site.configure()
    site.start_cloud()
    site.spawn_server(what="licenses")
    wait_until(lambda: site.listed(), 15, "serves")
    with pytest.raises(OSError):
        site.admin().http("GET", "/health/alive")


def test_reload_of_the_certificate_keeps_connections(site):
    from berth import make_tls_certificate
    site.license("a")
    site.start()
    old = site.client()
    assert old.licenses()
    old_ca = (site.folder / "tls.pem").read_text()
    make_tls_certificate(site.folder)
    site.server.popen.send_signal(signal.SIGHUP)

    def renewed():
        new = site.client()
        return new.licenses()
    wait_until(renewed, 5, "new certificate")
    assert old.licenses() and old_ca != (site.folder / "tls.pem").read_text()


def test_a_refused_reload_changes_nothing(site):
    site.license("a")
    site.start()
    good = site.config.read_text()
    site.config.write_text(good.replace('"revalidation', '"x'))
    site.configure(sessions__revalidation_interval="1 y")
    site.server.popen.send_signal(signal.SIGHUP)
    wait_until(lambda: "revalidation_interval" in site.server.text(), 5, "refusal logged")
    assert site.client().request()["revalidateWithin"] == 120


def test_interval_is_reloaded(site):
    site.license("a")
    site.start()
    site.configure(sessions__revalidation_interval="7 s")
    site.server.popen.send_signal(signal.SIGHUP)

    def seven():
        client = site.client()
        answer = client.request()
        client.give_back(answer["sessionId"])
        return answer["revalidateWithin"] == 7
    wait_until(seven, 5, "reloaded")


def test_no_secret_in_the_log(site):
    site.license("a")
    site.start()
    session = site.client().request()["sessionId"]
    site.client().give_back(session)
    token = site.admin_token()
    with_errors = site.server.text()
    assert session not in with_errors and token not in with_errors
    assert "license.loaded" in with_errors


def test_the_four_processes_one_by_one(site):
    """As containers run them: each with the same configuration, no supervisor."""
    site.license("a")
    site.configure(rpc={n: f"ipc://{site.rpc}/{n}" for n in ("pool", "trust", "borrow")})
    site.start_cloud()
    for name in ("gateway", "borrow", "pool", "trust"):  # in the wrong order on purpose
        site.services[name] = Process([BUILD / f"berth-{name}", "-c", site.config],
                                      site.folder / f"{name}.log")
    site.wait_ready(20)
    assert site.client().request()
    for name in site.services:
        assert run(BUILD / f"berth-{name}", "health", "-c", site.config).returncode == 0, name
    for name, process in site.services.items():
        assert process.stop() == 0, (name, process.text())
    site.services = {}


def test_in_containers_trust_exits_and_nobody_is_ready(site):
    site.configure(rpc={n: f"ipc://{site.rpc}/{n}" for n in ("pool", "trust", "borrow")})
    for name in ("trust", "pool"):  # no backend runs
        site.services[name] = Process([BUILD / f"berth-{name}", "-c", site.config],
                                      site.folder / f"{name}.log")
    assert site.services.pop("trust").wait(25) != 0
    assert run(BUILD / "berth-pool", "health", "-c", site.config, check=False).returncode == 1
