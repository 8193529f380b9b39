"""What docs/operations.md and the READMEs of deploy/ name is there: keys, events, metrics, commands, files,
packages, sections; and they name all that they have to."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BERTH_BUILD", ROOT / "build"))
PAGE = ROOT / "docs" / "operations.md"
GUIDE = PAGE.read_text()
PAGES = [PAGE, *(ROOT / "deploy").rglob("*.md")]
QUOTED = {q for page in PAGES for q in re.findall(r"`([^`\n]+)`", page.read_text())}
SOURCES = "\n".join(f.read_text() for folder in ("common", "services", "tools")
                    for f in (ROOT / folder).rglob("*.[ch]"))


def anchors(page):
    """As the usual renderers make them of headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_sections(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if path.startswith("http"):
            continue
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        if anchor:
            assert anchor in anchors(other), target


def test_configuration_keys():
    table = (ROOT / "common" / "config_keys.def").read_text()
    keys = set(re.findall(r'^KEY\("([a-z_.]+)"', table, re.M))
    groups = {k.rsplit(".", n)[0] for k in keys for n in (1, 2)} | keys
    named = {q for q in QUOTED if re.fullmatch(r"(serve|licenses|sessions|limits|trust|borrow|rpc|ops|log)"
                                               r"\.[a-z_.]+", q)}
    assert len(named) > 10
    files = {k for k in named if re.search(r"\.(token|pem|key)$", k)}
    assert not {k for k in named - files if k not in groups and f'"{k}"' not in SOURCES}


def test_log_events():
    named = {q for q in QUOTED if re.fullmatch(r"(http|request|secrets|verdict|rpc|license|config|process|cloud|"
                                               r"trust|token)\.[a-z_-]+", q)}
    assert len(named) >= 5
    assert not {e for e in named if f'"{e}"' not in SOURCES and
                not re.search(r"\.(yaml|pem|key)$", e)}


def test_metrics_and_alerts():
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    assert not {q for q in QUOTED if re.fullmatch(r"berth_\w+", q) and f"`{q}`" not in page}


def test_files_and_programs():
    assert not {q for q in QUOTED if re.fullmatch(r"(deploy|docs|tests|dev)/[\w./-]+", q) and
                not (ROOT / q).exists()}
    packages = set(re.findall(r"^Package: (\S+)", (ROOT / "debian" / "control").read_text(), re.M))
    named = {q for q in QUOTED if re.fullmatch(r"berth(-[a-z]+)?", q)}
    manifests = "".join(f.read_text() for f in (ROOT / "deploy" / "kubernetes").rglob("*.yaml"))
    assert not {q for q in named - packages if f": {q}" not in manifests and
                q not in (ROOT / "deploy" / "systemd" / "berth.sysusers").read_text()}


def usage(program, *arguments):
    return subprocess.run([BUILD / program, *arguments, "-h"], capture_output=True, text=True).stdout


def test_commands_are_there():
    assert (BUILD / "berth").exists(), f"no binaries in {BUILD}: build first"
    text = "\n".join(page.read_text() for page in PAGES)
    for program in ("berth", "berth-vendor", "berth-cloud"):
        known = usage(program)
        for command in set(re.findall(rf"\b{program} ([a-z][a-z-]+)", text)):
            if f"`{program} {command}" in text or f"    {program} {command}" in text:
                assert re.search(rf"\b{command}\b", known), f"{program} {command}"


def test_every_error_and_reason_is_explained():
    """All codes of the gateway's table; all reasons of an invalid verdict; all of a denial."""
    table = (ROOT / "services" / "gateway" / "core" / "error_table.c").read_text()
    codes = set(re.findall(r"\{(10\d\d),", table))
    assert len(codes) == 11
    trouble = GUIDE[GUIDE.index("## Troubleshooting"):]
    assert not {c for c in codes if not re.search(rf"\b{c}\b", trouble)}
    reasons = {"dongle-absent", "dongle-busy", "dongle-no-permission", "dongle-unsupported", "certificate",
               "proof-failed", "grace-over", "revoked", "expired", "in-use-elsewhere", "ledger-rollback",
               "clock"}
    assert all(f'"{r}"' in SOURCES for r in reasons)
    section = GUIDE[GUIDE.index("### BerthVerdictInvalid"):GUIDE.index("### BerthVerdictStale")]
    assert not {r for r in reasons if f"`{r}`" not in section}
    match = (ROOT / "services" / "pool" / "core" / "match.c").read_text()
    denials = set(re.findall(r'\[MATCH_\w+\] = "([a-z-]+):?"', match))
    section = GUIDE[GUIDE.index("### BerthDenials"):GUIDE.index("### BerthLicensesRefused")]
    assert len(denials) == 9 and not {d for d in denials if f"`{d}`" not in section}
    for reason in re.findall(r"\[POOL_SESSION_\w+\] = \"([a-z-]+)\"",
                             "".join(f.read_text() for f in (ROOT / "services/pool/core").glob("*.c"))):
        assert f"`{reason}`" in trouble or reason == "ok", reason


def test_every_process_has_its_outcomes():
    table = GUIDE[GUIDE.index("## What happens when"):]
    assert re.search(r"^\| what \| killed .*\| paused .*\| cut off", table, re.M)
    for name in ("gateway", "pool", "trust", "borrow"):
        row = re.search(rf"^\| {name} \|(.*)\|(.*)\|(.*)\|$", table, re.M)
        assert row and all(cell.strip() for cell in row.groups()), name
