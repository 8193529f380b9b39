"""What the four processes and the backend tell Prometheus, live: by the strict parsers of others, without duplicates,
and every series of it in the reference page."""

import contextlib
import re
import subprocess
from urllib.request import urlopen

import pytest
from berth import ROOT, SERVICES, RpcError, Site, free_port
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families


PROCESSES = (*SERVICES, "berth-cloud")


@pytest.fixture(scope="module")
def server(tmp_path_factory, keys):
    """One running installation, whose backend tells its metrics, too."""
    server = Site(tmp_path_factory.mktemp("site"), keys)
    server.license("steady", modules="fc12", count=5)
    server.cloud_ops = free_port()
    server.start_cloud("--ops", f"127.0.0.1:{server.cloud_ops}")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def texts(server):
    """The metrics of each process after some of everything: calls, refusals, faults."""
    with contextlib.closing(server.client()) as client:
        for _ in range(3):
            session = client.request(modules="fc")["sessionId"]
            client.revalidate(session)
            client.give_back(session)
        for arguments in ({"feature": "none"}, {"modules": "fc12d"}, {"version": "99.1"}):
            with pytest.raises(RpcError):
                client.request(**{"modules": "", **arguments})
        with pytest.raises(RpcError):
            client.revalidate("no-such-session")
        with pytest.raises(RpcError):
            client.call("NoSuchMethod")
        client.http("GET", "/nowhere")
        client.post(b"{")
    with contextlib.closing(server.admin()) as admin:
        texts = {"gateway": admin.http("GET", "/metrics")[2].decode()}
    for name, port in {**server.ops, "berth-cloud": server.cloud_ops}.items():
        texts[name] = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    return texts


def documented():
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    sections = re.split(r"^## ", page, flags=re.M)[1:]
    found = {s.split("\n")[0]: dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", s, re.M))
             for s in sections}
    return {name: {**found["Every process"], **found[name]} for name in PROCESSES}


def as_openmetrics(text):
    """0.0.4 names a counter with its _total, OpenMetrics without; and it says where it ends."""
    return re.sub(r"^(# (?:TYPE|HELP) \w+)_total ", r"\1 ", text, flags=re.M) + "# EOF\n"


@pytest.mark.parametrize("name", PROCESSES)
def test_promtool_takes_it(texts, name):
    done = subprocess.run(["promtool", "check", "metrics"], input=texts[name], text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def doubled(text):
    """Samples that are there twice: no parser minds when they follow each other."""
    samples = [(s.name, tuple(sorted(s.labels.items())))
               for f in text_string_to_metric_families(text) for s in f.samples]
    return {s for s in samples if samples.count(s) > 1}


@pytest.mark.parametrize("name", PROCESSES)
def test_strict_parsers_take_it(texts, name):
    """The OpenMetrics parser sees what promtool does not: faults of histograms, families in two parts."""
    assert len(list(openmetrics(as_openmetrics(texts[name])))) > 10
    assert not doubled(texts[name])
    assert all(line.startswith(("#", "berth_")) for line in texts[name].splitlines())


def test_the_checks_are_strict(texts):
    text = texts["gateway"]
    last = text.splitlines()[-1]
    assert doubled(f"{text}{last}\n")
    bucket = re.compile(r'^(berth_request_duration_seconds_bucket\{[^}]*le="\+Inf"\}) \d+$', re.M)
    first = text.splitlines()[2]
    for broken in (bucket.sub(r"\1 999999", text, 1), f"{text}{first}\n"):
        assert broken != text
        with pytest.raises(ValueError):
            list(openmetrics(as_openmetrics(broken)))


@pytest.mark.parametrize("name", PROCESSES)
def test_every_series_is_documented(texts, name):
    known = documented()[name]
    for family in text_string_to_metric_families(texts[name]):
        full = family.name + ("_total" if family.type == "counter" else "")
        assert known.get(full) == family.type, full
        assert family.documentation.strip(), full


def test_what_happened_was_counted(texts):
    """A table that nobody fills would pass all of the above."""
    values = {(s.name, *sorted(s.labels.items())): s.value
              for text in texts.values() for f in text_string_to_metric_families(text)
              for s in f.samples}
    assert values["berth_sessions_granted_total",] >= 3
    assert values["berth_sessions_returned_total",] >= 3
    assert values["berth_denials_total", ("reason", "feature")] >= 1
    assert values["berth_denials_total", ("reason", "modules-missing")] >= 1
    assert values["berth_verdict_state", ("state", "valid")] == 1
    assert values["berth_cloud_checks_total", ("outcome", "ok")] >= 1
    assert values["berth_license_seats", ("feature", "F"), ("uuid", next(
        dict(k[1:])["uuid"] for k in values if k[0] == "berth_license_seats"))] == 5
    assert not [k for k in values if k[0] == "berth_dongle_present"], "there is none to be missed"
    for listener in ("licenses", "admin"):
        left = values["berth_tls_certificate_expiry_seconds", ("listener", listener)]
        assert 29 * 86400 < left <= 30 * 86400
