"""A container engine of the tests' own, and a Compose project in it.

dockerd runs in a network namespace of its own: its bridges and packet filter rules never touch the
machine, and other engines do not mind. Only the build of the images, which needs Debian's archive,
runs in the machine's own namespace, over the same data, with a bridge that nobody uses."""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from ipaddress import IPv4Address
from pathlib import Path

from berth import ROOT, Client, wait_until

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
UID = 22022
SERVICES = ("trust", "pool", "borrow", "gateway")
# Of the addresses for benchmarks, other ones in each run: the machine's end and the engine's end of
# the cable between the two, and one for a bridge.
NET = f"{os.getpid() >> 6 & 255}.{(os.getpid() & 63) * 4}"
OUTSIDE, INSIDE, UNUSED = (str(IPv4Address(f"{net}.{NET}") + n)
                           for net, n in (("198.18", 1), ("198.18", 2), ("198.19", 1)))


class CannotRun(Exception):
    """This machine runs no container engine; the text says why."""


def run(*command, check=True, timeout=120, env=None, cwd=ROOT):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                          timeout=timeout, stdin=subprocess.DEVNULL, env=env, cwd=cwd)
    if check and done.returncode:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout[-6000:]}"
                             f"{done.stderr[-6000:]}")
    return done


@contextlib.contextmanager
def network_of(path):
    """Sockets made meanwhile by this thread belong to the network namespace at path."""
    def enter(fd):
        if LIBC.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    with open("/proc/thread-self/ns/net") as home, open(path) as there:
        enter(there.fileno())
        try:
            yield
        finally:
            enter(home.fileno())


def connect_from(path, address, timeout=2):
    """A connection to address as from the network namespace at path."""
    with network_of(path):
        return socket.create_connection(address, timeout)


def ip(*arguments, **more):
    run("ip", *arguments, **more)


def sweep():
    """What runs that were killed have left."""
    for kind, folder, prefix in (("netns", "/run/netns", "berth-"),
                                 ("link", "/sys/class/net", "bb")):
        for path in Path(folder).glob(f"{prefix}*"):
            pid = path.name.removeprefix(prefix).partition("-")[0]
            if pid.isdecimal() and not Path("/proc", pid).exists():
                ip(kind, "delete", path.name, check=False)


class Namespace:
    """For the network of an engine; with nothing but its own end of it."""

    def __init__(self, suffix=""):
        self.name = f"berth-{os.getpid()}{suffix}"
        self.path = f"/run/netns/{self.name}"
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")

    def close(self):
        ip("netns", "delete", self.name, check=False)


class Network(Namespace):
    """The engine's namespace, and the cable to it: its default route leads to the machine."""

    def __init__(self):
        super().__init__()
        machine, engine = f"bh{os.getpid()}", f"be{os.getpid()}"
        try:
            ip("link", "add", machine, "type", "veth", "peer", "name", engine, "netns", self.name)
            ip("address", "add", f"{OUTSIDE}/30", "dev", machine)
            ip("link", "set", machine, "up")
            ip("-n", self.name, "address", "add", f"{INSIDE}/30", "dev", engine)
            ip("-n", self.name, "link", "set", engine, "up")
            ip("-n", self.name, "route", "add", "default", "via", OUTSIDE)
        except AssertionError:
            self.close()
            raise


class Bridge:
    """Of an engine that only builds: with none at all it would take the machine's docker0 away."""

    def __init__(self):
        self.name = f"bb{os.getpid()}"
        ip("link", "add", self.name, "type", "bridge")
        ip("address", "add", f"{UNUSED}/30", "dev", self.name)

    def close(self):
        ip("link", "delete", self.name, check=False)


class Engine:
    def __init__(self):
        kept = os.environ.get("BERTH_DEPLOY_DATA") # for who works on these tests: keeps the images
        self.kept = bool(kept)
        self.folder = Path(kept or tempfile.mkdtemp(prefix="berth-engine-", dir="/var/tmp"))
        self.folder.mkdir(exist_ok=True)
        self.log = self.folder / "dockerd.log"
        self.socket = self.folder / "socket"
        self.process = self.network = None
        # HOME: nobody's ~/.docker decides anything here. The plain builder needs no plugin.
        self.env = {"PATH": PATH, "HOME": str(self.folder), "DOCKER_HOST": f"unix://{self.socket}",
                    "DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "1"}

    @staticmethod
    def check_machine():
        if os.geteuid() != 0:
            raise CannotRun("needs root")
        missing = [p for p in ("dockerd", "docker-compose", "debootstrap", "iptables", "ip")
                   if not shutil.which(p, path=PATH)]
        if missing:
            raise CannotRun(f"not installed: {', '.join(missing)}")
        done = run("unshare", "--net", "--mount", "--pid", "--fork", "true", check=False)
        if done.returncode:
            raise CannotRun(f"no namespaces: {done.stderr.strip()}")
        sweep()

    def start(self, network):
        """In a Network; or beside a Bridge, for builds alone, without any rule."""
        command = ["dockerd", "--data-root", self.folder / "data", "--exec-root",
                   self.folder / "run", "--pidfile", self.folder / "pid", "-H",
                   f"unix://{self.socket}", "--shutdown-timeout", "10"]
        if isinstance(network, Network):
            # The namespace alone: `ip netns exec` would hide the control groups.
            command = ["nsenter", f"--net={network.path}", *command]
        else:
            command += [f"--bridge={network.name}", "--iptables=false", "--ip-forward=false"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *map(str, command)], stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, env=self.env, start_new_session=True)

        def answers():
            if self.process.poll() is not None:
                raise CannotRun(f"dockerd ended: {self.log.read_text()[-2000:]}")
            return self.docker("version", check=False).returncode == 0
        wait_until(answers, 60, "dockerd answers")

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def close(self):
        self.stop()
        # dockerd leaves the mount of the network namespace that it was in, and where / is private
        # one of its data over themselves.
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if line.split()[1].startswith(f"{self.folder}/"):
                run("umount", "-l", line.split()[1], check=False)
        if not self.kept:
            shutil.rmtree(self.folder)

    def docker(self, *arguments, **more):
        return run("docker", *arguments, env=self.env, **more)

    def inspect(self, thing):
        return json.loads(self.docker("inspect", thing).stdout)[0]

    def build(self, target, tag, context=ROOT, *more):
        self.docker("build", "--network", "host", "--build-arg", "BASE_IMAGE=berth/base", *more,
                    "--target", target, "-t", tag, context, timeout=600)

    def layers(self, image):
        return self.inspect(image)["RootFS"]["Layers"]


class Stack:
    """The demo: docker-compose.yml with its overlay, and the settings that tests need."""
    name = "berth"
    demo = [ROOT / "docker-compose.yml", ROOT / "deploy" / "compose" / "demo.yml",
            Path(__file__).parent / "quick.yml"]

    def __init__(self, engine, network):
        self.engine, self.network = engine, network
        self.files = self.demo

    def compose(self, *arguments, env=None, **more):
        named = [part for f in self.files for part in ("-f", str(f))]
        return run("docker-compose", "-p", self.name, "--project-directory", ROOT, *named,
                   *arguments, env={**self.engine.env, **(env or {})}, **more)

    def up(self):
        began = time.monotonic()
        self.compose("up", "-d", timeout=180)
        return time.monotonic() - began

    def down(self, *arguments):
        self.files = self.demo
        self.compose("down", "-t", "10", *arguments, timeout=180)

    def container(self, service):
        return f"{self.name}_{service}_1"

    def inspect(self, service):
        return self.engine.inspect(self.container(service))

    def pid(self, service):
        return self.inspect(service)["State"]["Pid"]

    def network_path(self, service):
        return f"/proc/{self.pid(service)}/ns/net"

    def healthy(self, service):
        return self.inspect(service)["State"]["Health"]["Status"] == "healthy"

    def wait_ready(self, seconds=60):
        """Each process says itself that it is ready; the engine asks them only now and then."""
        for service in SERVICES:
            def ready():
                return self.engine.docker(
                    "exec", self.container(service), f"/usr/bin/berth-{service}", "-c",
                    "/etc/berth/config.yaml", "health", check=False).returncode == 0
            wait_until(ready, seconds, f"{service} ready")

    def read(self, path):
        """A file of the demo's keys."""
        volume = self.engine.inspect(f"{self.name}_demo-config")["Mountpoint"]
        return (Path(volume) / path).read_text()

    def client(self, folder, **more):
        ca = folder / "tls.pem"
        ca.write_text(self.read("tls.pem"))
        return PublishedClient(self.network.path, 22022, ca, **more)


class PublishedClient(Client):
    """A client at the engine's host: it reaches the port that is published there."""

    def __init__(self, network_path, *arguments, address="127.0.0.1", **more):
        super().__init__(*arguments, **more)
        self.network_path, self.address = network_path, address

    def open_socket(self):
        return connect_from(self.network_path, (self.address, self.port), self.timeout)
