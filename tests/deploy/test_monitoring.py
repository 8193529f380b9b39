"""Alert rules, dashboard and metrics fit each other, the programs and the operations guide."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
RULES = [rule for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
         for rule in group["rules"]]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
TARGETS = [target for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
GUIDE = (ROOT / "docs" / "operations.md").read_text()


def promtool(*arguments, **kwargs):
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True,
                          cwd=MONITORING, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def known_metrics():
    """Every series that the four processes can have: name → labels."""
    known = {"up": set()}
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    for name, kind, labels in re.findall(r"^\| `(berth_\w+)` \| (\w+) \| ([^|]*) \|", page, re.M):
        labels = {label.strip() for label in labels.split(",") if label.strip()}
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            known.setdefault(name + suffix, set()).update(labels)
    assert len(known) > 40
    return known


def test_rules_are_right():
    assert "SUCCESS" in promtool("check", "rules", "alerts.yml")


def test_every_alert_fires_and_keeps_quiet():
    promtool("test", "rules", "alerts_test.yml")
    cases = [case for test in yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]
             for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
    quiet = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    assert fires == quiet == {rule["alert"] for rule in RULES}


def test_sample_configuration():
    promtool("check", "config", "--syntax-only", "prometheus.yml")
    jobs = {job["job_name"] for job in
            yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]}
    assert jobs == {"berth-gateway", "berth-pool", "berth-trust", "berth-borrow"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_has_its_section(rule):
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
    assert re.search(rf"^### {rule['alert']}\n\n\S", GUIDE, re.M), "no section in the guide"


def test_the_guide_knows_no_other_alerts():
    assert set(re.findall(r"^### (Berth\w+)$", GUIDE, re.M)) == {rule["alert"] for rule in RULES}


def test_expressions_of_the_dashboard(tmp_path):
    assert len(TARGETS) > 25
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    rules = {"groups": [{"name": "dashboard", "rules": [
        {"record": f"panel:target{n}", "expr": target["expr"]}
        for n, target in enumerate(TARGETS)]}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    promtool("check", "rules", tmp_path / "rules.yml")


@pytest.mark.parametrize("expression", [rule["expr"] for rule in RULES] +
                         [target["expr"] for target in TARGETS])
def test_expressions_name_what_there_is(expression):
    """A wrong name or label is no error to Prometheus: the alert would never fire."""
    known = known_metrics()
    names = re.findall(r"\b(up|berth_\w+)\b(?:\{([^}]*)\})?", expression)
    assert names
    used = set()
    for name, matchers in names:
        assert name in known, name
        used |= known[name]
        for label in re.findall(r"(\w+)\s*(?:=|!)", matchers):
            assert label in known[name] | {"job", "instance"}, f"{name}: {label}"
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        for label in group.split(","):
            assert label.strip() in used | {"job", "instance", "le", "version"}, label
    for wanted in re.findall(r'\{\{\s*(\w+)\s*\}\}', expression):
        assert wanted in used | {"job"}


def test_legends_name_labels_that_are_left():
    known = known_metrics()
    for target in TARGETS:
        labels = {label for name in re.findall(r"\b(?:up|berth_\w+)\b", target["expr"])
                  for label in known[name]} | {"job"}
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels, target


def test_no_label_tells_who_it_was():
    forbidden = {"user", "host", "hostname", "host_id", "session", "session_id", "client",
                 "address", "instance_id", "borrow_id"}
    for name, labels in known_metrics().items():
        assert not labels & forbidden, name
