"""The pure modules of /ui/borrow, run in the browser that they are for: rules, times, words of errors.
Where the server has the same rule, its table of cases is tests/unit/test_borrow_core.c."""

import pytest

pytestmark = pytest.mark.xdist_group("chromium")  # one Chromium for all of these

DAY = 86_400_000
HOUR = 3_600_000
MINUTE = 60_000
NOW = 1_795_507_200_000  # 2026-11-24T08:00:00Z
LIMITS = {"maxPeriod": 7 * DAY, "maxAhead": 42 * DAY}


@pytest.fixture(scope="module")
def page(browser, module_site):
    browser.look()
    browser.open(f"https://localhost:{module_site.port}/ui/borrow")
    return browser


def iso(ms):
    from datetime import datetime, timezone
    return datetime.fromtimestamp(ms / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---- host IDs ----

@pytest.mark.parametrize("text,kind,stored", [
    ("", "empty", None),
    ("00:1A:2b:3C:4d:5E", "mac", "00:1a:2b:3c:4d:5e"),
    ("00-1a-2b-3c-4d-5e", "mac", "00:1a:2b:3c:4d:5e"),
    ("001A2B3C4D5E", "mac", "00:1a:2b:3c:4d:5e"),
    ("00:1a-2b:3c:4d:5e", "bad", None),
    ("00:1a:2b:3c:4d:5", "bad", None),
    ("00:1a:2b:3c:4d:5e:6f", "bad", None),
    ("001a:2b3c:4d5e", "bad", None),
    ("00:00:00:00:00:00", "bad", None),
    ("000000000000", "bad", None),
    ("ff:ff:ff:ff:ff:ff", "bad", None),
    ("01:00:5e:00:00:01", "bad", None),
    ("03-00-00-00-00-01", "bad", None),
    ("DONGLE-4711", "dongle", "DONGLE-4711"),
    ("a", "dongle", "a"),
    ("Z" * 64, "dongle", "Z" * 64),
    ("Z" * 65, "bad", None),
    ("a b", "bad", None),
    ("müller", "bad", None),
    ("<b>x</b>", "bad", None),
    ("001a2b3c4d5", "dongle", "001a2b3c4d5"),
    ("00-1a-2b-3c-4d", "dongle", "00-1a-2b-3c-4d"),
])
def test_host_id(page, text, kind, stored):
    found = page.module("/ui/rules.js", "m.checkHostId(a[0])", text)
    assert (found["kind"], found.get("stored")) == (kind, stored)
    assert (found["message"] == "") == (kind == "empty")


@pytest.mark.parametrize("text,words", [
    ("00-1a-2b", "12 digits"), ("00-1a-2b-3c-4d-5", "12 digits"), ("001a2b3c4", "12 digits"),
    ("001a.2b3c.4d5e", "in pairs"), ("DONGLE-1", ""), ("a", ""), ("001a.2b3c", "")])
def test_a_dongle_id_that_may_be_meant_as_a_mac_address(page, text, words):
    assert page.module("/ui/rules.js", "m.checkHostId(a[0])", text)["kind"] == "dongle"
    found = page.module("/ui/rules.js", "m.macDoubt(a[0])", text)
    assert words in found and bool(words) == bool(found)


# ---- periods ----

LICENSE = {"validFrom": iso(NOW - 10 * DAY), "validUntil": iso(NOW + 30 * DAY)}


@pytest.mark.parametrize("start,end,license,reason", [
    (None, NOW + DAY, {}, None),
    (None, NOW + 7 * DAY, {}, None),
    (None, NOW + 7 * DAY + 1, {}, "period-too-long"),
    (NOW + DAY, NOW + 8 * DAY, {}, None),
    (NOW + DAY, NOW + 8 * DAY + 1, {}, "period-too-long"),
    (NOW + 35 * DAY, NOW + 42 * DAY, {}, None),
    (NOW + 36 * DAY, NOW + 42 * DAY + 1, {}, "too-far-ahead"),
    (NOW - 5 * MINUTE, NOW + DAY, {}, None),
    (NOW - 5 * MINUTE, NOW + 7 * DAY, {}, None),  # taken as now
    (NOW - 5 * MINUTE - 1, NOW + DAY, {}, "from-past"),
    (None, NOW, {}, "period-empty"),
    (NOW + DAY, NOW + DAY, {}, "period-empty"),
    (NOW + DAY, NOW + HOUR, {}, "period-empty"),
    (NOW + 29 * DAY, NOW + 30 * DAY, LICENSE, None),
    (NOW + 29 * DAY, NOW + 30 * DAY + 1, LICENSE, "license-expires"),
    (NOW, NOW + DAY, {"validFrom": iso(NOW + HOUR)}, "license-not-yet-valid"),
    (NOW + HOUR, NOW + DAY, {"validFrom": iso(NOW + HOUR)}, None),
])
def test_period(page, start, end, license, reason):
    found = page.module("/ui/rules.js", "m.checkPeriod({from: a[0], until: a[1]}, a[2], a[3], a[4])",
                        start, end, LIMITS, license, NOW)
    assert (found and found["reason"]) == reason
    assert found is None or found["field"] in ("from", "until") and found["message"]


def test_a_period_that_is_not_given(page):
    for expression, field in (("{from: NaN, until: 5}", "from"), ("{from: null, until: NaN}", "until")):
        found = page.module("/ui/rules.js", f"m.checkPeriod({expression}, a[0], {{}}, 0)", LIMITS)
        assert (found["field"], found["reason"]) == (field, "not-given")


def test_the_latest_end_is_what_the_rules_still_allow(page):
    latest = "m.latestEnd(a[0], a[1], a[2], a[3])"
    for start, license in ((NOW, {}), (NOW + 10 * DAY, {}), (NOW + 40 * DAY, {}),
                           (NOW + 28 * DAY, LICENSE)):
        end = page.module("/ui/rules.js", latest, start, LIMITS, license, NOW)
        check = "m.checkPeriod({from: a[0], until: a[1]}, a[2], a[3], a[4])"
        assert page.module("/ui/rules.js", check, start, end, LIMITS, license, NOW) is None
        assert page.module("/ui/rules.js", check, start, end + 1, LIMITS, license, NOW) is not None


def borrowed(*periods):
    return [{"validFrom": iso(NOW + a * HOUR), "validUntil": iso(NOW + b * HOUR), "hostId": "h"}
            for a, b in periods]


@pytest.mark.parametrize("count,periods,asked,full", [
    (1, [], (0, 10), None),
    (1, [(2, 4)], (0, 10), (2, 4)),
    (1, [(2, 4)], (4, 10), None),  # half open
    (1, [(2, 4)], (0, 2), None),
    (1, [(2, 4), (4, 6)], (0, 10), (2, 6)),
    (1, [(-5, 20)], (0, 10), (0, 10)),
    (2, [(2, 6)], (0, 10), None),
    (2, [(2, 6), (4, 8)], (0, 10), (4, 6)),
    (2, [(2, 6), (6, 8)], (0, 10), None),
    (2, [(1, 3), (2, 3), (5, 9), (5, 8)], (0, 10), (2, 3)),
    (2, [(1, 3), (2, 3), (5, 9), (5, 8)], (3, 10), (5, 8)),
    (3, [(0, 9), (0, 9), (2, 4), (4, 5)], (0, 10), (2, 5)),
])
def test_first_time_without_a_seat(page, count, periods, asked, full):
    license = {"count": count, "borrowedIntervals": borrowed(*periods)}
    found = page.module("/ui/rules.js", "m.firstFull(a[0], a[1], a[2])", license,
                        NOW + asked[0] * HOUR, NOW + asked[1] * HOUR)
    assert found == (full and {"from": NOW + full[0] * HOUR, "until": NOW + full[1] * HOUR})


@pytest.mark.parametrize("host,asked,held", [
    ("h", (0, 10), True), ("other", (0, 10), False), ("h", (6, 10), False), ("h", (0, 2), False),
    ("h", (0, 6), False),  # until the same instant: the same borrow
    ("h", (3, 5), True)])
def test_a_computer_that_has_it_already(page, host, asked, held):
    found = page.module("/ui/rules.js", "m.heldBy({borrowedIntervals: a[0]}, a[1], {from: a[2], until: a[3]})",
                        borrowed((2, 6)), host, NOW + asked[0] * HOUR, NOW + asked[1] * HOUR)
    assert (found is not None) == held


@pytest.mark.parametrize("count,available,periods,expected", [
    (5, 5, [], (5, 0, 0)),
    (5, 2, [(-1, 5), (3, 9)], (2, 2, 1)),
    (5, 0, [(-1, 5)] * 5, (0, 0, 5)),
    (5, 4, [(-3, 0), (0, 4)], (4, 0, 1)),
    (2, 0, [(-1, 5)] * 3, (0, 0, 2)),  # the license was lowered
])
def test_seats(page, count, available, periods, expected):
    license = {"count": count, "available": available, "borrowedIntervals": borrowed(*periods)}
    found = page.module("/ui/rules.js", "m.seatsOf(a[0], a[1])", license, NOW)
    assert (found["free"], found["inUse"], found["borrowed"]) == expected
    assert found["free"] + found["inUse"] + found["borrowed"] == found["count"] == count


def test_lanes_never_overlap(page):
    periods = [{"from": (i * 7) % 40, "until": (i * 7) % 40 + 3 + i % 9} for i in range(60)]
    found = page.module("/ui/rules.js", "m.assignLanes(a[0])", periods)
    deepest = max(sum(p["from"] <= t < p["until"] for p in periods) for t in range(60))
    assert found["lanes"] == deepest and len(found["placed"]) == len(periods)
    for lane in range(found["lanes"]):
        ends = 0
        for p in (p for p in found["placed"] if p["lane"] == lane):
            assert p["from"] >= ends
            ends = p["until"]


# ---- times ----

# 2026-10-25 01:00 UTC: clocks go back in Berlin; 2026-03-29 01:00 UTC: forward.
@pytest.mark.parametrize("zone,at,text,name", [
    ("Europe/Berlin", "2026-11-24T08:00:00Z", "2026-11-24T09:00", "CET"),
    ("Europe/Berlin", "2026-07-01T08:00:00Z", "2026-07-01T10:00", "CEST"),
    ("Asia/Kolkata", "2026-11-24T20:00:00Z", "2026-11-25T01:30", "GMT+5:30"),
    ("America/New_York", "2026-11-24T02:00:00Z", "2026-11-23T21:00", "GMT-5"),
    ("UTC", "2026-12-31T23:59:00Z", "2026-12-31T23:59", "UTC"),
])
def test_local_time_there_and_back(page, zone, at, text, name):
    page.look(zone=zone)
    try:
        ms = page.module("/ui/times.js", "m.parseTime(a[0])", at)
        assert page.module("/ui/times.js", "m.toLocalInput(a[0])", ms) == text
        assert page.module("/ui/times.js", "m.fromLocalInput(a[0])", text) == ms
        assert page.module("/ui/times.js", "m.isoTime(a[0])", ms) == at
        assert page.module("/ui/times.js", "m.zoneAt(a[0])", ms) == name
        assert page.module("/ui/times.js", "m.formatSoon(a[0])", ms).endswith(name)
    finally:
        page.look()


def test_a_week_over_the_change_of_clocks_is_a_week(page):
    begin = page.module("/ui/times.js", "m.fromLocalInput('2026-10-22T12:00')")
    end = begin + 7 * DAY
    assert page.module("/ui/times.js", "m.toLocalInput(a[0])", end) == "2026-10-29T11:00"
    assert page.module("/ui/rules.js", "m.checkPeriod({from: a[0], until: a[1]}, a[2], {}, a[0])",
                       begin, end, LIMITS) is None
    # The hour that comes twice is told apart by the zone's name.
    first, second = (page.module("/ui/times.js", "m.formatSoon(Date.parse(a[0]))", t)
                     for t in ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"))
    assert first.endswith("02:30 CEST") and second.endswith("02:30 CET")


@pytest.mark.parametrize("text", ["", "x", "2026-11-24", "24.11.2026 08:00", "2026-13-01T00:00"])
def test_not_a_local_time(page, text):
    assert page.module("/ui/times.js", "Number.isNaN(m.fromLocalInput(a[0]))", text) is True


@pytest.mark.parametrize("ms,text", [
    (0, "0 seconds"), (1000, "1 second"), (90_000, "90 seconds"), (2 * MINUTE, "2 minutes"),
    (HOUR, "1 hour"), (HOUR + MINUTE, "1 hour 1 minute"), (DAY, "1 day"), (DAY + MINUTE, "1 day"),
    (7 * DAY, "7 days"), (2 * DAY + 3 * HOUR + 59 * MINUTE, "2 days 3 hours")])
def test_durations(page, ms, text):
    assert page.module("/ui/times.js", "m.formatDuration(a[0])", ms) == text


# ---- errors ----

@pytest.mark.parametrize("code,data,field,words", [
    (1004, {"reason": "revoked"}, None, ["not licensed", "revoked"]),
    (1004, {"reason": "grace-over"}, None, ["not licensed", "backend"]),
    (1004, {"reason": "something-new"}, None, ["not licensed", "something-new"]),
    (1005, {"reason": "addon"}, None, ["does not lend", "vendor"]),
    (1006, {"reason": "period-too-long", "limit": "2026-12-01T08:00:00Z"}, "until",
     ["too long", "1 Dec 2026, 09:00 CET"]),
    (1006, {"reason": "too-far-ahead", "limit": "42 d"}, "until", ["too far ahead", "42 d"]),
    (1006, {"reason": "from-past", "limit": ""}, "from", ["in the past"]),
    (1006, {"reason": "license-not-yet-valid", "limit": "2026-12-01T08:00:00Z"}, "from", ["not valid yet"]),
    (1006, {"reason": "license-expires"}, "until", ["expires"]),
    (1006, {"reason": "server-license-expires"}, "until", ["server", "expires"]),
    (1007, {"from": "2026-12-01T08:00:00Z", "until": "2026-12-02T08:00:00Z"}, "until",
     ["No seat", "Tue 1 Dec, 09:00 CET", "Wed 2 Dec, 09:00 CET"]),
    (1007, {}, "until", ["No seat", "some time"]),
    (1008, {}, None, ["Not found"]),
    (1009, {}, "token", ["token", "administrator"]),
    (1010, {"retryAfter": 7}, None, ["Too many", "7 s"]),
    (1011, {"service": "cloud"}, None, ["backend", "never takes a second seat"]),
    (1011, {"service": "borrow"}, None, ["“borrow”", "few seconds"]),
    (-32602, {"field": "hostId", "reason": "must not be empty"}, "host", ["hostId", "must not be empty"]),
    (-32602, {}, None, ["the message"]),
    (1234, {}, None, ["the message", "1234"]),
])
def test_every_error_says_what_is_wrong_and_what_to_do(page, code, data, field, words):
    found = page.module("/ui/errors.js", "m.explain({kind: 'rpc', code: a[0], data: a[1], message: a[2]})",
                        code, data, "the message")
    text = f"{found['title']}. {found['text']}"
    assert all(w in text for w in words), text
    assert found.get("field") == field
    assert "undefined" not in text and "NaN" not in text and "null" not in text


@pytest.mark.parametrize("error,words", [
    ({"kind": "http", "status": 403, "message": "x"}, ["certificate", "allowed_origins"]),
    ({"kind": "http", "status": 503, "message": "Service Unavailable\n"}, ["503", "Service Unavailable"]),
    ({"kind": "network", "message": "Failed to fetch"}, ["cannot be reached", "Failed to fetch"]),
    ({"message": "oops"}, ["page failed", "oops"]),
])
def test_errors_below_json_rpc(page, error, words):
    found = page.module("/ui/errors.js", "m.explain(a[0])", error)
    text = f"{found['title']}. {found['text']}"
    assert all(w in text for w in words), text
