"""The verdict while time passes, and while the date is set: the real berth-trust, on clocks of the test's."""

import datetime
import os
import shutil
import signal

import pytest
from berth import wait_until
from clocks import HOUR, Clocks
from trust_place import Host, place  # noqa: F401 (place is a fixture)

DAY = 24 * HOUR


@pytest.fixture
def clocks(tmp_path):
    return Clocks(tmp_path / "clocks")


def host_on(place, clocks, **cloud):  # noqa: F811
    host = Host(place, **cloud)
    host.env = clocks.env
    return host


def left(host):
    return host.metric("berth_grace_seconds_left")


def said(host, text):
    """In the newest change of the verdict that was logged."""
    wait_until(lambda: text in host.process.text().rpartition("verdict.changed")[2], what=text)


def test_s6_grace_of_four_hours(place, clocks):  # noqa: F811
    """Valid at 3 h 59 min, invalid at 4 h, valid again after a success."""
    place.cloud()
    host = host_on(place, clocks).start()
    place.stop_cloud()
    host.becomes("grace")
    assert 4 * HOUR - 60 < left(host) <= 4 * HOUR
    clocks.passes(3 * HOUR + 59 * 60 - 60)  # it is some seconds since the last success
    wait_until(lambda: left(host) <= 120, what="time passed")
    assert host.state() == "grace"
    clocks.passes(left(host) - 5)
    wait_until(lambda: left(host) <= 5, what="time passed")
    host.becomes("invalid")
    host.logged("reason=grace-over")
    clocks.passes(15 * HOUR)
    assert host.state() == "invalid"
    place.cloud()
    clocks.passes(60)  # the longest pause between two tries
    host.becomes("valid")


def test_s6_setting_the_date_changes_nothing(place, clocks):  # noqa: F811
    place.cloud()
    host = host_on(place, clocks).start()
    place.stop_cloud()
    host.becomes("grace")
    clocks.passes(2 * HOUR)
    wait_until(lambda: left(host) <= 2 * HOUR, what="time passed")
    for hours in (-23, 23, -1, 12):
        clocks.set_date(2 * HOUR + hours * HOUR)
        wait_until(lambda h=hours: abs(host.metric("berth_clock_skew_seconds") - h * HOUR) < 300,
                   what="the date is seen")
        assert host.state() == "grace" and 2 * HOUR - 300 < left(host) <= 2 * HOUR
    for hours in (-2 * 24, 10 * 365 * 24):
        clocks.set_date(2 * HOUR + hours * HOUR)
        host.becomes("invalid")
        said(host, "reason=clock")
        clocks.set_date(2 * HOUR)
        host.becomes("grace")
        said(host, "state=grace")
        assert 2 * HOUR - 600 < left(host) <= 2 * HOUR
    clocks.passes(2 * HOUR)
    host.becomes("invalid")
    for hours in (-23, 23):
        clocks.set_date(4 * HOUR + hours * HOUR)
        wait_until(lambda h=hours: abs(host.metric("berth_clock_skew_seconds") - h * HOUR) < 300,
                   what="the date is seen")
        assert host.state() == "invalid"


def test_s6_lowered_grace_counts_from_the_last_success(place, clocks):  # noqa: F811
    place.cloud()
    host = host_on(place, clocks, grace="10 min").start()
    place.stop_cloud()
    host.becomes("grace")
    assert left(host) <= 600
    clocks.passes(599 - 300)
    host.becomes("grace")
    clocks.passes(301)
    host.becomes("invalid")


def test_s6_suspended_machine(place, clocks):  # noqa: F811
    """It slept for longer than the grace period: nothing is believed until the backend was asked."""
    place.cloud()
    host = host_on(place, clocks, check_interval="3600 s").start()
    place.stop_cloud()
    clocks.passes(5 * HOUR)
    host.becomes("invalid")
    place.cloud()
    clocks.passes(60)
    host.becomes("valid")


def test_clock_skew_warned_about_and_refused(place, clocks):  # noqa: F811
    """More than five minutes is said, a day is too much, and a correct clock mends it by itself."""
    place.cloud()
    host = host_on(place, clocks).start()
    for seconds in (250, -250):
        clocks.set_date(seconds)
        wait_until(lambda s=seconds: abs(host.metric("berth_clock_skew_seconds") - s) <= 20, what="skew")
    assert "clock.skew" not in host.process.text()
    for seconds in (400, -400):
        clocks.set_date(seconds)
        wait_until(lambda: "clock.skew" in host.process.text().rpartition("clock.right")[2], what="warning")
        assert host.state() == "valid"
        clocks.set_date(0)
        wait_until(lambda: "clock.right" in host.process.text().rpartition("clock.skew")[2], what="right")
    for days in (1.01, -1.01, 3000):
        clocks.set_date(days * DAY)
        host.becomes("invalid")
        said(host, "reason=clock")
        clocks.set_date(0)
        host.becomes("valid")
    assert host.process.stop() == 0


def test_clock_wrong_at_start(place, clocks):  # noqa: F811
    place.cloud()
    clocks.set_date(-2 * DAY)
    host = host_on(place, clocks)
    process = host.spawn()
    assert process.wait(20) == 1 and "clock" in process.text()
    clocks.set_date(0)
    host.start()


def test_mark_of_the_clock_is_kept(place, clocks):  # noqa: F811
    """It rises with time that passed, not with a date that was set."""
    place.cloud()
    host = host_on(place, clocks).start()
    assert host.process.stop() == 0
    file = host.folder / "state" / "clock-mark"

    def mark():
        return datetime.datetime.strptime(file.read_text().splitlines()[1], "%Y-%m-%dT%H:%M:%SZ")
    first = mark()
    assert abs((datetime.datetime.utcnow() - first).total_seconds()) < 3700  # since the license began
    clocks.set_date(300 * DAY)
    host.spawn()
    wait_until(lambda: not host.process.running() or "verdict" in host.process.text(), what="decided")
    host.process.stop()
    assert (mark() - first).total_seconds() < 600
    clocks.set_date(0)
    host.start()
    clocks.passes(3 * HOUR)
    wait_until(lambda: (mark() - first).total_seconds() > 2 * HOUR, what="saved while it runs")
    for text in ("", "berth-clock-mark 1\n", "berth-clock-mark 2\n2026-01-01T00:00:00Z\n", "x" * 5000):
        host.process.stop()
        file.write_text(text)
        host.start()
        assert "clock.mark-ignored" in host.process.text()
        host.process.log.unlink()


# ---- the server license's own dates ----

def iso(days):
    return (datetime.datetime.utcnow() + datetime.timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def put(place, host, days, *more):  # noqa: F811
    """A renewed server license in the place of the one that the host has, the key is the same."""
    out = place.folder / f"renewed-{days}"
    place.issue(out.name, "--renew", host.folder / "server-license" / "server-license.pem",
                "--valid-until", iso(days), *more)
    (out / "server-license.pem").replace(host.folder / "server-license" / "server-license.pem")


@pytest.mark.parametrize("signal_sent", [False, True])
def test_s7_server_license_expires_while_it_runs_and_is_renewed(place, clocks, signal_sent):  # noqa: F811
    """No grace; and a renewed one is taken over without a restart."""
    shutil.rmtree(place.folder / "server-license")
    place.issue("server-license", "--valid-until", iso(3))
    place.cloud(env=clocks.env)
    host = host_on(place, clocks, check_interval="3600 s").start()
    pid = host.process.pid
    clocks.passes(3 * DAY - 30)
    wait_until(lambda: host.metric("berth_server_license_expiry_seconds") < 40, what="the last seconds")
    host.becomes("valid")  # once the check is made that is due after so long
    clocks.passes(40)
    host.becomes("invalid")
    host.logged("reason=expired")
    clocks.passes(3600)  # the backend says the same
    wait_until(lambda: host.metric('berth_cloud_checks_total{outcome="refused"}'), what="asked")
    put(place, host, 30)
    if signal_sent:
        os.kill(pid, signal.SIGHUP)
    host.becomes("valid")
    assert host.process.pid == pid and "license.renewed" in host.process.text()
    assert 20 * DAY < host.metric("berth_server_license_expiry_seconds") < 30 * DAY


def test_renewal_that_is_none(place, clocks):  # noqa: F811
    """Whatever is wrong with the new files, the old license goes on, and it is said once."""
    place.cloud()
    host = host_on(place, clocks).start()
    files = host.folder / "server-license"
    good = (files / "server-license.pem").read_bytes()
    place.issue("foreign", server="OTHER-1")
    other = place.folder / "foreign"
    told = 0
    for make in (lambda: (files / "server-license.pem").write_text("nothing"),
                 lambda: (files / "server-license.pem").unlink(),
                 lambda: [shutil.copy(other / name, files) for name in os.listdir(other)]):
        make()
        wait_until(lambda n=told: host.process.text().count("license.not-renewed") > n, what="refused")
        told += 1
        assert host.state() == "valid"
        os.kill(host.process.pid, signal.SIGHUP)
        wait_until(lambda n=told: host.process.text().count("config.refused") == n, what="refused")
    assert "OTHER-1" in host.process.text() and "restart" in host.process.text()
    shutil.copy(place.folder / "server-license" / "server-license.key", files)
    (files / "server-license.pem").write_bytes(good)
    os.kill(host.process.pid, signal.SIGHUP)
    wait_until(lambda: "config.reloaded" in host.process.text(), what="the old one again")
    checks = host.metric('berth_cloud_checks_total{outcome="ok"}')
    wait_until(lambda: host.metric('berth_cloud_checks_total{outcome="ok"}') > checks, what="a check")
    assert "license.renewed" not in host.process.text()
