"""The generated pages are what the tables say, and links lead somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BERTH_BUILD", ROOT / "build"))


def test_metrics_page_is_true():
    made = subprocess.run([sys.executable, ROOT / "dev" / "metrics_page.py"], capture_output=True,
                          text=True, check=True).stdout
    page = ROOT / "docs" / "reference" / "metrics.md"
    assert page.read_text() == made, f"run dev/metrics_page.py > {page.relative_to(ROOT)}"


def test_every_metric_row_is_understood():
    for table in ROOT.glob("services/*/metrics.def"):
        text = table.read_text()
        wanted = len(re.findall(r"^METRIC\(", text, re.M))
        made = (ROOT / "docs" / "reference" / "metrics.md").read_text()
        names = re.findall(r'"(berth_[a-z_]+)"', text)
        assert wanted and wanted == len(names)
        assert all(f"`{name}`" in made for name in names), table


def test_configuration_pages_are_true():
    for option, page in (("--reference", "docs/reference/configuration.md"),
                         ("--sample", "deploy/config.sample.yaml")):
        made = subprocess.run([BUILD / "berth", "check-config", option], capture_output=True,
                              text=True, check=True).stdout
        assert (ROOT / page).read_text() == made, f"run build/berth check-config {option} > {page}"


def test_links_in_documents_lead_somewhere():
    bad = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith("http") and not (page.parent / target).exists():
                bad.append(f"{page.relative_to(ROOT)}: {target}")
    assert not bad, bad


BINARIES = {"berth": 1, "berth-vendor": 1, "berth-cloud": 1, "berth-gateway": 8, "berth-pool": 8,
            "berth-trust": 8, "berth-borrow": 8}


def test_each_binary_has_a_correct_man_page():
    pages = [ROOT / "docs" / "man" / f"{name}.{section}" for name, section in BINARIES.items()]
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", *pages], capture_output=True,
                          text=True)
    assert done.returncode == 0 and not done.stdout + done.stderr, done.stdout + done.stderr


def test_man_pages_know_every_command_and_option():
    for name, section in BINARIES.items():
        if section != 1:
            continue
        page = (ROOT / "docs" / "man" / f"{name}.{section}").read_text()
        binary = BUILD / name
        usage = subprocess.run([binary, "-h"], capture_output=True, text=True, check=True).stdout
        for command in re.findall(r"^  ([a-z][a-z-]+)  ", usage, re.M):
            assert command in page, command
            usage += subprocess.run([binary, command, "-h"], capture_output=True, text=True,
                                    check=True).stdout
        for option in set(re.findall(r"--([a-z][a-z-]+)", usage)):
            assert f"-{option}" in page, f"{name}: --{option} is not in its man page"
