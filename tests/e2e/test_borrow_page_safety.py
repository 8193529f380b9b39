"""/ui/borrow in a real browser, for everyone and against everyone: what it checks by itself,
accessibility, every width, and what it must never do."""

import contextlib
import os
import re
import signal
from datetime import datetime, timedelta, timezone

import pytest
from berth import wait_until
from borrow_page import (HOST, api, card, chip, choose, iso, lender, page, sign_in,  # noqa: F401
                         url, uuid_of)
from browser import Keys, axe_source

pytestmark = pytest.mark.xdist_group("chromium")  # one Chromium for all of these

MARKUP = "<img src=x onerror=document.title=1>&amp;\"'"


@pytest.fixture(scope="module")
def busy(lender):
    """So that there is a table and a timeline to look at."""
    with contextlib.closing(lender.client(token=lender.token)) as c:
        for host, begins, ends in ((HOST, None, 3), ("A-DONGLE-WITH-A-LONG-NAME." * 2, 2, 8)):
            more = {"validFrom": iso(days=begins)} if begins else {}
            c.call("BorrowLicenseV1", uuid=uuid_of(c, "MVTec_HALCON"), feature="MVTec_HALCON",
                   hostId=host, validUntil=iso(days=ends), **more)


def test_host_id_is_checked_while_typing(page):
    choose(page, "MVTec_HALCON")
    host = page.find("#host")
    host.send_keys("00-1a-2b")
    page.wait_text("#host-note", "would have 12 digits")
    host.send_keys("-3c-4d-5e")
    page.wait_text("#host-note", "✓", HOST)
    page.fill("#host", "01:00:5e:00:00:01" + Keys.TAB)
    page.wait_text("#host-note", "multicast")
    assert page.find("#host").get_attribute("aria-invalid") == "true"
    page.click("#submit")
    assert page.focused() == "host" and page.text("#outcome") == ""


def test_B2_a_rule_is_told_before_the_server_is_asked(page, api):
    before = len(api.call("ListBorrowedLicensesV1"))
    choose(page, "MVTec_HALCON")
    page.fill("#host", HOST)
    assert "At most 7 days" in page.text("#limits") and "42 days" in page.text("#limits")
    now = datetime.now(timezone.utc)
    for days, words in ((8, "Too long: at most 7 days"), (43, "Too far ahead"), (-1, "in the past")):
        at = (now + timedelta(days=days)).timestamp() * 1000
        page.set_value("#until", page.module("/ui/times.js", "m.toLocalInput(a[0])", at))
        page.wait_text("#until-note", words)
        page.click("#submit")
        assert page.focused() == "until" and not page.shown("#token-dialog")
    assert len(api.call("ListBorrowedLicensesV1")) == before


def test_without_the_addon_the_page_says_so_and_offers_nothing(browser, module_site):
    browser.look()
    browser.open(url(module_site))
    browser.wait_text("#banner", "does not lend")
    assert browser.js("return document.getElementById('fields').disabled") is True
    assert browser.all(".choose") == [] and "5 free of 5" in browser.text("#licenses")


def test_a_process_that_is_away_is_told_and_passes(page, lender):
    pid = lender.child("borrow")
    os.kill(pid, signal.SIGSTOP)
    try:
        page.driver.refresh()
        page.wait_text("#banner", "A part of the server does not answer", "borrow", seconds=30)
        assert "of 5" in card(page, "MVTec_HALCON")  # the rest is there
    finally:
        os.kill(pid, signal.SIGCONT)

    def well():
        page.driver.refresh()
        return page.wait_text("#freshness", "Read from the server", seconds=8)
    wait_until(well, 40, "all there again")
    assert page.text("#banner") == ""


def play(page, path, body, status=200, batch=False):
    """From now on the page hears this instead of what the server says at path (to batches, or to
    single calls and GET), as from a server that has been taken over, or is in a state hard to reach."""
    page.js("const [path, body, status, batch] = arguments, real = window.fetch;"
            "window.fetch = (p, o) => p === path && batch === (o.body?.[0] === '[')"
            " ? Promise.resolve(Response.json(body, {status})) : real(p, o)", path, body, status, batch)


def read_again(page):
    page.js("document.dispatchEvent(new Event('visibilitychange'))")


def test_markup_in_names_is_inert(page, lender):
    """No real license can have such names."""
    at = {"validFrom": iso(days=-1), "validUntil": iso(days=3)}
    hostile = {"feature": MARKUP, "uuid": MARKUP, "version": MARKUP, "edition": MARKUP,
               "modules": MARKUP, "hostId": MARKUP, "borrowId": MARKUP, "fileName": MARKUP,
               "count": 3, "available": 1, **at}
    hostile["borrowedIntervals"] = [{"hostId": MARKUP, **at}]
    play(page, "/licenses", [{"id": i, "result": [hostile]} for i in (0, 1)], batch=True)
    read_again(page)
    for where in ("#licenses h3", "#licenses .bar", "#license", "#borrows", "#licenses .details"):
        page.wait_text(where, MARKUP)
    page.fill("#host", HOST)
    page.wait_text("#summary", MARKUP)
    # Errors carry texts, too.
    play(page, "/licenses", {"id": 1, "error": {"code": -32602, "message": MARKUP,
                                                "data": {"field": MARKUP, "reason": MARKUP}}})
    sign_in(page, lender.token)
    page.click("#submit")
    page.wait_text("#outcome", MARKUP)
    assert page.js("return document.querySelectorAll('main img, [onerror]').length") == 0
    assert page.driver.title.startswith("Borrow a license")


@pytest.mark.parametrize("status,error,words,field", [
    (200, {"code": 1004, "data": {"reason": "in-use-elsewhere"}}, ["in use on another server"], None),
    (200, {"code": 1005, "data": {"reason": "addon"}}, ["does not lend licenses"], None),
    (200, {"code": 1006, "data": {"reason": "too-far-ahead", "limit": "2027-01-05T08:00:00Z"}},
     ["too far ahead", "Tue, 5 Jan 2027, 09:00 CET"], "until"),
    (200, {"code": 1007, "data": {}}, ["No seat is left"], "until"),
    (200, {"code": 1008, "data": {}}, ["Not found"], None),
    (429, {"code": 1010, "data": {"retryAfter": 3}}, ["Too many requests", "in 3 s"], None),
    (200, {"code": 1011, "data": {"service": "cloud"}}, ["vendor's backend"], None),
    (200, {"code": -32602, "data": {"field": "hostId", "reason": "bad"}}, ["hostId: bad"], "host"),
    (403, None, ["not the server's own", "allowed_origins"], None),
    (503, None, ["HTTP 503"], None),
])
def test_what_every_refusal_looks_like(page, lender, status, error, words, field):
    play(page, "/licenses", {"id": 1, "error": {"message": "m", **(error or {})}}, status)
    sign_in(page, lender.token)
    choose(page, "MVTec_HALCON")
    page.fill("#host", HOST)
    page.click("#submit")
    page.wait_text("#outcome", *words)
    assert page.focused() == "outcome"
    page.wait_text("#submit", "Borrow and download")  # it can be tried again
    marked = page.js("return [...document.querySelectorAll('[aria-invalid=true]')].map((n) => n.id)")
    assert marked == ([field] if field else [])


def test_reading_again_disturbs_nobody(page, lender, busy):
    choose(page, "MVTec_HALCON")
    page.fill("#host", "half-typed")
    page.js("document.querySelector('#borrows button').focus()")
    before, options = page.focused(), page.js("return document.getElementById('license').options[1]")
    assert before.startswith("get ")
    page.js("document.getElementById('freshness').textContent = ''")
    read_again(page)
    page.wait_text("#freshness", "Read from")
    assert page.focused() == before
    assert page.find("#host").get_attribute("value") == "half-typed"
    assert page.js("return arguments[0].isConnected", options)  # an open list stays open
    assert "1 day" in page.text(".chip[aria-pressed=true]")


def test_the_servers_clock_counts(page):
    play(page, "/ui/limits.json", {"maxPeriodSeconds": 3600, "maxAheadSeconds": 7200,
                                   "tokenNeeded": True, "now": iso(days=1, minutes=30)})
    read_again(page)
    page.wait_text("#freshness", "clock is 1 day", "ahead of this computer's")
    at = (datetime.now(timezone.utc) + timedelta(hours=1)).timestamp() * 1000
    page.set_value("#until", page.module("/ui/times.js", "m.toLocalInput(a[0])", at))
    page.wait_text("#until-note", "in the past")
    chip(page, "1 hour (longest)")
    assert page.text("#until-note") == ""


@pytest.fixture(scope="module")
def axe():
    source = axe_source()
    if source is None:
        pytest.skip("axe-core could not be installed: accessibility is not checked by machine")
    return source


SCREENS = {"light": (1280, 900, "light"), "dark": (1280, 900, "dark"),
           "phone": (375, 800, "light"), "phone-dark": (375, 800, "dark")}


@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_nothing(page, axe, lender, busy, screen):
    page.look(*SCREENS[screen])
    page.open(url(lender))
    assert page.axe(axe) == []
    choose(page, "MVTec_HALCON")
    page.fill("#host", "a b" + Keys.TAB)
    page.js("document.querySelector('details').open = true")
    assert page.axe(axe) == [], "an error, a preview, the help"
    page.fill("#host", HOST + Keys.TAB)
    page.click("#submit")
    wait_until(lambda: page.shown("#token-dialog"), what="the dialog")
    page.click("#token-go")
    page.wait_text("#token-note", "Type or paste")
    assert page.axe(axe) == [], "the dialog"


def test_axe_has_teeth(page, axe):
    page.js("document.querySelector('label[for=license]').remove();"
            "document.querySelector('h1').style.color = '#c8c8c8'")
    assert {"select-name", "color-contrast"} <= {rule for _, rule, _ in page.axe(axe)}


@pytest.mark.parametrize("width", [320, 375, 768, 866, 962, 1280])
def test_no_width_needs_sideways_scrolling(page, lender, busy, width):
    page.look(width, 800)
    page.open(url(lender))
    choose(page, "MVTec_HALCON")
    page.wait_text("#borrows tbody", HOST)
    assert page.js("return document.documentElement.scrollWidth") <= width
    # Not even inside a panel, where it would be cut off.
    assert page.js("return [...document.querySelectorAll('.panel, .card, table, td')]"
                   ".filter((n) => n.scrollWidth > n.clientWidth + 1).map((n) => n.className)") == []


def test_ten_thousand_borrows_draw_fifty_rows(page):
    rows = page.module("/ui/borrows.js", """(() => {
        const at = new Date(Date.now() + 864e5).toISOString(), box = document.createElement("div");
        const borrows = Array.from({length: 10000}, (_, i) => ({borrowId: `b${i}`, uuid: "u",
          feature: "F", hostId: `H-${i}`, validFrom: at, validUntil: at, fileName: "f"}));
        const draw = (filter) => { m.renderBorrows(box, document.createElement("div"), {borrows,
          licenses: [], now: Date.now(), filter}, {}); return box.querySelectorAll("tbody tr").length; };
        return [draw(""), draw("h-9999"), box.textContent.includes("H-9999")]; })()""")
    assert rows == [50, 1, True]


# ---- what never happens; these two look back at all that the browser did before ----

def test_nothing_was_asked_of_anyone_else(page):
    page.collect()
    # What the browser itself shows between pages is no request of ours.
    asked = [u for u in page.requested if not u.startswith(("data:", "about:", "chrome:"))]
    assert len(asked) > 20
    assert [u for u in asked if not re.match(r"(blob:)?https://localhost:\d+/", u)] == []
    paths = {re.sub(r"^https://localhost:\d+", "", u) for u in asked if not u.startswith("blob:")}
    known = {"/licenses", "/health/protection", "/ui/limits.json"}
    assert all(p in known or re.fullmatch(r"/ui/[a-z_]+(\.(js|css|svg))?", p) for p in paths), paths


def test_the_policy_was_never_broken_and_would_be(page):
    assert page.violations() == []
    page.js("new Image().src = 'https://elsewhere.invalid/x.png';"
            "document.body.append(Object.assign(document.createElement('style'), {textContent: 'p {}'}))")
    wait_until(lambda: len(page.violations()) >= 2, what="violations reported")
    for script in ("innerHTML = '<b>x</b>'", "setAttribute('onclick', 'document.title=1')"):
        with pytest.raises(Exception, match="Trusted"):
            page.js(f"document.querySelector('h1').{script}")
    page.violations()
    page.complaints.clear()
    page.requested.clear()
