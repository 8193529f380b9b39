"""[D2]: the power is cut while the ledger is written. BERTH_FAULTS=all replays every point."""

import os
import subprocess
from pathlib import Path

import pytest

import power_cut

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BERTH_BUILD", ROOT / "build"))
RIG = BUILD / "tests" / "faults" / "store_rig"
ALL = os.environ.get("BERTH_FAULTS") == "all"
LEDGERS = 60

pytestmark = pytest.mark.skipif(power_cut.missing() is not None, reason=str(power_cut.missing()))


def workload(mode):
    def work(mount, promise):
        with subprocess.Popen([RIG, mode, mount, str(LEDGERS)], stdout=subprocess.PIPE,
                              text=True) as writer:
            for line in writer.stdout:
                promise(int(line))
        assert writer.returncode == 0
    return work


def look(mount, promised):
    done = subprocess.run([RIG, "read", mount], capture_output=True, text=True)
    if done.returncode:
        return f"does not start: {done.stderr.strip()}"
    if int(done.stdout) < promised:
        return f"lost: {promised} was promised, {done.stdout.strip()} is there"
    return None


def replay(folder, mode, points, options=""):
    base, records = power_cut.record(folder, workload(mode), options)
    every = list(power_cut.crashes(records, power_cut.seeded(1)))
    share = 1 if ALL else max(1, len(every) // points)
    chosen = power_cut.sampled(every, share, power_cut.seeded(2))
    count, wrong = power_cut.replay(folder, base, chosen, look)
    print(f"{mode} {options}: {count} of {len(every)} crash points, {len(wrong)} bad")
    return count, wrong


def test_D2_no_power_cut_loses_a_promised_ledger_or_keeps_it_from_starting(tmp_path):
    count, wrong = replay(tmp_path / "run", "write", 400)
    assert count > 300
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("mode, options", [("careless", ""), ("write", "nobarrier")])
def test_the_rig_has_teeth(tmp_path, mode, options):
    """A store that does not sync, and a file system that does not flush, lose data here."""
    count, wrong = replay(tmp_path / "run", mode, 60, options)
    assert any("lost" in w or "not start" in w for w in wrong)
