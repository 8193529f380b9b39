"""deploy/kubernetes brought up by another engine: `podman kube play`, which makes pods of manifests.

It knows no StatefulSets and services: those are played as the pods of their templates, with the volumes that
they claim, and the services' names as host aliases. Secrets are folders as a kubelet makes them, since podman
4.3 mounts them undecoded; probes, which it would run by a shell in the container, are left out, and the
processes asked.
All else is as the manifests say. Their policies: tests/e2e/test_pods.py."""

import datetime

import pytest
import yaml

from berth import RpcError, make_tls_certificate, wait_until
from engine import SERVICES, CannotRun, PublishedClient
from manifests import USER, Manifests
from podman import Podman

ADDRESSES = {name: f"10.89.7.{n}" for n, name in enumerate(("backend", *SERVICES), 2)}
ALIASES = [{"ip": address, "hostnames": [name if name == "backend" else f"berth-{name}"]}
           for name, address in ADDRESSES.items()]


class Machine(Manifests):
    """One machine with the four pods, and the vendor's backend beside them."""

    def __init__(self, podman):
        super().__init__()
        self.podman, self.maps = podman, []
        self.made = podman.folder / "made"
        (self.made / "license").mkdir(parents=True)
        make_tls_certificate(self.made)
        podman("network", "create", "--disable-dns", "--subnet", "10.89.7.0/24", "berth")

    def tool(self, program, *arguments, options=("--rm", "--network", "none")):
        self.podman("run", *options, "--user", "0", "-v", f"{self.made}:/made", "--entrypoint",
                    f"/usr/bin/{program}", "localhost/berth/tools", *arguments)

    def make(self):
        """As the vendor and the administrator do."""
        keys = ("--dir", "/made/keys")
        self.tool("berth-vendor", "init", *keys, "--cloud-name", "backend")
        self.tool("berth-vendor", "cloud-license", *keys, "--server-id", "S-1", "--cloud-url",
                  "https://backend:22030", "--addon", "borrow", "--out", "/made/server-license")
        self.tool("berth-vendor", "license", *keys, "--server-id", "S-1", "--feature", "F", "--version", "24.11",
                  "--edition", "Steady", "--modules", "fc", "--count", "2", "--out", "/made/license/license_a.dat")
        self.tool("berth", "rpc-keys", "/made/rpc")
        self.tool("berth-cloud", "serve", *keys[:1], "/made/keys/cloud", "--listen", "0.0.0.0:22030", "--state",
                  "/made/cloud.db", options=("-d", "--name", "backend", "--network", "berth", "--ip",
                                              ADDRESSES["backend"]))
        pods = {component: self.pod(component) for component in self.pods}
        self.provide_all(self.made)
        for component, pod in pods.items():
            self.file(component).write_text(yaml.safe_dump_all([*self.maps, pod]))

    def file(self, component):
        return self.podman.folder / f"{component}.yaml"

    def pod(self, component):
        spec = self.spec(component)
        spec["hostAliases"] = ALIASES
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            spec["containers"][0].pop(probe)
        for source in spec["volumes"]:
            if "secret" in source:
                volume = self.volume(source, self.podman.folder / "secrets" / component / source["name"])
                del source["secret"]
                source["hostPath"] = {"path": str(volume.folder), "type": "Directory"}
        for claim in self.pods[component]["spec"].get("volumeClaimTemplates", []):
            name = claim["metadata"]["name"]
            spec["volumes"].append({"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{component}"}})
        return {"apiVersion": "v1", "kind": "Pod", "spec": spec,
                "metadata": {**self.pods[component]["spec"]["template"]["metadata"], "name": f"berth-{component}"}}

    def provide(self, name, files):
        if name in self.volumes:
            super().provide(name, files)
        else:
            self.maps.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
                              "data": {key: data.decode() for key, data in files.items()}})

    def play(self):
        for component in self.pods:
            self.podman("kube", "play", "--network", "berth", "--ip", ADDRESSES[component], self.file(component))

    def down(self):
        for component in self.pods:
            self.podman("stop", self.container(component))  # kube down alone takes seconds now and then
            self.podman("kube", "down", self.file(component))

    def container(self, component):
        return f"berth-{component}-{component}"

    def ready(self):
        """All say so, and gateway, which is ready without borrow, has found that one, too."""
        return all(self.podman("exec", self.container(s), f"/usr/bin/berth-{s}", "-c", "/etc/berth/config.yaml",
                               "health", check=False).returncode == 0 for s in SERVICES) and self.lends()

    def lends(self):
        borrower = self.borrower()
        try:
            return borrower.call("ListBorrowedLicensesV1") is not None
        except RpcError:
            return False
        finally:
            borrower.close()

    def logs(self):
        return "".join(self.podman("logs", "--tail", "20", self.container(s), check=False).stderr for s in SERVICES)

    def wait_ready(self):
        try:
            wait_until(self.ready, 60, "all four are ready")
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.logs()}") from None

    def client(self, token=None):
        return PublishedClient(self.podman.network.path, 22022, self.made / "tls.pem", token=token)

    def borrower(self):
        return self.client(self.tokens["borrow.token"].decode())


@pytest.fixture(scope="module")
def machine(engine):
    try:
        podman = Podman()
    except CannotRun as e:
        pytest.skip(f"podman does not run here: {e}")
    try:
        try:
            podman.load(engine, [f"berth/{name}" for name in (*SERVICES, "tools")])
            machine = Machine(podman)
            machine.tool("berth", "--version")
            for command in ("create", "start", "rm"):
                podman("pod", command, "probe")
        except AssertionError as e:
            pytest.skip(f"podman does not run here: {e}")
        for service in SERVICES:  # the names that the manifests have, and a vendor's registry would
            podman("tag", f"localhost/berth/{service}", f"localhost/{machine.spec(service)['containers'][0]['image']}")
        machine.make()
        machine.play()
        machine.wait_ready()
        yield machine
    finally:
        podman.close()


def test_the_pods_serve(machine):
    client = machine.client()
    session = client.request("F")["sessionId"]
    client.call("RevalidateSessionV1", sessionId=session)
    client.give_back(session)
    client.close()


@pytest.mark.parametrize("service", SERVICES)
def test_the_containers_are_as_confined_as_the_manifests_say(machine, service):
    shown = machine.podman.inspect(machine.container(service))
    with open(f"/proc/{shown['State']['Pid']}/status") as f:
        status = f.read()
    assert f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}" in status and "NoNewPrivs:\t1" in status
    assert "CapBnd:\t0000000000000000" in status and "Seccomp:\t2" in status
    assert shown["HostConfig"]["ReadonlyRootfs"] and not shown["HostConfig"]["Privileged"]
    limit = machine.spec(service)["containers"][0]["resources"]["limits"]["memory"]
    assert f"{shown['HostConfig']['Memory'] >> 20}Mi" == limit


def test_what_was_lent_and_used_survives_the_pods(machine):
    borrower = machine.borrower()
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    lent = borrower.call("BorrowLicenseV1", uuid=borrower.licenses()[0]["uuid"], feature="F",
                         hostId="02:00:00:00:00:01", validUntil=until.strftime("%Y-%m-%dT%H:%M:%SZ"))
    session = borrower.request("F")["sessionId"]
    machine.down()
    machine.play()
    machine.wait_ready()
    borrower.close()
    assert [b["borrowId"] for b in borrower.call("ListBorrowedLicensesV1")] == [lent["borrowId"]]
    borrower.call("RevalidateSessionV1", sessionId=session)
    borrower.close()
