"""[W2] The web page /ui/borrow in a real browser against the real four processes: what people do with
it, and what it says when something is refused."""

import os
from datetime import datetime, timedelta, timezone

import pytest
from berth import wait_until
from borrow_page import (HOST, api, borrow, borrowed_by, card, chip, choose, file_name, give_token,  # noqa: F401
                         iso, lender, page, sign_in, url, uuid_of)
from browser import Keys

pytestmark = pytest.mark.xdist_group("chromium")  # one Chromium for all of these


# ---- what people do ----

def test_W2_the_page_lists_licenses_with_their_seats(page, api, lender):
    sessions = [api.request(feature="MVTec_HDevelop")["sessionId"]]
    try:
        page.open(url(lender))
        assert "0 free of 1 · 1 in use · 0 borrowed" in card(page, "MVTec_HDevelop")
        assert "of 5" in card(page, "MVTec_HALCON") and "fc12d" in card(page, "MVTec_HALCON")
        assert "1 seat, of no use: expired" in card(page, "Old")
        assert page.text("#server") == lender.server_id
        assert page.text("#zone") in ("Europe/Berlin (CET)", "Europe/Berlin (CEST)")
        # One can borrow what is only in use [B6], and is told what that means.
        choose(page, "MVTec_HDevelop")
        page.wait_text("#license-note", "one of the sessions ends")
    finally:
        for s in sessions:
            api.give_back(s)


def test_W2_borrow_and_download(page, api, lender):
    borrow(page, "MVTec_HALCON", "00-1A-2B-3C-4D-5E", "7 days")
    give_token(page, "wrong-token")
    page.wait_text("#token-note", "did not accept")
    assert page.focused() == "token"
    give_token(page, lender.token)
    page.wait_text("#outcome", "Borrowed.", HOST)
    [listed] = borrowed_by(api, HOST)
    asked = api.call("GetBorrowedLicenseV1", borrowId=listed["borrowId"])
    assert file_name(page) == asked["fileName"]
    assert page.downloaded(asked["fileName"]) == asked["license"].encode()
    # It is seen at once: in the table, on the card, in the timeline.
    page.wait_text("#borrows tbody", HOST)
    wait_until(lambda: "1 borrowed" in card(page, "MVTec_HALCON"), what="seat shown as borrowed")
    assert page.js("return [...document.querySelectorAll('.bars li')].some((b) =>"
                   " b.title.startsWith(arguments[0]))", HOST)
    length = (datetime.fromisoformat(listed["validUntil"][:-1]) -
              datetime.fromisoformat(listed["validFrom"][:-1]))
    assert timedelta(days=7, minutes=-3) <= length <= timedelta(days=7)
    assert os.access(lender.folder / "borrow.token", os.R_OK) and lender.token not in page.driver.page_source


def test_B4_the_same_again_is_the_same_and_takes_no_second_seat(page, api, lender):
    sign_in(page, lender.token)
    host = "aa:00:00:00:00:01"
    borrow(page, "MVTec_HALCON", host, "3 days")
    page.wait_text("#outcome", "Borrowed.")
    first = page.downloaded(file_name(page))
    assert page.text("#summary") == "" and page.all(".preview") == []  # it is done
    page.js("document.getElementById('outcome').replaceChildren()")
    page.click("#submit")
    page.wait_text("#outcome", "Borrowed.")
    assert page.downloaded(file_name(page)) == first
    assert len(borrowed_by(api, host)) == 1
    # Another period would take another seat: that is said before.
    chip(page, "7 days")
    page.wait_text("#summary", "has it already until", "another seat")


def test_B4_fetched_again_byte_for_byte_and_the_token_asked_once(page, api, lender):
    made = api.call("BorrowLicenseV1", uuid=uuid_of(api, "MVTec_HALCON"), feature="MVTec_HALCON",
                    hostId="DONGLE-4711", validUntil=iso(days=2))
    page.open(url(lender))
    again = f'button[data-key="get {made["borrowId"]}"]'
    page.click(again)
    give_token(page, lender.token)
    assert page.downloaded(made["fileName"]) == made["license"].encode()
    page.wait_text("#download-outcome", made["fileName"])
    # Asked once: not again in this tab, not even when the page is loaded anew.
    page.open(url(lender), forget=False)
    page.click(again)
    assert page.downloaded(made["fileName"]) == made["license"].encode()
    assert not page.shown("#token-dialog")
    # Nowhere but in this tab's memory; and it can be forgotten.
    assert page.js("return [localStorage.length, document.cookie, location.href]") == [0, "", url(lender)]
    page.click("#forget")
    assert page.js("return sessionStorage.length") == 0
    page.click(again)
    wait_until(lambda: page.shown("#token-dialog"), what="asked again")
    page.press(Keys.ESCAPE)
    wait_until(lambda: not page.shown("#token-dialog"), what="closed")
    assert page.text("#download-outcome") == ""


def test_B2_a_period_later_on_in_local_time(page, api, lender):
    sign_in(page, lender.token)
    choose(page, "MVTec_HALCON")
    page.fill("#host", "DONGLE-LATER")
    page.click("#begins-later")
    begin = (datetime.now(timezone.utc) + timedelta(days=3)).replace(second=0, microsecond=0)
    local = page.module("/ui/times.js", "m.toLocalInput(a[0])", begin.timestamp() * 1000)
    page.set_value("#from", local)
    chip(page, "3 days")
    page.wait_text("#summary", "DONGLE-LATER", "3 days", "cannot be given back")
    page.click("#submit")
    page.wait_text("#outcome", "Borrowed.", "from")
    [listed] = borrowed_by(api, "DONGLE-LATER")
    assert listed["validFrom"] == begin.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert listed["validUntil"] == (begin + timedelta(days=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert "begins in 2 days 23 hours" in page.wait_text("#borrows tbody", "DONGLE-LATER")


# ---- what is refused ----

def test_B2_a_period_that_only_the_server_can_refuse(page, api, lender):
    """The page does not know when the server's own license ends."""
    sign_in(page, lender.token)
    choose(page, "MVTec_HALCON")
    page.fill("#host", "DONGLE-REFUSED")
    page.click("#begins-later")
    at = (datetime.now(timezone.utc) + timedelta(days=28)).timestamp() * 1000
    page.set_value("#from", page.module("/ui/times.js", "m.toLocalInput(a[0])", at))
    chip(page, "3 days")
    page.click("#submit")
    text = page.wait_text("#outcome", "This period is not possible")
    assert "server's own license expires" in text and "The limit is" in text
    assert page.focused() == "outcome"
    assert page.find("#until").get_attribute("aria-invalid") == "true"
    assert borrowed_by(api, "DONGLE-REFUSED") == []


def test_B6_a_license_that_is_fully_borrowed(page, api, lender):
    uuid = uuid_of(api, "MVTec_HDevelop")
    taken = api.call("BorrowLicenseV1", uuid=uuid, feature="MVTec_HDevelop", hostId="TAKEN",
                     validFrom=iso(days=1), validUntil=iso(days=4))
    page.open(url(lender))
    sign_in(page, lender.token)
    choose(page, "MVTec_HDevelop")
    page.fill("#host", HOST)
    chip(page, "7 days")
    page.wait_text("#summary", "every seat of it is borrowed already")
    page.click("#submit")
    text = page.wait_text("#outcome", "No seat is left")
    for at in (taken["validFrom"], taken["validUntil"]):
        assert page.module("/ui/times.js", "m.formatSoon(Date.parse(a[0]))", at) in text
    assert len(borrowed_by(api, HOST)) == len([b for b in borrowed_by(api, HOST) if b["uuid"] != uuid])


def test_the_limits_of_the_configuration_are_the_pages(browser, site):
    """borrow.max_period can be lowered, and borrow.open makes the token needless."""
    site.issue_server_license("--addon", "borrow", out="lending")
    site.configure(trust__server_license="lending", borrow__max_period="36 h", borrow__open=True)
    site.license("one", feature="One", count=1)
    site.start()
    browser.look()
    browser.open(url(site))
    assert browser.find("#license").get_attribute("value") != ""  # the only one is chosen
    assert "At most 1 day 12 hours" in browser.text("#limits")
    browser.fill("#host", HOST)
    chip(browser, "1 day 12 hours (longest)")
    browser.click("#submit")
    browser.wait_text("#outcome", "Borrowed.")
    browser.downloaded(file_name(browser))
    assert not browser.shown("#token-dialog")
    # And when the server has gone, the page says that, and keeps what it knew.
    site.server.stop()
    browser.click("#submit")
    browser.wait_text("#outcome", "cannot be reached")
    browser.wait_text("#banner", "cannot be reached")
    assert "One" in browser.text("#licenses")


def test_keyboard_only(page, api, lender):
    page.press(Keys.TAB)
    assert page.js("return document.activeElement.className") == "skip"
    page.press(Keys.ENTER)
    page.tab_to("license")
    page.press("MVTec_HA")
    page.tab_to("host")
    page.press("KEYBOARD-1")
    page.tab_to("begins-now")
    page.tab_to(f"length {3 * 86_400_000}")
    page.press(Keys.SPACE)
    for stop in ("until", "submit"):
        page.tab_to(stop)
        # What has the focus can be seen.
        assert page.js("return getComputedStyle(document.activeElement).outlineStyle") == "solid", stop
    page.press(Keys.ENTER)
    wait_until(lambda: page.focused() == "token", what="the dialog has the focus")
    page.press(lender.token, Keys.ENTER)
    page.wait_text("#outcome", "Borrowed.")
    assert page.focused() == "outcome"
    [listed] = borrowed_by(api, "KEYBOARD-1")
    page.downloaded(listed["fileName"])
    page.wait_text("#borrows", "KEYBOARD-1")
    page.tab_to(f"get {listed['borrowId']}", 120)
    page.press(Keys.ENTER)
    page.downloaded(listed["fileName"])
