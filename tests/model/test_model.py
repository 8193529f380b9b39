"""The spin model of ledger, head and restart holds, and would not with any of its rules broken."""

import re
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).resolve().parent / "ledger.pml"
BROKEN = re.findall(r"^ \*   ([A-Z_]+) ", MODEL.read_text(), re.MULTILINE)


def check(folder, defines):
    """What spin's verifier says about the model: its output."""
    subprocess.run(["spin", *(f"-D{d}" for d in defines), "-a", MODEL], cwd=folder, check=True,
                   capture_output=True)
    subprocess.run(["cc", "-O1", "-w", "-DSAFETY", "-o", "pan", "pan.c"], cwd=folder, check=True)
    return subprocess.run(["./pan", "-m100000"], cwd=folder, capture_output=True, text=True).stdout


def test_starts_after_every_crash_and_keeps_what_was_answered(tmp_path):
    said = check(tmp_path, [])
    assert "errors: 0" in said, said
    assert "max search depth too small" not in said
    states = int(re.search(r"(\d+) states, stored", said)[1])
    print(f"{states} states")
    assert states > 10_000


def test_every_broken_rule_is_known():
    assert len(BROKEN) == 6


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_found(tmp_path, rule):
    assert "assertion violated" in check(tmp_path, [rule])
