"""The demo in four containers: how it comes up, what it is kept from, and what happens when one of
them is killed, paused, cut off or restarted: the table at the end of docs/operations.md."""

import contextlib
import datetime
import json
import os
import signal
import socket
import ssl
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

from berth import RpcError, wait_until
from engine import (INSIDE, OUTSIDE, SERVICES, UID, PublishedClient, connect_from, network_of)

ALL = (*SERVICES, "backend")
PORTS = {"pool": 22034, "trust": 22035, "borrow": 22036}
OPS = {"pool": 22024, "trust": 22025, "borrow": 22026}
FIRST_HOUR = (datetime.datetime.utcnow() + datetime.timedelta(days=20)).replace(
    minute=0, second=0, microsecond=0)
lent_hours = []


# ---- clients ----

@pytest.fixture
def client(stack, tmp_path):
    client = stack.client(tmp_path)
    yield client
    client.close()


@pytest.fixture
def borrower(stack, tmp_path):
    borrower = stack.client(tmp_path, token=stack.read("borrow.token").strip())
    yield borrower
    borrower.close()


def take(client):
    return client.request("MVTec_HALCON", modules="fc")["sessionId"]


def borrow(borrower):
    """For an hour three weeks ahead, so that the seat serves sessions until then. Each time another
    host and hour, the second license would do no more than two of them; but the same again until
    it was answered, as the refusals ask for."""
    uuid = next(i["uuid"] for i in borrower.licenses() if i["count"] == 5)
    begin = FIRST_HOUR + datetime.timedelta(hours=6 * len(lent_hours))
    times = [t.isoformat() + "Z" for t in (begin, begin + datetime.timedelta(hours=1))]
    lent = borrower.call("BorrowLicenseV1", uuid=uuid, feature="MVTec_HALCON",
                         hostId=f"02:00:00:00:00:{len(lent_hours):02x}", validFrom=times[0],
                         validUntil=times[1])
    lent_hours.append(begin)
    return lent


def borrow_ids(client):
    return {b["borrowId"] for b in client.call("ListBorrowedLicensesV1")}


def take_and_return(client):
    client.give_back(take(client))


def refused(code, service, function, *arguments):
    """Until function() is refused so; until then too, each call is answered in time."""
    def answer():
        began = time.monotonic()
        try:
            function(*arguments)
            refusal = None
        except RpcError as e:
            refusal = e.code, e.data.get("service")
        except TimeoutError:
            pytest.fail("no answer at all")
        took = time.monotonic() - began
        if took > 8: # five seconds, and what a busy machine adds
            pytest.fail(f"answered after {took:.1f} s")
        return refusal == (code, service)
    wait_until(answer, 20, f"{code} {service}")


def works(function, *arguments, seconds=40):
    def answer():
        try:
            return (function(*arguments),)
        except RpcError as e:
            raise AssertionError(str(e)) from None
    return wait_until(answer, seconds, function.__name__)[0]


# ---- up ----

def test_the_demo_comes_up_healthy_from_nothing(stack):
    assert all(stack.healthy(service) for service in ALL)
    assert stack.inspect("keys")["State"]["ExitCode"] == 0
    ended = wait_until(lambda: stack.inspect("client")["State"]["Status"] == "exited" and
                       stack.inspect("client")["State"], 30, "client ends")
    said = stack.compose("logs", "--no-color", "client").stdout
    assert ended["ExitCode"] == 0 and '"result":null' in said, said


def test_a_session_through_the_published_port(client):
    session = take(client)
    assert client.revalidate(session)["revalidateWithin"] == 120
    assert client.give_back(session) is None
    with pytest.raises(RpcError) as refusal:
        client.revalidate(session)
    assert refusal.value.code == 1003


def test_a_borrow_through_the_published_port(client, borrower):
    with pytest.raises(RpcError) as refusal:
        borrow(client)
    assert refusal.value.code == 1009
    lent = borrow(borrower)
    assert "-----BEGIN BORROW-----" in lent["license"] and lent["hostId"] in lent["license"]
    assert borrower.call("GetBorrowedLicenseV1", borrowId=lent["borrowId"]) == lent
    assert lent["borrowId"] in borrow_ids(client)


# ---- kept from ----

@pytest.mark.parametrize("service", ALL)
def test_nothing_runs_as_root_nor_can_become_it(stack, service):
    top = stack.engine.docker("top", stack.container(service), "-o", "pid,comm").stdout
    pids = [line.split()[0] for line in top.splitlines()[1:]]
    texts = []
    for pid in pids:
        with contextlib.suppress(FileNotFoundError): # a health check ends soon
            texts.append(Path(f"/proc/{pid}/status").read_text())
    assert texts
    for text in texts:
        status = dict(line.split(":\t", 1) for line in text.splitlines())
        assert status["Uid"].split() == status["Gid"].split() == [str(UID)] * 4
        assert status["Groups"].split() in ([], [str(UID)])
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
        for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
            assert int(status[f"Cap{kind}"], 16) == 0, kind


def mounts(pid):
    """Mount point → (options, file system) of a process."""
    rows = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return {r[4]: (r[5].split(","), r[r.index("-") + 1]) for r in rows}


@pytest.mark.parametrize("service", ALL)
def test_the_file_system_is_read_only_but_for_state(stack, service):
    pid = stack.pid(service)
    kernel = ("proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts")
    writable = {point for point, (options, kind) in mounts(pid).items()
                if "rw" in options and kind not in kernel}
    # Of the engine, and in memory: /dev has no room for files, /dev/shm counts as memory.
    writable -= {"/dev", "/dev/shm"}
    # Masked by the engine with an empty folder or /dev/null.
    writable = {p for p in writable if not p.startswith(("/proc/", "/sys/"))}
    assert writable == (set() if service == "gateway" else {"/state"})
    for folder in ("/", "/usr/bin", "/etc/berth" if service != "backend" else "/vendor"):
        with pytest.raises(OSError, match="Read-only"):
            Path(f"/proc/{pid}/root{folder}/x").touch()


@pytest.mark.parametrize("service", ALL)
def test_memory_and_processes_are_limited(stack, service):
    limits = stack.inspect(service)["HostConfig"]
    assert 0 < limits["Memory"] <= 512 << 20 and 0 < limits["PidsLimit"] <= 64
    # The kernel's word for it, whichever version of control groups there is.
    lines = Path(f"/proc/{stack.pid(service)}/cgroup").read_text().splitlines()
    groups = {c: path for _, names, path in (line.split(":", 2) for line in lines)
              for c in names.split(",")}
    files = [(Path(f"/sys/fs/cgroup/{c}{groups[c]}/{name}") if c in groups else
              Path(f"/sys/fs/cgroup{groups.get('', '')}/{other}"))
             for c, name, other in (("memory", "memory.limit_in_bytes", "memory.max"),
                                    ("pids", "pids.max", "pids.max"))]
    assert [int(f.read_text()) for f in files] == [limits["Memory"], limits["PidsLimit"]]


def test_only_gateway_is_reached_from_elsewhere(stack, tmp_path):
    machine = f"/proc/{os.getpid()}/ns/net"
    ca = tmp_path / "tls.pem"
    ca.write_text(stack.read("tls.pem"))
    with contextlib.closing(PublishedClient(machine, 22022, ca, address=INSIDE)) as client:
        take_and_return(client)
    for port in (22023, *OPS.values(), *PORTS.values(), 22030):
        with pytest.raises(OSError):
            connect_from(machine, (INSIDE, port), 1).close()
    # Administration is for this host.
    connect_from(stack.network.path, ("127.0.0.1", 22023)).close()


def test_only_trust_reaches_out(stack):
    with socket.create_server((OUTSIDE, 0)) as listener:
        target = listener.getsockname()
        connect_from(stack.network_path("trust"), target).close()
        for service in ("gateway", "pool", "borrow"):
            with pytest.raises(OSError):
                connect_from(stack.network_path(service), target, 1).close()


def address_of(stack, service):
    return stack.inspect(service)["NetworkSettings"]["Networks"]["berth_inside"]["IPAddress"]


@pytest.mark.parametrize("service", PORTS)
def test_between_containers_nobody_is_heard_without_a_certificate(stack, service, tmp_path):
    def shake(context):
        raw = connect_from(stack.network_path("gateway"), (address_of(stack, service),
                                                           PORTS[service]))
        with context.wrap_socket(raw) as tls:
            tls.settimeout(3)
            with contextlib.suppress(TimeoutError):
                # Of TLS 1.3 and of mbedTLS: what the other side says comes with the first read.
                return tls.recv(1)
            return b"listens"
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        assert shake(context) == b""
    except (ssl.SSLError, ConnectionError):
        pass
    for name in ("gateway.pem", "gateway.key"):
        (tmp_path / name).write_text(stack.read(f"rpc/{name}"))
    context.load_cert_chain(tmp_path / "gateway.pem", tmp_path / "gateway.key")
    assert shake(context) != b""


@pytest.mark.parametrize("service", OPS)
def test_each_is_monitored_inside(stack, service):
    with network_of(stack.network_path("gateway")):
        connection = HTTPConnection(address_of(stack, service), OPS[service], timeout=5)
        connection.connect()
    for path, wanted in (("/health/ready", b'"ready":true'), ("/metrics", b"berth_build_info")):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200 and wanted in answer.read()
    connection.close()


# ---- what happens when ----

class Fault:
    """Something done to a container; undo() ends it."""

    def __init__(self, stack, service, kind, network="inside"):
        self.stack, self.service, self.kind = stack, service, kind
        self.container, self.network = stack.container(service), f"berth_{network}"
        self.engine = stack.engine

    def begin(self):
        if self.kind == "paused":
            self.engine.docker("pause", self.container)
        elif self.kind == "cut off":
            self.engine.docker("network", "disconnect", self.network, self.container)
        elif self.kind == "restarted":
            self.engine.docker("restart", self.container)
        else:
            before = self.stack.inspect(self.service)
            os.kill(before["State"]["Pid"], signal.SIGKILL)

            def again():
                now = self.stack.inspect(self.service)
                return now["State"]["Running"] and now["RestartCount"] > before["RestartCount"]
            wait_until(again, 20, f"{self.service} started again by the engine")

    def undo(self):
        if self.kind == "paused":
            self.engine.docker("unpause", self.container, check=False)
        elif self.kind == "cut off":
            self.engine.docker("network", "connect", "--alias", self.service, self.network,
                               self.container, check=False)


@contextlib.contextmanager
def fault(*arguments):
    """Whatever happens, what comes next finds a healthy stack, with its session and borrow."""
    fault = Fault(*arguments)
    fault.begin()
    try:
        yield
    finally:
        fault.undo()
    fault.stack.wait_ready()


@pytest.fixture
def holdings(client, borrower):
    """A session and a borrow from before the fault. Afterwards both must be there, and another
    session and borrow be possible."""
    session, lent = works(take, client), works(borrow, borrower)["borrowId"]
    yield session
    assert works(client.revalidate, session)["revalidateWithin"] == 120
    works(client.give_back, session)
    works(take_and_return, client)
    assert lent in works(borrow_ids, client)
    assert works(borrow, borrower)["borrowId"] != lent


def still_served(client, session):
    """At once; but a machine with too much to do may starve pool for the life of a verdict."""
    works(client.revalidate, session, seconds=10)
    works(take_and_return, client, seconds=10)


def test_gateway_paused_gives_no_answer_and_goes_on(stack, client, holdings, tmp_path):
    with fault(stack, "gateway", "paused"):
        with contextlib.closing(stack.client(tmp_path, timeout=1)) as other:
            with pytest.raises(OSError):
                other.licenses()


def test_gateway_cut_off_says_so(stack, client, holdings):
    with fault(stack, "gateway", "cut off"):
        refused(1011, "pool", client.revalidate, holdings)
        answer = wait_until(lambda: (p := json.loads(client.http(
            "GET", "/health/protection")[2]))["state"] == "invalid" and p, 20, "no fresh verdict")
        assert answer["valid_license"] is False and answer["reason"] == "trust unavailable"


@pytest.mark.parametrize("kind", ["paused", "cut off"])
def test_without_pool_no_sessions(stack, client, holdings, kind):
    with fault(stack, "pool", kind):
        refused(1011, "pool", client.revalidate, holdings)


@pytest.mark.parametrize("kind", ["paused", "cut off"])
def test_without_trust_nothing_is_given_but_taken_back(stack, client, holdings, kind):
    second = works(take, client)
    with fault(stack, "trust", kind):
        refused(1011, "trust", take_and_return, client)
        refused(1011, "trust", client.revalidate, holdings)
        assert client.licenses()
        client.give_back(second)


def test_without_the_backend_grace(stack, client, borrower, holdings):
    def state():
        return json.loads(client.http("GET", "/health/protection")[2])["state"]
    with fault(stack, "trust", "cut off", "outside"):
        wait_until(lambda: state() == "grace", 40, "grace")
        still_served(client, holdings)
        refused(1011, "cloud", borrow, borrower)
    wait_until(lambda: state() == "valid", 90, "valid again")


@pytest.mark.parametrize("kind", ["paused", "cut off"])
def test_without_borrow_sessions_go_on(stack, client, borrower, holdings, kind):
    with fault(stack, "borrow", kind):
        refused(1011, "borrow", borrow, borrower)
        still_served(client, holdings)


@pytest.mark.parametrize("kind", ["killed", "restarted"])
@pytest.mark.parametrize("service", SERVICES)
def test_after_a_new_start_all_is_as_before(stack, holdings, service, kind):
    with fault(stack, service, kind):
        pass


@pytest.mark.parametrize("service", ALL)
def test_stop_takes_less_than_six_seconds(stack, service):
    began = time.monotonic()
    stack.engine.docker("stop", "-t", "20", stack.container(service))
    took = time.monotonic() - began
    try:
        assert took < 6
        assert stack.inspect(service)["State"]["ExitCode"] == 0
    finally:
        stack.engine.docker("start", stack.container(service))
    stack.wait_ready()


def lay_out(stack, folder):
    """The demo's keys as files of an installation: BERTH_DIR of docker-compose.yml."""
    config, secrets = folder / "config", folder / "secrets"
    (config / "license").mkdir(parents=True)
    (secrets / "rpc").mkdir(parents=True)
    for name in ("config.yaml", "vendor-ca.pem", "tls.pem", "license/license_halcon.dat",
                 "license/license_halcon_dl.dat"):
        (config / name).write_text(stack.read(name))
    for name in ("tls.key", "admin.token", "borrow.token", "server-license/server-license.pem",
                 "server-license/server-license.key", "rpc/ca.pem",
                 *(f"rpc/{s}.{end}" for s in SERVICES for end in ("pem", "key"))):
        secret = secrets / name.removeprefix("server-license/")
        secret.write_text(stack.read(name))
        os.chown(secret, UID, UID)
        secret.chmod(0o400)


def test_state_survives_down_and_up(stack, client, holdings, tmp_path):
    """Up again not as a demo: by docker-compose.yml alone, with keys as secrets."""
    before = borrow_ids(client)
    lay_out(stack, tmp_path)
    stack.down()
    stack.compose("up", "-d", "backend", timeout=180)
    stack.files = [f for f in stack.files if f.name != "demo.yml"]
    stack.compose("up", "-d", env={"BERTH_DIR": str(tmp_path)}, timeout=180)
    client.close()
    assert borrow_ids(client) == before
