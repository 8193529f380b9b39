"""Another engine: podman, with network, storage and mounts of its own."""

import json
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

from engine import PATH, CannotRun, Namespace, run


class Podman:
    def __init__(self):
        missing = [p for p in ("podman", "runc") if not shutil.which(p, path=PATH)]
        if not shutil.which("kubectl"):
            missing.append("kubectl")
        if missing:
            raise CannotRun(f"not installed: {', '.join(missing)}")
        # What it mounts goes with the process that holds the namespace.
        Path("/run/containers").mkdir(exist_ok=True)
        self.holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "sh", "-c",
             "mount -t tmpfs none /run/containers && echo mounted && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if not self.holder.stdout.readline():
            raise CannotRun("no mounts of its own")
        self.network = Namespace("-podman")
        self.folder = Path(tempfile.mkdtemp(prefix="berth-podman-", dir="/var/tmp"))
        conf = self.folder / "containers.conf"
        # The limits that podman gives by itself are beyond what a machine may allow to give.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        conf.write_text(f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", '
                        f'"nproc=4096:4096"]\n[network]\nnetwork_backend = "netavark"\n')
        self.env = {"PATH": PATH, "HOME": str(self.folder), "CONTAINERS_CONF": str(conf)}

    def __call__(self, *arguments, **more):
        # runc, as crun refuses control groups of both versions at a time.
        return run("nsenter", f"--net={self.network.path}",
                   f"--mount=/proc/{self.holder.pid}/ns/mnt", "podman", "--root", self.folder / "root",
                   "--runroot", self.folder / "run", "--tmpdir", self.folder / "tmp",
                   "--network-config-dir", self.folder / "networks", "--runtime", "runc",
                   "--cgroup-manager", "cgroupfs", "--events-backend", "none", *arguments,
                   env=self.env, **more)

    def load(self, engine, images):
        """Takes images over from the other engine."""
        archive = self.folder / "images.tar"
        engine.docker("save", "-o", archive, *images)
        self("load", "-i", archive)
        archive.unlink()

    def inspect(self, container):
        return json.loads(self("inspect", container).stdout)[0]

    def close(self):
        self("stop", "-a", "-t", "1", check=False)
        self("pod", "rm", "-a", "-f", check=False)
        self("rm", "-a", "-f", "-t", "0", check=False)
        self.holder.stdin.close()
        self.holder.wait(10)
        self.network.close()
        shutil.rmtree(self.folder)
