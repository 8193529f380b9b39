"""deploy/monitoring with a real Prometheus and a real server: the sample configuration finds the four, the rules
load, every panel of the dashboard has an answer, nothing alarms while all is well, and alerts begin when
something is not."""

import contextlib
import json
import os
import shutil
import signal
from urllib.parse import quote
from urllib.request import urlopen

import pytest
import yaml
from berth import BUILD, ROOT, Process, RpcError, free_port, run, wait_until

MONITORING = ROOT / "deploy" / "monitoring"
# Without an answer as long as all is well, or where there is no such thing: a refusal, a dongle, grace.
MAY_BE_EMPTY = ("berth_dongle_present", 'outcome!="ok"', "berth_borrows_refused_total", "berth_cloud_check",
                "berth_licenses_refused > 0", "berth_http_refused_total", "histogram_quantile",
                "berth_license_expiry_seconds", "berth_sessions_displaced_total", "rpc_")


class Prometheus:
    def __init__(self, site, folder):
        self.port = free_port()
        shutil.copy(MONITORING / "alerts.yml", folder)
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        ports = {"berth-gateway": site.admin_port, **{f"berth-{n}": p for n, p in site.ops.items()}}
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
            if "tls_config" in job:
                job["tls_config"] = {"ca_file": str(site.folder / "tls.pem"), "server_name": "localhost"}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.process = Process(["prometheus", f"--config.file={folder}/prometheus.yml",
                                f"--storage.tsdb.path={folder}/data",
                                f"--web.listen-address=127.0.0.1:{self.port}"], folder / "log")

    def get(self, path):
        with urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def alerts(self):
        return {a["labels"]["alertname"] for a in self.get("alerts")["alerts"]}

    def quiet(self):
        alerts = self.alerts()
        assert not alerts, alerts
        return True

    def query(self, expression):
        return self.get(f"query?query={quote(expression)}")["result"]


@pytest.fixture
def prometheus(site, tmp_path):
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is not installed")
    site.license("a", valid_until="2099-01-01")
    site.start_cloud("--next-check", "1")
    site.start()
    folder = tmp_path / "prometheus"
    folder.mkdir()
    prometheus = Prometheus(site, folder)
    yield prometheus
    prometheus.process.stop()


def test_all_of_it_with_a_real_prometheus(site, prometheus):
    with contextlib.closing(site.client()) as client:
        client.give_back(client.request()["sessionId"])
    scraped = 'count_over_time((up{job=~"berth-.*"} == 1)[1m:1s]) >= 4'  # so that there is a rate
    up = wait_until(lambda: len(seen := prometheus.query(scraped)) == 4 and seen, 40, "all four are scraped")
    assert {s["metric"]["job"] for s in up} == {"berth-gateway", "berth-pool", "berth-trust", "berth-borrow"}
    assert prometheus.query("berth_sessions_returned_total >= 1")
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            result = prometheus.query(target["expr"])  # HTTP 4xx, an exception, if it is refused
            assert result or any(m in target["expr"] for m in MAY_BE_EMPTY), target["expr"]
    groups = prometheus.get("rules")["groups"]
    assert sum(len(g["rules"]) for g in groups) > 25
    assert all(r["health"] != "err" for g in groups for r in g["rules"])
    wait_until(prometheus.quiet, 20, "a server that is well")

    def begins(alert):
        wait_until(lambda: alert in prometheus.alerts(), 40, alert)

    with contextlib.closing(site.client()) as client, pytest.raises(RpcError):
        client.request(feature="none")
    begins("BerthDenials")
    site.stop_cloud()
    begins("BerthGrace")
    site.start_cloud("--next-check", "1")
    wait_until(lambda: "BerthGrace" not in prometheus.alerts(), 40, "the backend is back")
    run(BUILD / "berth-cloud", "revoke", site.server_id, "--state", site.folder / "cloud.db")
    begins("BerthVerdictInvalid")
    os.kill(site.child("pool"), signal.SIGSTOP)
    try:
        begins("BerthServiceDown")
    finally:
        os.kill(site.child("pool"), signal.SIGCONT)
