"""[D2] and [D3] with the real processes: berth-borrow is killed at, or is failed by, one system
call after the other of its start and of a borrow, by strace. It starts again every time, and every
borrow that was answered is there. BERTH_FAULTS=all takes every call, else a sample of each kind."""

import os
import re
import shutil
import signal
import subprocess

import pytest
from berth import BUILD, vendor
from lending import lender, start_one_by_one, uuid_of

ALL = os.environ.get("BERTH_FAULTS") == "all"
SAMPLE = 6  # of the calls of one kind
CALL = BUILD / "tests" / "faults" / "borrow_call"
# They end the process, or are made before there is one.
NOT_FAILED = {"execve", "exit", "exit_group", "arch_prctl", "rt_sigreturn"}
ERRORS = {"openat": ("EIO", "EMFILE"), "write": ("ENOSPC", "EINTR"), "fsync": ("EIO",),
          "renameat": ("EIO", "ENOSPC"), "read": ("EIO",), "flock": ("EINTR",),
          "sendmsg": ("EPIPE",), "unlink": ("EIO",), "fstat": ("EIO",)}


def cannot_trace():
    if not shutil.which("strace"):
        return "strace is not installed"
    done = subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True)
    return "processes cannot be traced here" if done.returncode else None


pytestmark = pytest.mark.skipif(cannot_trace() is not None, reason=str(cannot_trace()))


class Lender:
    """trust, pool and the backend run on; berth-borrow is started for each point."""

    def __init__(self, folder):
        vendor("init", "--dir", folder / "keys")
        (folder / "site").mkdir()
        self.site = lender(folder / "site", folder / "keys")
        self.site.license("a", count=100_000)
        self.uuid = uuid_of(self.site.license_folder / "license_a.dat")
        start_one_by_one(self.site)
        self.site.services.pop("gateway").stop()
        self.site.services.pop("borrow").stop()
        self.answered, self.points, self.disturbed, self.hosts = set(), 0, 0, 0

    def run(self, *strace):
        """One start, one borrow, one list. The exit codes of berth-borrow, negative for a signal or
        None if it was still alive, and of the caller."""
        self.hosts += 1
        borrow = [BUILD / "berth-borrow", "-c", self.site.config]
        traced = ["strace", "-f", "-qq", *strace, "--"] if strace else []
        log = open(self.site.folder / "borrow.log", "w+")
        with subprocess.Popen([*traced, *borrow], stdout=log, stderr=log,
                              start_new_session=True) as process:
            url = f"ipc://{self.site.rpc}/borrow"
            call = subprocess.Popen([CALL, url, self.uuid, "F", f"h{self.hosts}", "10"],
                                    stdout=subprocess.PIPE, text=True)
            # Nobody has to wait for an answer of the dead.
            while call.poll() is None and process.poll() is None:
                try:
                    call.wait(0.02)
                except subprocess.TimeoutExpired:
                    pass
            if process.poll() is not None and call.poll() is None:
                call.send_signal(signal.SIGTERM)
            said = call.communicate()[0]
            code = process.poll()
            if code is None:
                os.killpg(process.pid, signal.SIGTERM)
        log.seek(0)
        self.log = log.read()
        log.close()
        self.take(said)
        return code, call.returncode

    def take(self, said):
        listed = set(re.findall(r"^listed (\w+)$", said, re.MULTILINE))
        if listed:
            assert self.answered <= listed, f"lost: {self.answered - listed}"
        self.answered |= set(re.findall(r"^borrowed (\w+)$", said, re.MULTILINE))

    def clean(self, after):
        """A start that nobody disturbs, which must succeed."""
        code, asked = self.run()
        assert code is None and asked == 0, f"does not start after {after}: {self.log[-2000:]}"

    def calls(self):
        """How often each system call is made in a run that nobody disturbs."""
        counts = self.site.folder / "counts"
        self.run("-c", "-o", counts)
        rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", counts.read_text(),
                          re.MULTILINE)
        return {name: int(count) for count, name in rows if name != "total"}

    def disturb(self, name, action, nth):
        """One point; False if the run ended undisturbed."""
        code, asked = self.run("-o", os.devnull, "-e", f"trace={name}", "-e",
                               f"inject={name}:{action}:when={nth}")
        self.points += 1
        disturbed = code is not None or asked != 0
        self.disturbed += disturbed
        if "SIGKILL" in action:
            assert code in (None, -signal.SIGKILL, 128 + signal.SIGKILL), (
                f"{name} {nth}: exit {code}: {self.log[-2000:]}")
        return disturbed


@pytest.fixture(scope="module")
def borrows(tmp_path_factory):
    made = Lender(tmp_path_factory.mktemp("kill"))
    yield made
    made.site.stop()


def chosen(count):
    """All of 1 … count, or a sample with the first and the last."""
    if ALL or count <= SAMPLE:
        return range(1, count + 1)
    return sorted({1 + round(i * (count - 1) / (SAMPLE - 1)) for i in range(SAMPLE)})


def test_D2_killed_at_every_system_call_of_a_borrow(borrows):
    calls = borrows.calls()
    assert calls["fsync"] >= 4 and calls["renameat"] >= 2, calls
    for name, count in calls.items():
        if name in NOT_FAILED:
            continue
        # A run differs from the next: what is counted per thread ends before the sum does.
        for nth in chosen(count):
            borrows.disturb(name, "signal=SIGKILL", nth)
        borrows.clean(f"SIGKILL at {name}")
    print(f"{borrows.points} points, {borrows.disturbed} killed, {len(borrows.answered)} answered")
    assert borrows.disturbed > 100
    assert len(borrows.answered) > 30


def test_D3_failed_by_every_system_call_of_a_borrow(borrows):
    calls = borrows.calls()
    before = borrows.points
    for name, errors in ERRORS.items():
        for error in errors:
            for nth in chosen(calls.get(name, 0)):
                borrows.disturb(name, f"error={error}", nth)
                borrows.clean(f"{error} at {name} {nth}")
    print(f"{borrows.points - before} points")
    assert borrows.points - before > 30
