"""What deploy/kubernetes says, and what a kubelet and its administrator make of it."""

import base64
import os
import secrets
import shutil

import yaml
from berth import ROOT, run

USER = 22022


class Volume:
    """A secret or config map as the kubelet mounts it: replaced at once, by a link."""

    def __init__(self, folder, mode):
        self.folder, self.mode, self.version = folder, mode, 0
        folder.mkdir(parents=True)
        folder.chmod(0o755)

    def write(self, files):
        self.version += 1
        name = f"..{self.version}"
        (self.folder / name).mkdir(mode=0o755)
        for key, data in files.items():
            path = self.folder / name / key
            path.write_bytes(data)
            os.chown(path, 0, USER)
            path.chmod(self.mode | 0o440)  # fsGroup: its group may read
            if not (self.folder / key).is_symlink():
                (self.folder / key).symlink_to(f"..data/{key}")
        (self.folder / "..next").symlink_to(name)
        (self.folder / "..next").rename(self.folder / "..data")
        if self.version > 1:
            shutil.rmtree(self.folder / f"..{self.version - 1}")


def contents(folder):
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()}


def tls_secret(folder):
    return {"tls.crt": (folder / "tls.pem").read_bytes(), "tls.key": (folder / "tls.key").read_bytes()}


class Manifests:
    """The overlay cloud-ready, built, and the volumes of its pods."""

    def __init__(self):
        built = run("kubectl", "kustomize", ROOT / "deploy" / "kubernetes" / "overlays" / "cloud-ready")
        self.manifests = list(yaml.safe_load_all(built.stdout))
        self.pods = {m["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: m
                     for m in self.manifests if m["kind"] in ("Deployment", "StatefulSet")}
        self.volumes = {}

    def of_kind(self, kind):
        return [m for m in self.manifests if m["kind"] == kind]

    def spec(self, component):
        return self.pods[component]["spec"]["template"]["spec"]

    def volume(self, source, folder):
        """The folder of a pod's volume that is a secret or a config map; provide() fills it. None: it is neither."""
        if "secret" in source:
            name, mode = source["secret"]["secretName"], source["secret"]["defaultMode"]
        elif "configMap" in source:
            name, mode = source["configMap"]["name"], 0o644
        else:
            return None
        volume = Volume(folder, mode)
        self.volumes.setdefault(name, []).append(volume)
        return volume

    def provide(self, name, files):
        """The content of a secret or config map, for all who mount it."""
        for volume in self.volumes.get(name, []):
            volume.write(files)
        assert name in self.volumes, f"nobody mounts {name}"

    def provide_all(self, folder):
        """What README.md of deploy/kubernetes says has to be made, of files that are there."""
        config = self.of_kind("ConfigMap")[0]
        self.provide(config["metadata"]["name"], {k: v.encode() for k, v in config["data"].items()})
        self.provide("berth-vendor-ca", {"vendor-ca.pem": (folder / "keys" / "vendor-ca.pem").read_bytes()})
        self.provide("berth-licenses", contents(folder / "license"))
        self.provide("berth-server-license", contents(folder / "server-license"))
        self.provide("berth-tls", tls_secret(folder))
        self.tokens = {n: base64.b16encode(secrets.token_bytes(32)) for n in ("admin.token", "borrow.token")}
        self.provide("berth-tokens", self.tokens)
        rpc = contents(folder / "rpc")
        for pod in self.pods:
            self.provide(f"berth-rpc-{pod}", {n: rpc[n] for n in ("ca.pem", f"{pod}.pem", f"{pod}.key")})
