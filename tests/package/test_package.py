"""The Debian packages: built in a copy of the tree, clean by lintian, installed in a bare Debian, run by a
real systemd (in namespaces of its own) under all of the units' hardening, upgraded, and purged.

Needs root, and debootstrap with an archive to load from; it is skipped, by name, where they are missing."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from berth import make_tls_certificate, wait_until  # noqa: E402

PROCESSES = ("trust", "pool", "borrow", "gateway")
UNITS = [f"berth-{name}" for name in PROCESSES]
# What the packages need beside the base system: installed with it, so that no archive is needed later.
LIBRARIES = ("systemd,ca-certificates,libcjson1,libcurl4,libgnutls30,libmicrohttpd12,libnng1,"
             "libprotobuf-c1,libsqlite3-0,libssl3,libusb-1.0-0,libyaml-0-2")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="chroot, debootstrap and systemd need root")


def run(*command, check=True, **kwargs):
    done = subprocess.run([str(c) for c in command], text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kwargs)
    if check:
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
    return done


# ---- building ----

class Background(threading.Thread):
    def __init__(self, fn, *arguments):
        super().__init__()
        self.fn, self.arguments, self.error = fn, arguments, None
        self.start()

    def run(self):
        try:
            self.fn(*self.arguments)
        except (AssertionError, OSError) as e:
            self.error = e

    def finish(self):
        self.join()
        if self.error:
            raise self.error


def archive():
    lines = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)",
                "Created-By: Packages").stdout.splitlines()
    for line in lines:
        if line.endswith(" bookworm main Debian"):
            return line.split()[0]
    return None


def bootstrap(target, mirror):
    # Nothing in it outlives the test: no flush to disk for each package.
    (target / "etc" / "dpkg" / "dpkg.cfg.d").mkdir(parents=True)
    (target / "etc" / "dpkg" / "dpkg.cfg.d" / "unsafe").write_text("force-unsafe-io\n")
    proxy = re.search(r'^Acquire::http::Proxy "(.*)";', run("apt-config", "dump").stdout, re.M)
    env = {**os.environ, **({"http_proxy": proxy.group(1)} if proxy else {})}
    run("debootstrap", "--variant=minbase", f"--keyring={KEYRING}", f"--include={LIBRARIES}",
        "bookworm", target, mirror, env=env)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def bare(work):
    """A bare Debian 12, made while the packages are built."""
    mirror = archive() if shutil.which("debootstrap") and KEYRING.exists() else None
    if not mirror:
        pytest.skip("no debootstrap, or no Debian bookworm archive in this host's apt sources")
    return work / "root", Background(bootstrap, work / "root", mirror)


@pytest.fixture(scope="module")
def packages(work, bare):
    """package → file"""
    listed = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout.split("\n")
    copy = work / "build" / "berth"
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    # Compiled in less time than what is shipped; the rest is the same.
    env = {**os.environ, "DEB_BUILD_OPTIONS": f"parallel={os.cpu_count()} noautodbgsym",
           "DEB_CFLAGS_APPEND": "-g0 -O1"}
    built = run("dpkg-buildpackage", "-us", "-uc", "-b", "-d", cwd=copy, env=env)
    assert "warning:" not in built.stdout, re.findall(r".*warning:.*", built.stdout)
    return {f.name.split("_")[0]: f for f in copy.parent.glob("*.deb")}


@pytest.fixture(scope="module")
def root(bare, packages):
    """Where they are installed; .before: the files that were there already."""
    folder, made = bare
    made.finish()
    root = Machine(folder)
    # A container has these; maintainer scripts look at them.
    run("mount", "-t", "proc", "proc", folder / "proc")
    try:
        root.before = files(folder)
        for f in packages.values():
            shutil.copy(f, folder / "root")
        root.said = run("chroot", folder, "dpkg", "-i",
                        *[f"/root/{f.name}" for f in packages.values()]).stdout
    finally:
        run("umount", folder / "proc")
    yield root
    root.stop()


def files(folder):
    found = set()
    for top in ("etc", "lib", "usr", "var", "srv", "opt"):
        for path, folders, names in os.walk(folder / top):
            found |= {str(Path(path, n).relative_to(folder)) for n in folders + names}
    return found


# ---- a machine ----

BOOT = r"""
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs dev
for d in null zero full random urandom tty; do touch dev/$d; mount --bind /dev/$d dev/$d; done
touch dev/console; mount --bind /dev/null dev/console
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ip link set lo up
mkdir -p .outside
pivot_root . .outside
umount -l /.outside
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system \
    --unit=multi-user.target --show-status=no
"""


class Machine:
    """The folder as a machine: systemd with processes, mounts, network and cgroups of its own."""

    def __init__(self, folder):
        self.folder, self.process, self.init = folder, None, None

    def start(self):
        (self.folder / "root" / "boot").write_text(BOOT)
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "--cgroup",
             "--kill-child", "sh", self.folder / "root" / "boot", self.folder], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

        def booted():
            if self.process.poll() is not None:
                return "ended"
            self.init = run("pgrep", "-P", self.process.pid, check=False).stdout.strip()
            # "degraded" is good enough: a console that is none is not ours.
            return self.init and self("systemctl", "is-system-running", check=False).stdout.strip() \
                in ("running", "degraded")
        if wait_until(booted, 60, "systemd runs") == "ended":
            pytest.skip(f"systemd cannot be booted in namespaces here: {self.process.stdout.read()}")

    def stop(self):
        if self.process and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def __call__(self, *command, **kwargs):
        return run("nsenter", "-t", self.init, "-m", "-p", "-n", "-u", "-i", "-C", "-r", "-w", *command,
                   **kwargs)

    def show(self, unit, what):
        return self("systemctl", "show", "-P", what, unit).stdout.strip()

    def active(self, *units):
        states = [self.show(unit, "ActiveState") for unit in units]
        assert set(states) == {"active"}, (states, self.journal())
        return True

    def journal(self):
        return self("journalctl", "--no-pager", "-o", "cat", "-n", "60", check=False).stdout

    def call(self, method, **params):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        done = run("nsenter", "-t", self.init, "-n", "curl", "-sS", "-m", "10", "--cacert",
                   self.folder / "etc/berth/tls/tls.pem", "-H", "Content-Type: application/json", "-d",
                   body, "https://localhost:22022/licenses", check=False)
        answer = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stdout}
        assert "result" in answer, answer
        return answer["result"]

    def request(self):
        return self.call("RequestSessionV1", feature="F", version="24.11", edition="Steady",
                         modules="")

    def served(self):
        session = self.request()["sessionId"]
        self.call("ReturnSessionV1", sessionId=session)
        return True


SETUP = """
set -e
cd /root
berth-vendor init --dir keys --name Vendor
berth-vendor cloud-license --dir keys --server-id S-1 --cloud-url https://localhost:8443 \
    --addon borrow --out /etc/berth/server-license
berth-vendor license --dir keys --server-id S-1 --feature F --version 24.11 --edition Steady \
    --modules fc --count 2 --out /etc/berth/license/license_a.dat
cp keys/vendor-ca.pem /etc/berth/
chown -R root:berth /etc/berth
chmod 640 /etc/berth/tls/tls.key /etc/berth/server-license/server-license.key
systemd-run -q --unit=backend berth-cloud serve --dir /root/keys/cloud --listen 127.0.0.1:8443 \
    --state /root/cloud.db
"""


@pytest.fixture(scope="module")
def machine(root):
    """The server, set up as the operations guide says, and running."""
    make_tls_certificate(root.folder / "etc" / "berth" / "tls")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 65536:  # where root itself may not have more
        for unit in ("berth-gateway", "berth"):
            drop_in = root.folder / "etc/systemd/system" / f"{unit}.service.d"
            drop_in.mkdir(parents=True)
            (drop_in / "limit.conf").write_text(f"[Service]\nLimitNOFILE={hard}\n")
    root.start()
    (root.folder / "root" / "setup").write_text(SETUP)
    root("sh", "/root/setup")
    root("systemctl", "enable", "berth.target")
    started = root("timeout", "60", "systemctl", "start", "berth.target", *UNITS, check=False)
    assert started.returncode == 0, started.stdout + root.journal()
    return root


# ---- tests, in the order of a package's life ----

def test_split_as_the_images_are(packages):
    assert set(packages) == {*UNITS, "berth", "berth-common", "berth-server", "berth-vendor",
                             "berth-cloud"}
    for name, f in packages.items():
        listed = run("dpkg-deb", "-c", f).stdout
        binaries = re.findall(r"\./usr/s?bin/(\S+)", listed)
        assert binaries == ([] if name in ("berth-common", "berth-server") else [name])
        assert all(re.search(rf"\./usr/share/man/man[18]/{b}\.[18]\.gz", listed) for b in binaries)
    depends = run("dpkg-deb", "-f", packages["berth-server"], "Depends").stdout
    assert all(re.search(rf"\b{unit} ", depends) for unit in (*UNITS, "berth"))
    # Only what the process itself needs: no libusb in gateway, no TLS listener in pool's backyard.
    for name, library in (("gateway", "libusb"), ("pool", "libusb"), ("borrow", "libcurl")):
        assert library not in run("dpkg-deb", "-f", packages[f"berth-{name}"], "Depends").stdout


def test_what_building_needs_is_said():
    """The build itself is not asked: it runs without build-essential."""
    said = set(re.findall(r"[a-z0-9.+-]+", (ROOT / "debian/control").read_text()
                          .split("Build-Depends:")[1].split("\nStandards")[0]))
    wanted = (ROOT / "dev/lib.sh").read_text().split('BUILD_PACKAGES="')[1].split('"')[0].split()
    assert set(wanted) - said == {"gcc", "libc6-dev", "ninja-build", "libcmocka-dev"}  # by others, or tests


def test_lintian_has_nothing_to_say(packages):
    done = run("lintian", "--allow-root", "--fail-on", "warning,error", *packages.values(),
               check=False)
    assert done.returncode == 0 and not re.search(r"^[EW]:", done.stdout, re.M), done.stdout
    assert not list(ROOT.glob("debian/*lintian-overrides"))


def test_installed(root):
    assert not re.search(r"warning|error|not found", root.said, re.I), root.said
    user = re.search(r"^berth:x:(\d+):(\d+):", (root.folder / "etc/passwd").read_text(), re.M)
    assert user and "berth-dongle:x:" in (root.folder / "etc/group").read_text()
    gid = int(user.group(2))
    for path, mode in (("etc/berth", 0o750), ("etc/berth/license", 0o750), ("etc/berth/tls", 0o750)):
        st = (root.folder / path).stat()
        assert (st.st_mode & 0o7777, st.st_uid, st.st_gid) == (mode, 0, gid), path
    for binary in (*UNITS, "berth", "berth-vendor", "berth-cloud"):
        assert "0.1.0" in run("chroot", root.folder, binary, "--version").stdout


def test_units_as_installed_are_right(root):
    units = [f"{u}.service" for u in (*UNITS, "berth")] + ["berth.target"]
    done = run("chroot", root.folder, "systemd-analyze", "verify", "--man=no",
               *[f"/lib/systemd/system/{u}" for u in units], check=False)
    assert done.returncode == 0 and "berth" not in done.stdout, done.stdout


def test_they_run(machine):
    machine.active(*UNITS, "berth.target")
    assert machine.served()
    for unit in UNITS:
        pid = machine.show(unit, "MainPID")
        status = machine("cat", f"/proc/{pid}/status").stdout
        assert re.search(r"^NoNewPrivs:\s1$", status, re.M)
        assert re.search(r"^Seccomp:\s2$", status, re.M)
        assert re.search(r"^CapEff:\s0+$", status, re.M) and re.search(r"^CapBnd:\s0+$", status, re.M)
        uid = (machine.folder / "var/lib/berth" / unit[6:]).stat().st_uid
        assert uid and re.search(rf"^Uid:\s{uid}\s{uid}\s", status, re.M)
    assert "license    valid" in machine("berth", "status", "-c", "/etc/berth/config.yaml").stdout


@pytest.mark.parametrize("name", PROCESSES)
def test_each_sees_its_own_only(machine, name):
    pid = machine.show(f"berth-{name}", "MainPID")

    def sees(path):
        return machine("nsenter", "-t", pid, "-m", "setpriv", "--reuid", "berth", "--regid", "berth",
                       "--clear-groups", "ls", path, check=False).returncode == 0

    assert sees(f"/var/lib/berth/{name}")
    assert not any(sees(f"/var/lib/berth/{other}") for other in PROCESSES if other != name)
    assert machine("nsenter", "-t", pid, "-m", "setpriv", "--reuid", "berth", "--regid", "berth",
                   "--clear-groups", "touch", "/etc/berth/x", "/usr/x", check=False).returncode
    readable = machine("nsenter", "-t", pid, "-m", "setpriv", "--reuid", "berth", "--regid", "berth",
                       "--clear-groups", "cat", "/etc/berth/tls/tls.key", check=False).returncode == 0
    assert readable == (name == "gateway")
    assert sees("/etc/berth/server-license") == (name == "trust")


@pytest.mark.parametrize("name", PROCESSES)
def test_killed_it_is_started_again(machine, name):
    unit = f"berth-{name}"
    session = machine.request()["sessionId"]
    before = machine.show(unit, "MainPID")
    machine("sh", "-c", f"kill -KILL {before}")
    wait_until(lambda: machine.show(unit, "MainPID") not in (before, "0") and machine.active(unit),
               40, "started again")
    wait_until(lambda: machine.call("RevalidateSessionV1", sessionId=session), 20, "session lives")
    machine.call("ReturnSessionV1", sessionId=session)


def test_refused_configuration_is_not_tried_again(machine):
    config = machine.folder / "etc/berth/config.yaml"
    good = config.read_text()
    config.write_text(good + "nonsense: 1\n")
    try:
        assert machine("systemctl", "restart", "berth-gateway", check=False).returncode
        assert machine.show("berth-gateway", "ExecMainStatus") == "78"
        assert machine.show("berth-gateway", "ActiveState") == "failed"
        assert machine.show("berth-gateway", "SubState") == "failed"  # not auto-restart
        assert "nonsense" in machine.show("berth-gateway", "StatusText") + machine.journal()
    finally:
        config.write_text(good)
    machine("systemctl", "start", "berth-gateway")
    assert wait_until(machine.served, 20, "served again")


def test_reload(machine):
    config = machine.folder / "etc/berth/config.yaml"
    config.write_text(config.read_text() + "log: {level: debug}\n")
    machine("systemctl", "reload", *UNITS)
    wait_until(lambda: machine.journal().count("config.reloaded") >= 4, 10, "all have reloaded")


def test_upgrade_costs_no_session(machine, packages):
    session = machine.request()["sessionId"]
    before = {unit: machine.show(unit, "MainPID") for unit in UNITS}
    machine("dpkg", "-i", *[f"/root/{f.name}" for f in packages.values()])
    assert all(machine.show(unit, "MainPID") != before[unit] for unit in UNITS), "not restarted"
    wait_until(lambda: machine.active(*UNITS), 30, "all are back")
    wait_until(lambda: machine.call("RevalidateSessionV1", sessionId=session), 20, "session lives")
    machine.call("ReturnSessionV1", sessionId=session)
    assert "log: {level: debug}" in (machine.folder / "etc/berth/config.yaml").read_text()


def test_all_in_one_takes_over(machine):
    session = machine.request()["sessionId"]
    started = machine("timeout", "60", "systemctl", "start", "berth.service", check=False)
    assert started.returncode == 0, machine.journal()
    assert not any(machine.show(unit, "ActiveState") == "active" for unit in UNITS)
    assert machine.call("RevalidateSessionV1", sessionId=session), "the state is the same"
    machine.call("ReturnSessionV1", sessionId=session)
    machine("systemctl", "stop", "berth.service")
    assert machine.show("berth.service", "Result") == "success"


def test_purge_leaves_the_state_only(machine, packages):
    machine("dpkg", "--purge", *packages)
    run("rm", "-rf", machine.folder / "etc/systemd/system/berth-gateway.service.d",
        machine.folder / "etc/systemd/system/berth.service.d")
    # By hand: what was put into /etc/berth. Made by the base system: its own logs, IDs and caches.
    own = re.compile(r"^(etc/berth(/((license|server-license|tls)(/\S+)?|\S+\.pem))?|var/lib/berth(/.*)?)$")
    left = {f for f in files(machine.folder) - machine.before if not own.match(f)}
    assert not {f for f in left if "berth" in f}, left
    assert not {f for f in left if re.match("etc/systemd/system/.*(wants|requires)/", f)}, left
    assert not (machine.folder / "etc/berth/config.yaml").exists()
    for name in PROCESSES:
        assert any((machine.folder / "var/lib/berth" / name).iterdir()), f"the state of {name} is gone"
    assert machine("ls", "/run/berth", check=False).returncode, "sockets are left"
