"""What the tests of the web page /ui/borrow share: a server that lends, and the moves of a person."""

import contextlib
import re
from datetime import datetime, timedelta, timezone

import pytest
from berth import Site, wait_until

HOST = "00:1a:2b:3c:4d:5e"


def iso(**ahead):
    at = datetime.now(timezone.utc) + timedelta(**ahead)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def lender(tmp_path_factory, keys):
    """A server that lends; its own license ends in 30 days."""
    site = Site(tmp_path_factory.mktemp("lender"), keys)
    site.issue_server_license("--addon", "borrow", "--valid-until", iso(days=30), out="lending")
    site.configure(trust__server_license="lending")
    site.license("plain", feature="MVTec_HALCON", modules="fc12d", count=5)
    site.license("single", feature="MVTec_HDevelop", count=1)
    site.license("old", feature="Old", count=1, valid_from="2020-01-01", valid_until="2020-12-31")
    site.start()
    site.token = (site.folder / "borrow.token").read_text().strip()
    yield site
    site.stop()


@pytest.fixture
def api(lender):
    with contextlib.closing(lender.client(token=lender.token)) as c:
        yield c


@pytest.fixture
def page(browser, lender):
    browser.look()
    browser.open(url(lender))
    return browser


def url(site):
    return f"https://localhost:{site.port}/ui/borrow"


def uuid_of(api, feature):
    return next(i["uuid"] for i in api.licenses() if i["feature"] == feature)


def card(page, feature):
    """The text of a license's card."""
    return page.js("return [...document.querySelectorAll('.card')].find((c) =>"
                   " c.querySelector('h3 bdi').textContent === arguments[0])?.innerText", feature)


def choose(page, license):
    """By the button on the card whose title begins with this: feature, version, edition."""
    page.js("[...document.querySelectorAll('.card')].find((c) =>"
            " c.querySelector('h3').textContent.startsWith(arguments[0] + ' '))"
            ".querySelector('.choose').click()", license)


def chip(page, text):
    page.js("[...document.querySelectorAll('.chip')].find((b) =>"
            " b.textContent.startsWith(arguments[0])).click()", text)


def give_token(page, token):
    wait_until(lambda: page.shown("#token-dialog"), 20, "the dialog")
    page.fill("#token", token)
    page.click("#token-go")


def sign_in(page, token):
    """As if the token had been given in this tab already."""
    page.js("sessionStorage.setItem('berth.borrow.token', arguments[0])", token)


def borrow(page, feature, host, length="1 day"):
    choose(page, feature)
    page.fill("#host", host)
    chip(page, length)
    page.click("#submit")


def file_name(page):
    return re.search(r"license_borrowed_\S+?\.dat", page.text("#outcome")).group()


def borrowed_by(api, host):
    return [b for b in api.call("ListBorrowedLicensesV1") if b["hostId"] == host]
