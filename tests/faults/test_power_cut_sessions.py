"""[P6]: the power is cut while pool writes its sessions. A start then either has every session that was
answered, or knows that some may be missing and gives out no new seat for an interval; and it always
starts. BERTH_FAULTS=all replays every point."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

import power_cut

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BERTH_BUILD", ROOT / "build"))
RIG = BUILD / "tests" / "faults" / "journal_rig"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
ALL = os.environ.get("BERTH_FAULTS") == "all"

pytestmark = pytest.mark.skipif(power_cut.missing() is not None, reason=str(power_cut.missing()))


@contextlib.contextmanager
def boot(folder, number):
    """As if the machine had been started for the number-th time."""
    power_cut.own_mounts()
    path = folder / f"boot-{number}"
    path.write_text(f"{number:08d}-0000-0000-0000-000000000000\n")
    power_cut.must("mount", "--bind", path, BOOT_ID)
    try:
        yield
    finally:
        power_cut.must("umount", BOOT_ID)


def workload(folder, lives):
    """lives: (mode, turns) of one process after another, each in a boot of its own."""
    def work(mount, promise):
        first = 1
        for number, (mode, turns) in enumerate(lives):
            with boot(folder, number), subprocess.Popen(
                    [RIG, mode, mount / "state", str(first), str(turns)], stdout=subprocess.PIPE,
                    text=True) as writer:
                for line in writer.stdout:
                    promise(int(line))
            assert writer.returncode == 0
            first += turns
    return work


class Looker:
    def __init__(self):
        self.sure = self.closed = 0

    def __call__(self, mount, promised):
        done = subprocess.run([RIG, "read", mount / "state"], capture_output=True, text=True)
        if done.returncode:
            return f"does not start: {done.stdout.strip()}"
        word, *live = done.stdout.split()
        live = sorted(map(int, live))
        if word == "doubtful":
            return None
        self.sure += 1
        self.closed += promised % 2
        newest = max(live, default=0)
        if newest < promised // 2:
            return f"lost: turn {promised // 2} was answered, {live} live"
        if live != list(range(max(1, newest - 4), newest + 1)):
            return f"not the sessions of any turn: {live}"
        return None


def replay(folder, lives, points):
    base, records = power_cut.record(folder / "run", workload(folder, lives))
    # A moment at which something was promised is one to cut the power at, even if nothing was written.
    records = [r for one in records
               for r in ([one, (b"w", 0, b"")] if one[0] == b"m" else [one])]
    every = list(power_cut.crashes(records, power_cut.seeded(1), orders=2))
    # Some of them, and all at which a process had ended in order.
    share = 1 if ALL else max(1, len(every) // points)
    chance = power_cut.seeded(2)
    chosen = [p for p in every if p[0] % 2 or chance.random() < 1 / share]
    look = Looker()
    with boot(folder, 99):
        count, wrong = power_cut.replay(folder / "run", base, chosen, look)
    print(f"{lives}: {count} of {len(every)} points, {look.sure} sure, {len(wrong)} bad")
    return count, wrong, look


def test_p6_no_power_cut_makes_pool_sure_of_sessions_that_are_lost(tmp_path):
    count, wrong, look = replay(tmp_path, [("close", 15), ("write", 20), ("close", 10)], 70)
    assert not wrong, wrong[:3]
    assert count > 40 and look.closed > 0


def test_p6_the_rig_has_teeth(tmp_path):
    """A journal that does not sync its beginning is taken for the one that was closed before it."""
    _, wrong, _ = replay(tmp_path, [("close", 10), ("careless", 20)], 40)
    assert any("lost" in w for w in wrong)
