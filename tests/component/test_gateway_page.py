"""The files of /ui/borrow as berth-gateway serves them, against fake_backend.c: the HTTP rules of
api.md. What the page does is tested in a browser (tests/e2e/test_borrow_page.py)."""

import contextlib
import json
import re
import signal
from datetime import datetime, timezone
from pathlib import Path

import pytest
from berth import ROOT, wait_until
from gateway_fixture import gateway, own  # noqa: F401 - fixtures

FOLDER = ROOT / "services" / "gateway" / "ui"
ASSETS = dict(re.findall(r'^ASSET\("(.+)", "(.+)"\)', (FOLDER / "assets.def").read_text(), re.M))
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@pytest.fixture
def client(gateway):  # noqa: F811
    with contextlib.closing(gateway.client()) as c:
        yield c


@pytest.mark.parametrize("path", ASSETS)
def test_an_asset_is_served_as_it_is(client, path):
    status, headers, body = client.http("GET", path)
    assert status == 200
    assert body == (FOLDER / ASSETS[path]).read_bytes()
    assert headers["Content-Type"] == TYPES[Path(ASSETS[path]).suffix]
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    status, head_headers, body = client.http("HEAD", path)
    assert (status, body) == (200, b"")
    assert head_headers["Content-Length"] == headers["Content-Length"]


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere(client):
    headers = client.http("GET", "/ui/borrow")[1]
    policy = dict(part.strip().split(" ", 1)
                  for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    for kind in ("script-src", "style-src", "img-src", "connect-src"):
        assert policy[kind] == "'self'", kind
    assert policy["require-trusted-types-for"] == "'script'"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/ui/borrow", "/ui/app.js", "/ui/limits.json"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_405(client, path, method):
    status, headers, _ = client.http(method, path)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", [
    "/ui", "/ui/", "/ui/borrow/", "/ui/borrow.html", "/ui/assets.def", "/ui/embed.py", "/ui/APP.js",
    "/ui/../licenses", "/ui/../../etc/passwd", "/ui/%2e%2e/%2e%2e/etc/passwd", "/ui/..%2f..%2fetc%2fpasswd",
    "/ui//borrow", "/ui/./borrow", "/ui/app.js%00.html", "/ui/app.js;x", "/ui/borrow%20", "/ui/*"])
def test_everything_else_is_404(client, path):
    for method in ("GET", "POST"):
        status, headers, body = client.http(method, path)
        # The framing check refuses some of these before there is any routing.
        assert status in (404, 400), path
        assert b"root:" not in body
        assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"


def test_the_admin_port_has_no_page(gateway):  # noqa: F811
    with contextlib.closing(gateway.admin()) as a:
        assert a.http("GET", "/ui/borrow")[0] == 404


@pytest.mark.parametrize("path", ["/ui/borrow", "/ui/borrow.css", "/ui/limits.json"])
def test_the_rule_about_origin_holds_here_too(client, path):
    for origin, status in (("https://evil.example", 403), ("null", 403), ("https://localhost", 200),
                           ("https://portal.example", 200)):
        assert client.http("GET", path, headers={"Origin": origin})[0] == status, origin


def test_all_that_is_referred_to_is_served():
    """No file of the page names another that is not in the table, nor any other host."""
    paths = set(ASSETS) | {"/licenses", "/health/protection", "/ui/limits.json"}
    for name in ASSETS.values():
        text = (FOLDER / name).read_text()
        assert not [u for u in re.findall(r"https?://[^\s\"'<]+", text)
                    if u != "http://www.w3.org/2000/svg"], name
        used = re.findall(r'(?:href|src)="(/[^"]+)"', text) + re.findall(r'\bget\("(/[^"]+)"', text)
        used += ["/ui/" + m for m in re.findall(r'from "\./([^"]+)"', text)]
        assert set(used) <= paths, name
    assert {f.name for f in FOLDER.iterdir() if f.suffix in TYPES} == set(ASSETS.values())


def limits(gateway):  # noqa: F811
    with contextlib.closing(gateway.client()) as c:
        status, headers, body = c.http("GET", "/ui/limits.json")
    assert status == 200 and headers["Content-Type"] == "application/json"
    return json.loads(body)


def test_the_page_learns_the_limits(gateway):  # noqa: F811
    found = limits(gateway)
    assert found["maxPeriodSeconds"] == 7 * 86400 and found["maxAheadSeconds"] == 42 * 86400
    assert found["tokenNeeded"] is True
    at = datetime.strptime(found["now"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    assert abs((datetime.now(timezone.utc) - at).total_seconds()) < 30
    assert set(found) == {"maxPeriodSeconds", "maxAheadSeconds", "tokenNeeded", "now"}


def test_the_limits_follow_the_configuration(own):  # noqa: F811
    g = own(borrow__max_period="36 h", borrow__max_ahead="10 d")
    assert limits(g)["maxPeriodSeconds"] == 36 * 3600 and limits(g)["maxAheadSeconds"] == 10 * 86400
    g.settings.update(borrow__max_period="2 h", borrow__open=True)
    g.write_config()
    g.process.popen.send_signal(signal.SIGHUP)
    wait_until(lambda: limits(g)["maxPeriodSeconds"] == 7200, what="reloaded")
    assert limits(g)["tokenNeeded"] is False
