"""The systemd units: right, hardened, of one mind about users, folders and exit codes."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BERTH_BUILD", ROOT / "build"))
SYSTEMD = ROOT / "deploy" / "systemd"
PROCESSES = ("gateway", "pool", "trust", "borrow")
# systemd-analyze security, exposure from 0.0 (best) to 10.0: what docs/operations.md states.
EXPOSURE = {"berth-gateway": 1.2, "berth-pool": 1.1, "berth-trust": 1.3, "berth-borrow": 1.1,
            "berth": 1.3}
# Else it says nothing about units, and ends with 0.
analysis = pytest.mark.skipif(
    os.geteuid() != 0 and not Path("/run/systemd").exists(),
    reason="systemd-analyze makes /run/systemd, where no systemd has made it: needs root")


def settings(unit):
    """(key, value) of all lines."""
    return [tuple(line.split("=", 1)) for line in unit.read_text().splitlines()
            if "=" in line and not line.startswith("#")]


def values(name, key):
    return [v for k, v in settings(SYSTEMD / f"{name}.service") if k == key]


def run(*command, **kwargs):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, **kwargs)


def test_every_unit_is_tested():
    assert {f.stem for f in SYSTEMD.glob("*.service")} == set(EXPOSURE)


@analysis
@pytest.mark.parametrize("name", EXPOSURE)
def test_exposure(name):
    done = run("systemd-analyze", "security", "--offline=true", "--no-pager",
               f"--threshold={round(10 * EXPOSURE[name])}", SYSTEMD / f"{name}.service")
    assert done.returncode == 0, done.stdout[-400:] + done.stderr
    stated = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout).group(1)
    assert float(stated) == EXPOSURE[name], "better than stated: say so, here and in the guide"
    assert re.search(rf"`{name}\.service`[^\n]* {EXPOSURE[name]}\b",
                     (ROOT / "docs" / "operations.md").read_text())


@pytest.fixture
def installed(tmp_path):
    """The units as installed, but for the place of the binaries: verify looks whether they exist."""
    for unit in [*SYSTEMD.glob("*.service"), *SYSTEMD.glob("*.target")]:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/bin/", f"{BUILD}/"))
    return tmp_path


def complaints(folder):
    done = run("systemd-analyze", "verify", "--man=no", *sorted(folder.glob("*.service")),
               *folder.glob("*.target"))
    # It exits 0 even for keys that it does not know; what it prints counts. Not about our files: the
    # host's own units.
    return [line for line in (done.stdout + done.stderr).splitlines()
            if re.search(r"\bberth\b|berth[-.]", line)]


@analysis
def test_verify(installed):
    assert not complaints(installed)


@analysis
def test_verify_sees_a_wrong_key(installed):
    unit = installed / "berth-pool.service"
    unit.write_text(unit.read_text().replace("ProtectClock", "ProtectClok"))
    assert complaints(installed)


@analysis
def test_verify_with_the_dongle(installed):
    for name in ("berth-trust", "berth"):
        folder = installed / f"{name}.service.d"
        folder.mkdir()
        (folder / "dongle.conf").write_text((SYSTEMD / "dongle.conf").read_text())
    assert not complaints(installed)


@pytest.mark.parametrize("name", EXPOSURE)
def test_what_all_have_in_common(name):
    text = (SYSTEMD / f"{name}.service").read_text()
    block = re.search(r"^# The same in all units.*?\n\n", text, re.M | re.S).group()
    reference = (SYSTEMD / "berth-pool.service").read_text()
    assert block in reference and len(block.splitlines()) > 30
    assert values(name, "RestartPreventExitStatus") == ["78"]
    assert values(name, "Restart") == ["on-failure"]
    assert values(name, "Type") == ["notify"]
    assert values(name, "StartLimitIntervalSec") == ["0"]
    assert values(name, "User") == values(name, "Group") == ["berth"]


@pytest.mark.parametrize("name", PROCESSES)
def test_no_process_sees_what_is_another_s(name):
    """The table of docs/architecture.md, although all four run as one user."""
    own = f"/var/lib/berth/{name}"
    hidden = {path.lstrip("-") for line in values(f"berth-{name}", "InaccessiblePaths")
              for path in line.split()}
    assert hidden >= {f"/var/lib/berth/{other}" for other in PROCESSES if other != name}
    assert own not in hidden
    assert values(f"berth-{name}", "StateDirectory") == [f"berth/{name}"]
    # What is not there when a unit starts cannot be hidden from it.
    made = re.findall(r"^d (/\S+)", (SYSTEMD / "berth.tmpfiles").read_text(), re.M)
    assert hidden <= set(made) and own in made
    assert ("/etc/berth/tls" in hidden) == (name != "gateway")
    assert ("/etc/berth/server-license" in hidden) == (name != "trust")
    # Only trust calls out; pool and borrow talk to this machine alone.
    assert bool(values(f"berth-{name}", "IPAddressDeny")) == (name in ("pool", "borrow"))


@pytest.mark.parametrize("name", PROCESSES)
def test_proc_has_what_is_read(name):
    """ProcSubset=pid hides all but /proc/PID, and a program that misses something goes another way."""
    sources = [f.read_text() for f in (ROOT / "services" / name).glob("*.c")]
    reads = {path for text in sources for path in re.findall(r'"/proc/(?!self/)([^"]*)"', text)}
    assert values(f"berth-{name}", "ProcSubset") == ["all" if reads else "pid"], reads
    assert values("berth", "ProcSubset") == ["all"]


def test_sample_configuration(tmp_path):
    if not (BUILD / "berth").exists():
        pytest.fail(f"no binaries in {BUILD}: build first")
    done = run(BUILD / "berth", "check-config", SYSTEMD / "config.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    text = (SYSTEMD / "config.yaml").read_text()
    for name in PROCESSES:
        assert f"/var/lib/berth/{name}" in text
    dongle = text.replace("  server_license: server-license", "  dongle: {}")
    assert dongle != text, "the comment in the sample says how"
    (tmp_path / "config.yaml").write_text(dongle)
    done = run(BUILD / "berth", "check-config", tmp_path / "config.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="systemd-tmpfiles gives files to another user: root")
def test_user_and_folders(tmp_path):
    """What sysusers.d and tmpfiles.d make, in a root of its own."""
    (tmp_path / "etc").mkdir()
    for kind in ("sysusers", "tmpfiles"):
        folder = tmp_path / "usr" / "lib" / f"{kind}.d"
        folder.mkdir(parents=True)
        (folder / "berth.conf").write_text((SYSTEMD / f"berth.{kind}").read_text())
    done = run("systemd-sysusers", f"--root={tmp_path}")
    assert done.returncode == 0, done.stderr
    user = re.search(r"^berth:x:(\d+):(\d+):.*:/var/lib/berth:/usr/sbin/nologin$",
                     (tmp_path / "etc" / "passwd").read_text(), re.M)
    assert user and int(user.group(1)) < 1000
    done = run("systemd-tmpfiles", f"--root={tmp_path}", "--create")
    assert done.returncode == 0, done.stderr
    uid, gid = map(int, user.groups())
    for path, mode, owner, group in (("run/berth", 0o700, uid, gid), ("etc/berth", 0o750, 0, gid),
                                     ("etc/berth/license", 0o750, 0, gid), ("etc/berth/tls", 0o750, 0, gid),
                                     ("var/lib/berth/pool", 0o700, uid, gid),
                                     ("var/lib/berth", 0o755, 0, 0)):
        st = (tmp_path / path).stat()
        assert (st.st_mode & 0o7777, st.st_uid, st.st_gid) == (mode, owner, group), path


def test_pool_and_borrow_are_not_ordered():
    """Each becomes ready with the other: behind one another, neither ever would."""
    for one, other in (("pool", "borrow"), ("borrow", "pool")):
        text = (SYSTEMD / f"berth-{one}.service").read_text()
        assert not re.search(rf"^(After|Requires|BindsTo)=.*berth-{other}", text, re.M)
        assert values(f"berth-{one}", "TimeoutStartSec") == ["infinity"]


def test_udev_rule():
    rule = [line for line in (ROOT / "deploy" / "udev" / "70-berth-dongle.rules").read_text()
            .splitlines() if line and not line.startswith("#")]
    assert len(rule) == 1 and '*:0b0000:*' in rule[0]
    assert 'GROUP="berth-dongle"' in rule[0]
    assert "g berth-dongle" in (SYSTEMD / "berth.sysusers").read_text()
    assert "SupplementaryGroups=berth-dongle" in (SYSTEMD / "dongle.conf").read_text()
    assert 'MODE="0660"' in rule[0] and 'ENV{DEVTYPE}=="usb_device"' in rule[0]
