"""berth-gateway against fake_backend.c: results and errors as JSON (api.md)."""

import contextlib

import pytest
from gateway_fixture import (  # noqa: F401 - fixtures
    BORROW_TOKEN, NONCE, REQUEST, call, client, gateway, single)


def test_list_licenses(client):
    first, second = client.licenses()
    assert first["uuid"] == "u-<1>"
    assert set(first) == {"feature", "uuid", "version", "edition", "modules", "count", "available"}
    assert second == {
        "feature": "F", "uuid": "u-2", "version": "24.11", "edition": "Steady", "modules": "fc1",
        "count": 5, "available": 4, "validFrom": "2026-11-24T08:00:00Z",
        "validUntil": "2026-11-25T08:00:00Z", "borrowedIntervals": [
            {"validFrom": "2026-11-24T08:00:00Z", "validUntil": "2026-11-24T08:00:01Z",
             "hostId": "00:11:22:33:44:55"}]}


def test_session_results(client):
    session = client.call("RequestSessionV1", **REQUEST)
    assert set(session) == {"sessionId", "revalidateWithin", "license"}
    assert set(session["license"]) == {"feature", "uuid", "version", "edition", "modules"}
    assert session["license"]["uuid"] == "-|127.0.0.1|-"  # the peer's address was added
    assert client.revalidate("s") == {"revalidateWithin": 120}
    assert client.give_back("s") is None


def test_grant(client):
    session = client.call("RequestSessionV1", **REQUEST, nonce=NONCE, instanceId="i-1",
                          client={"hostId": "h-1", "hostname": "x", "user": "y", "pid": "1",
                                  "application": "z"})
    grant = {"payload": NONCE, "signature": "AQIDBA==", "delegation": "AQI=",
             "certificate": "-----BEGIN CERTIFICATE-----\n"}
    assert session["grant"] == grant
    assert session["license"]["uuid"] == "h-1|127.0.0.1|i-1"
    assert client.call("RevalidateSessionV1", sessionId="s", nonce=NONCE) == {
        "revalidateWithin": 120, "grant": grant}


def test_borrowed_results(gateway):
    times = {"validFrom": "2026-11-24T08:00:00Z", "validUntil": "2026-11-25T08:00:00Z"}
    listed = {"borrowId": "b-1", "uuid": "u-1", "feature": "F", "hostId": "00:11:22:33:44:55",
              "fileName": "license_borrowed_b-1.dat", **times}
    with contextlib.closing(gateway.client(token=BORROW_TOKEN)) as c:
        assert c.call("ListBorrowedLicensesV1") == [listed]
        assert c.call("GetBorrowedLicenseV1", borrowId="b-1") == {
            **listed, "license": "the file\nüñ\n"}
        for validity, expected in (
                ({"validFrom": "2026-11-24", "validUntil": "2026-11-25"},
                 ("2026-11-24T00:00:00Z", "2026-11-26T00:00:00Z")),
                ({"validFrom": "2026-11-24T09:00:00+01:00", "validUntil": "2026-11-24T23:00:00Z"},
                 ("2026-11-24T08:00:00Z", "2026-11-24T23:00:00Z")),
                ({"validUntil": "2026-11-25T00:00:00Z"},
                 ("1970-01-01T00:00:00Z", "2026-11-25T00:00:00Z"))):
            b = c.call("BorrowLicenseV1", uuid="u-1", feature="F", hostId="h", **validity)
            assert (b["validFrom"], b["validUntil"]) == expected


CONSIDERED = {"considered": [{"uuid": "u-1", "feature": "F", "reason": "version"}], "omitted": 3}
ERRORS = {
    1001: ("NoLicense", CONSIDERED), 1002: ("NoSeat", {**CONSIDERED, "retryAfter": 7}),
    1003: ("SessionInvalid", {"reason": "some-reason"}),
    1004: ("ServerNotLicensed", {"reason": "some-reason"}),
    1005: ("BorrowNotAllowed", {"reason": "some-reason"}),
    1006: ("BorrowPeriodInvalid", {"reason": "some-reason", "limit": "7 d"}),
    1007: ("BorrowNotAvailable", {"from": "2026-11-24T08:00:00Z", "until": "2026-11-25T08:00:00Z"}),
    1008: ("NotFound", {}), 1011: ("Unavailable", {"service": "pool"}),
}


@pytest.mark.parametrize("code", ERRORS)
def test_errors_of_the_others(client, code):
    name, data = ERRORS[code]
    status, answer = single(client, call("RequestSessionV1", {**REQUEST, "feature": f"code:{code}"},
                                         id=1))
    assert status == 200
    assert answer["error"] == {"code": code, "message": "what is wrong and what to do",
                               "data": {"name": name, **data}}


def test_other_codes_of_the_others(client):
    error = single(client, call("RequestSessionV1", {**REQUEST, "feature": "code:-32602"}, id=1))[1]
    assert error["error"]["data"] == {"field": "instanceId", "reason": "some-reason"}
    error = single(client, call("RequestSessionV1", {**REQUEST, "feature": "code:4711"}, id=1))[1]
    assert error["error"]["code"] == -32603 and "data" not in error["error"]
