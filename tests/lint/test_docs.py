"""The generated pages are what the tables say, and links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


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
        made = subprocess.run([ROOT / "build" / "berth", "check-config", option], capture_output=True,
                              text=True, check=True).stdout
        assert (ROOT / page).read_text() == made, f"run build/berth check-config {option} > {page}"


def test_links_in_documents_lead_somewhere():
    bad = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith("http") and not (page.parent / target).exists():
                bad.append(f"{page.relative_to(ROOT)}: {target}")
    assert not bad, bad
