#!/usr/bin/python3
"""borrow_page_shots.py FOLDER: pictures of /ui/borrow with a lively server behind it, in light, dark
and phone width, to be looked at. docs/images/borrow-page.png is light.png with fewer colours (pngquant)."""

import contextlib
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

from berth import Site, vendor
from borrow_page import chip, choose, iso, url
from browser import Browser

BORROWS = (  # feature, host ID, begins and ends in so many hours (None: now)
    ("MVTec_HALCON", "00:1a:2b:3c:4d:5e", None, 100),
    ("MVTec_HALCON", "DONGLE-4711", 72, 216),
    ("MVTec_HALCON", "52:54:00:12:34:56", 300, 460),
    ("MVTec_HALCON", "0c:9d:92:aa:01:7f", 110, 200),
    ("MVTec_HDevelop", "LAPTOP-7", 24, 150),
)


def furnish(site):
    site.issue_server_license("--addon", "borrow", out="lending")
    site.configure(trust__server_license="lending")
    site.license("a", feature="MVTec_HALCON", version="24.11", modules="fc12d", count=6,
                 valid_until=iso(days=300)[:10])
    site.license("b", feature="MVTec_HALCON", version="25.5", edition="Progress", modules="c", count=120)
    site.license("c", feature="MVTec_HDevelop", count=1, valid_until=iso(days=11)[:10])
    site.start()
    token = (site.folder / "borrow.token").read_text().strip()
    with contextlib.closing(site.client(token=token)) as api:
        uuids = {i["feature"]: i["uuid"] for i in api.licenses() if i["version"] == "24.11"}
        for feature, host, begins, ends in BORROWS:
            when = {"validUntil": iso(hours=ends)}
            if begins:
                when["validFrom"] = iso(hours=begins)
            api.call("BorrowLicenseV1", uuid=uuids[feature], feature=feature, hostId=host, **when)
        for n, what in ((2, {"modules": "d"}), (43, {"version": "25.5", "edition": "Progress"})):
            for _ in range(n):
                api.request(feature="MVTec_HALCON", **what)


def shoot(browser, site, folder, name, width, height, scheme):
    browser.look(width, height, scheme)
    browser.open(url(site))
    choose(browser, "MVTec_HALCON 24.11")
    browser.fill("#host", "00-1A-2B-3C-4D-5F")
    browser.click("#begins-later")
    begin = (datetime.now(timezone.utc) + timedelta(days=5)).replace(hour=7, minute=0).timestamp()
    browser.set_value("#from", browser.module("/ui/times.js", "m.toLocalInput(a[0])", begin * 1000))
    chip(browser, "7 days")
    browser.js("document.activeElement.blur(); scrollTo(0, 0)")
    browser.look(width, browser.js("return document.documentElement.scrollHeight"), scheme)
    browser.driver.save_screenshot(str(folder / f"{name}.png"))


def main(folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        vendor("init", "--dir", Path(made) / "keys", "--name", "Example Vision GmbH")
        (Path(made) / "site").mkdir()
        site = Site(Path(made) / "site", Path(made) / "keys")
        browser = Browser(made)
        try:
            furnish(site)
            shoot(browser, site, folder, "light", 1200, 800, "light")
            shoot(browser, site, folder, "dark", 1200, 800, "dark")
            shoot(browser, site, folder, "phone", 390, 1500, "light")
            shoot(browser, site, folder, "phone-dark", 360, 1500, "dark")
        finally:
            browser.quit()
            site.stop()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
