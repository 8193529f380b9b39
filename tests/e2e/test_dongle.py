"""[S2], [S3], [S4] with the unmodified libusb: emulated tokens as USB devices of umockdev."""

import base64
import datetime
import json
import os
import re
import secrets
import signal
import time
import urllib.request

import pytest
from berth import BUILD, Process, RpcError, Site, vendor, wait_until
from dongle import License, Tokens, make_key, make_license, refusal
from test_grants import HOST, verify

SERVER_ID = "BERTH-TEST-0001"
MESSAGES = {  # for people: what to do
    "dongle-absent": "Plug",
    "dongle-busy": "pcscd",
    "dongle-no-permission": "udev",
    "dongle-unsupported": "Nitrokey",
    "certificate": "the vendor",
    "proof-failed": "ask the vendor",
    "expired": "new server license",
}


@pytest.fixture(scope="module")
def licenses(tmp_path_factory, keys):
    """Server licenses and what is none, by name."""
    folder = tmp_path_factory.mktemp("tokens")
    foreign = folder / "foreign"
    vendor("init", "--dir", foreign)
    vendor("cloud-license", "--dir", keys, "--server-id", SERVER_ID, "--cloud-url",
           "https://localhost:1", "--out", folder / "cloud")
    good = make_license(keys, folder, "good", SERVER_ID)
    now = datetime.datetime.utcnow().strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "good": good,
        "rsa": make_license(keys, folder, "rsa", SERVER_ID, kind="rsa"),
        "other": make_license(keys, folder, "other", "BERTH-TEST-0002"),
        "renewed": make_license(keys, folder, "renewed", SERVER_ID, "--valid-until", "2040-01-01"),
        "expired": make_license(keys, folder, "expired", SERVER_ID, "--valid-until", now),
        "foreign": make_license(foreign, folder, "foreign-1", SERVER_ID),
        "cloud-ready": License(folder / "cloud" / "server-license.pem",
                               folder / "cloud" / "server-license.key"),
        "copied": License(good.cert, make_key(folder, "copied")),
    }


@pytest.fixture
def tokens():
    tokens = Tokens()
    yield tokens
    tokens.stop()


def configure(site):
    site.configure(trust__server_license=None, trust__dongle={})
    site.license("a", count=5)


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


class Trust:
    """berth-trust alone."""

    def __init__(self, site, tokens, prefix=()):
        configure(site)
        site.configure(rpc__trust=f"ipc://{site.folder}/trust.sock")
        self.port = site.ops["trust"]
        self.process = Process([*prefix, BUILD / "berth-trust", "-c", site.config],
                               site.folder / "trust.log", tokens.environment)
        site.services["trust"] = self.process

    def refused(self, reason):
        assert self.process.wait(30) == 1, self.process.text()
        text = self.process.text()
        assert f"{reason}: " in text and MESSAGES[reason] in text, text
        return text

    def get(self, path):
        return get(self.port, path)

    def serves(self):
        def ready():
            assert self.process.running() or pytest.fail(self.process.text())
            return 'berth_verdict_state{state="valid"} 1' in self.get("/metrics")
        wait_until(ready, 15, "verdict valid")
        return self

    def metric(self, name):
        return float(re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics"), re.M).group(1))


# ---- [S2]: at start ----

def test_s2_without_a_dongle_the_server_does_not_start(site, tokens):
    configure(site)
    server = site.spawn_server(tokens.environment)
    assert server.wait(20) == 1
    assert "dongle-absent" in server.text() and "Plug in the dongle" in server.text()


@pytest.mark.parametrize("make, license", [("notifies", "good"), ("plain", "good"),
                                           ("composite", "good"), ("notifies", "rsa"),
                                           ("plain", "rsa")])
def test_s2_starts_with(site, tokens, licenses, make, license):
    tokens.plug(licenses[license], make)
    trust = Trust(site, tokens).serves()
    assert trust.metric("berth_dongle_present") == 1
    assert "the dongle" not in trust.process.text()


@pytest.mark.parametrize("fault", ["time-extensions", "stale-frames", "empty-reads", "small-parts",
                                   "wants-le", "only-5v"])
@pytest.mark.parametrize("license", ["good", "rsa"])
def test_s2_starts_with_a_token_that_has_its_ways(site, tokens, licenses, fault, license):
    tokens.plug(licenses[license], "plain")
    tokens.fault(fault)
    Trust(site, tokens).serves()


@pytest.mark.parametrize("license, reason", [
    ("expired", "expired"), ("foreign", "certificate"), ("cloud-ready", "certificate"),
    ("copied", "proof-failed")])
def test_s2_a_wrong_certificate_does_not_start(site, tokens, licenses, license, reason):
    tokens.plug(licenses[license])
    Trust(site, tokens).refused(reason)


FAULTS = {
    "endless-time-extensions": "proof-failed",
    "many-stale-frames": "dongle-unsupported",
    "endless-empty-reads": "dongle-unsupported",
    "no-voltage": "dongle-unsupported",
    "no-card": "dongle-absent",
    "no-piv": "dongle-unsupported",
    "no-certificate": "certificate",
    "broken-object": "certificate",
    "compressed": "certificate",
    "wrong-signature": "proof-failed",
    "refuses-to-sign": "proof-failed",
    "silent": "dongle-absent",
    "silent-at-signature": "proof-failed",
    "removed": "dongle-absent",
    "removed-at-signature": "dongle-absent",
    "garbage": "dongle-unsupported",
    "short-frames": "dongle-unsupported",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_s2_a_token_that_misbehaves_does_not_start(site, tokens, licenses, fault):
    tokens.plug(licenses["good"])
    tokens.fault(fault)
    text = Trust(site, tokens).refused(FAULTS[fault])
    if fault == "compressed":
        assert "gzip" in text and "uncompressed" in text


def test_s2_a_reader_below_the_apdu_level_does_not_start(site, tokens, licenses):
    tokens.plug(licenses["good"], "tpdu")
    assert "TPDU" in Trust(site, tokens).refused("dongle-unsupported")


def test_s2_a_token_that_another_program_holds_does_not_start(site, tokens, licenses):
    tokens.plug(licenses["good"])
    tokens.command("claim", "busy")
    Trust(site, tokens).refused("dongle-busy")


def test_s2_a_token_that_may_not_be_opened_does_not_start(site, tokens, licenses):
    os.chmod(tokens.plug(licenses["good"]), 0)
    # Root opens what it likes, unless it has given that up.
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else []
    Trust(site, tokens, drop).refused("dongle-no-permission")


# ---- several tokens ----

def test_the_first_that_proves_a_valid_license_is_used(site, tokens, licenses):
    tokens.plug(licenses["foreign"], port=1)
    tokens.plug(licenses["good"], "composite", port=2)
    tokens.plug(licenses["copied"], port=3)
    trust = Trust(site, tokens).serves()
    assert f"server_id={SERVER_ID}" in trust.process.text()


def test_of_several_bad_ones_the_nearest_is_reported(site, tokens, licenses):
    tokens.plug(licenses["good"], "tpdu", port=1)
    tokens.plug(licenses["copied"], port=2)
    tokens.plug(licenses["foreign"], port=3)
    Trust(site, tokens).refused("proof-failed")


# ---- [S3]: while running ----

class Running:
    def __init__(self, site, tokens, license):
        self.site, self.tokens = site, tokens
        configure(site)
        tokens.plug(license)
        site.spawn_server(tokens.environment)
        site.wait_ready()
        self.client = site.client()
        self.served()

    def served(self, seconds=10):
        wait_until(lambda: refusal(self.client) is None, seconds, "served")

    def refused(self, reason, seconds=10):
        wait_until(lambda: refusal(self.client) == reason, seconds, f"refused: {reason}")

    def open_files(self):
        """As trust counts them: /proc/…/fd of a process that cannot be dumped is root's."""
        text = get(self.site.ops["trust"], "/metrics")
        return int(re.search(r"^berth_process_open_fds (\d+)$", text, re.M).group(1))


@pytest.fixture(scope="module")
def running(tmp_path_factory, keys, licenses):
    site, tokens = Site(tmp_path_factory.mktemp("site"), keys), Tokens()
    yield Running(site, tokens, licenses["good"])
    site.stop()
    tokens.stop()


@pytest.mark.parametrize("fault, reason", [
    ("no-card", "dongle-absent"), ("silent", "dongle-absent"), ("removed", "dongle-absent"),
    ("garbage", "dongle-unsupported"), ("short-frames", "dongle-unsupported"),
    ("many-stale-frames", "dongle-unsupported"), ("endless-empty-reads", "dongle-unsupported"),
])
def test_s3_a_token_that_goes_wrong_ends_the_verdict(running, fault, reason):
    running.served()
    session = running.client.request()["sessionId"]
    running.tokens.fault(fault)
    running.refused(reason)
    with pytest.raises(RpcError) as refused:
        running.client.revalidate(session)
    assert refused.value.code == 1004
    protection = running.site.protection()
    assert protection["valid_license"] is False and protection["state"] == "invalid"
    assert protection["reason"] == reason and protection["variant"] == "on-premises"
    assert "the server goes on by itself" in refused.value.message or "Plug" in refused.value.message
    running.tokens.fault("good")
    running.served()
    running.client.revalidate(session)
    running.client.give_back(session)


def test_s3_a_reset_token_is_proven_anew(running):
    running.served()
    log = running.site.server.text()
    running.tokens.fault("reset")
    wait_until(lambda: "the token was reset" in running.site.server.text()[len(log):], 10, "reset")
    running.served()


def test_s3_unplugged_and_plugged_in_again(running, licenses):
    running.served()
    for make in ("plain", "composite", "notifies"):
        running.tokens.unplug()
        running.refused("dongle-absent", 5)
        running.tokens.plug(licenses["good"], make)
        running.served(5)


def test_s3_removed_in_the_middle_of_a_signature(running, licenses):
    """At insertion: the token goes while it signs, and comes back."""
    running.served()
    running.tokens.unplug()
    running.refused("dongle-absent")
    running.tokens.plug(licenses["good"])
    running.tokens.fault("removed-at-signature")
    running.tokens.unplug()
    running.tokens.plug(licenses["good"])
    running.served()


@pytest.mark.parametrize("license, reason", [
    ("copied", "proof-failed"), ("foreign", "certificate"), ("expired", "expired")])
def test_s3_swapped_for_a_wrong_one(running, licenses, license, reason):
    running.served()
    running.tokens.unplug()
    running.tokens.plug(licenses[license])
    running.refused(reason)
    running.tokens.unplug()
    running.tokens.plug(licenses["good"])
    running.served()


def test_s3_taken_by_another_program_meanwhile(running, licenses):
    running.served()
    running.tokens.unplug()
    running.tokens.plug(licenses["good"])
    running.tokens.command("claim", "busy")
    running.tokens.fault("reset")
    running.refused("dongle-busy")
    running.tokens.command("claim", "free")
    running.served()


def test_s3_usb_that_hangs_is_not_believed(running):
    running.served()
    running.tokens.command("hang")
    running.refused("dongle-absent", 5)
    assert running.site.protection()["reason"] == "dongle-absent"
    running.tokens.command("go-on")
    running.served()


def test_s3_a_card_that_leaves_its_reader_is_noticed_by_its_notice(running, licenses):
    running.served()
    running.tokens.unplug()
    running.tokens.plug(licenses["good"], "notifies")
    running.served()
    for n in range(1, 4):
        running.tokens.command("notify")
        wait_until(lambda: running.tokens.counts()[1] == n, 10, f"notice {n} read")
    running.served()


def test_s3_a_flood_of_notices_is_not_followed(running):
    """A reader that sends them without end must not keep a processor busy: two looks for each poll."""
    running.served()
    running.tokens.command("flood")
    sent, notices = running.tokens.counts()
    wait_until(lambda: running.tokens.counts()[0] >= sent + 20, 60, "20 looks")
    looks, read = (n - m for n, m in zip(running.tokens.counts(), (sent, notices)))
    assert 0 < read <= looks / 2 + 2, (looks, read)  # every other look is by time
    running.tokens.command("calm")
    running.served()


def test_s4_another_dongle_serves_none_of_the_licenses(running, licenses):
    running.served()
    running.tokens.unplug()
    running.tokens.plug(licenses["other"])

    def foreign():
        try:
            running.client.give_back(running.client.request()["sessionId"])
        except RpcError as e:
            return e.code == 1001 and e.data["considered"][0]["reason"] == "server-id"
        return False
    wait_until(foreign, 10, "no license is for this server")
    protection = running.site.protection()
    assert protection["server_id"] == "BERTH-TEST-0002" and protection["valid_license"] is True
    running.tokens.unplug()
    running.tokens.plug(licenses["good"])
    running.served()
    assert running.site.protection()["server_id"] == SERVER_ID


def test_s3_a_renewed_dongle_is_taken_over(running, licenses):
    running.served()
    running.tokens.unplug()
    running.tokens.plug(licenses["renewed"])
    running.served()

    def years():
        text = urllib.request.urlopen(
            f"http://127.0.0.1:{running.site.ops['trust']}/metrics", timeout=5).read().decode()
        found = re.search(r"^berth_server_license_expiry_seconds (\S+)$", text, re.M)
        return float(found.group(1)) / (365 * 86400) > 5
    wait_until(years, 10, "the new end")
    running.tokens.unplug()
    running.tokens.plug(licenses["good"])
    running.served()


@pytest.mark.parametrize("license", ["good", "rsa"])
def test_grants_are_proven_by_the_key_in_the_dongle(site, tokens, licenses, tmp_path, license):
    server = Running(site, tokens, licenses[license])
    nonce = base64.b64encode(secrets.token_bytes(16)).decode()

    def granted():
        try:
            return server.client.request(nonce=nonce, instanceId="i", client={"hostId": HOST})
        except RpcError as e:
            assert e.code == 1011, e  # pool's key is being certified
            return None
    got = wait_until(granted, 10, "a grant")
    assert verify(site, tmp_path, got["grant"])["nonce"] == nonce
    assert got["grant"]["certificate"] == licenses[license].cert.read_text()
    sent, _ = tokens.counts()
    for _ in range(20):  # the token does not sign for each
        server.client.call("RevalidateSessionV1", sessionId=got["sessionId"], nonce=nonce)
    assert tokens.counts()[0] - sent < 20


def test_grants_name_the_dongle_that_is_plugged_in(running, licenses):
    """After a swap nothing proves what the dongle before has certified."""
    running.served()
    running.tokens.unplug()
    running.tokens.plug(licenses["other"])
    other = running.site.folder / "license" / "license_other.dat"
    vendor("license", "--dir", running.site.keys, "--server-id", "BERTH-TEST-0002", "--feature", "F",
           "--version", "24.11", "--edition", "Steady", "--modules", "", "--count", "1", "--out", other)
    nonce = base64.b64encode(secrets.token_bytes(16)).decode()

    def granted():
        try:
            got = running.client.request(nonce=nonce, instanceId="j", client={"hostId": HOST})
        except RpcError as e:
            assert e.code in (1001, 1004, 1011), e
            return None
        running.client.give_back(got["sessionId"])
        payload = json.loads(base64.b64decode(got["grant"]["payload"]))
        return payload["serverId"] == "BERTH-TEST-0002" and got["grant"]
    grant = wait_until(granted, 10, "a grant of the other")
    assert grant["certificate"] == licenses["other"].cert.read_text()
    other.unlink()
    running.tokens.unplug()
    running.tokens.plug(licenses["good"])
    running.served()


# ---- many times, and the end ----

def resident_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


def test_s3_many_removals_and_insertions_in_a_row(running, licenses):
    """BERTH_REPLUGS=1000 for the whole thing."""
    times = int(os.environ.get("BERTH_REPLUGS", "50"))
    within = 2 if "BERTH_REPLUGS" in os.environ else 5  # the suite is not alone on its machine
    pid = running.site.child("trust")
    slowest = {"refused": 0.0, "served": 0.0}
    log_before = len(running.site.server.text())
    before = None
    for i in range(times):
        running.served()
        running.tokens.unplug()
        began = time.monotonic()
        running.refused("dongle-absent", within)
        slowest["refused"] = max(slowest["refused"], time.monotonic() - began)
        running.tokens.plug(licenses["good"], ("notifies", "plain", "composite")[i % 3])
        began = time.monotonic()
        running.served(within)
        slowest["served"] = max(slowest["served"], time.monotonic() - began)
        if i == min(4, times - 1):
            before = running.open_files(), resident_kib(pid)
    after = running.open_files(), resident_kib(pid)
    print(json.dumps({"replugs": times, "slowest": slowest, "files, KiB": [before, after]}))
    assert running.site.child("trust") == pid
    log = running.site.server.text()[log_before:]
    assert set(re.findall(r"dongle\.\w+ reason=(\S+)", log)) == {"dongle-absent"}
    assert log.count("dongle.proven") == log.count("dongle.refused") == times
    assert after[0] <= before[0] + 2 and after[1] <= before[1] + 1024, (before, after)


@pytest.mark.parametrize("hang", [False, True])
def test_ends_in_time_also_when_usb_hangs(site, tokens, licenses, hang):
    tokens.plug(licenses["good"])
    trust = Trust(site, tokens).serves()
    if hang:
        tokens.command("hang")
        wait_until(lambda: "dongle.hangs" in trust.process.text(), 10, "hang seen")
    assert trust.process.stop(signal.SIGTERM) == 0
