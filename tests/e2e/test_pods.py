"""deploy/kubernetes brought to life without a cluster: each pod's container runs as its manifest says (image
from scratch, read-only root, user, mounted secrets and volumes as a kubelet makes them, with links that are
swapped), each in a network namespace of its own, whose packet filter is made from the NetworkPolicies.

What that proves: the manifests' configuration, paths, ports, modes, probes and policies fit the programs.
What it does not: a scheduler, a real kubelet, a network plugin."""

import itertools
import json
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from berth import BUILD, ROOT, Gone, Process, make_tls_certificate, run, vendor, wait_until
from manifests import USER, Manifests, contents, tls_secret

OUTSIDE, BACKEND = "203.0.113.9", "203.0.113.1"  # a client, and the vendor; not in any cluster's range
MONITORING = "10.244.9.9"  # Prometheus, in its namespace
PODS = {"gateway": "10.244.0.2", "pool": "10.244.0.3", "trust": "10.244.0.4", "borrow": "10.244.0.5",
        "gateway-2": "10.244.0.6"}


def kind(pod):
    return pod.split("-")[0]


def missing():
    if os.geteuid() != 0:
        return "namespaces and mounts need root"
    for program in ("kubectl", "ip", "iptables", "nsenter", "unshare"):
        if not shutil.which(program):
            return f"{program} is not installed"
    probe = subprocess.run(["unshare", "--net", "sh", "-c", "ip link add name va type veth peer name vb && ip link "
                            "add name br0 type bridge && iptables -A INPUT -m conntrack --ctstate ESTABLISHED "
                            "-j ACCEPT"], capture_output=True, text=True)
    return f"no network namespaces here: {probe.stderr}" if probe.returncode else None


MISSING = missing()
pytestmark = [pytest.mark.skipif(bool(MISSING), reason=str(MISSING)), pytest.mark.xdist_group("pods")]


CONNECT = """
import errno, select, socket, sys, time
waiting = {}
for target in sys.argv[2:]:
    s = socket.socket()
    s.setblocking(False)
    if sys.argv[1]:
        s.bind((sys.argv[1], 0))
    address, port = target.split(":")
    s.connect_ex((address, int(port)))
    waiting[s] = target
end = time.monotonic() + 2
while waiting and time.monotonic() < end:
    for s in select.select([], list(waiting), [], 0.1)[1]:
        if not s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            print(waiting[s])
        del waiting[s]
"""


# ---- network ----

class Network:
    """A bridge in a namespace of its own, and a namespace for each pod."""

    def __init__(self):
        self.names = {}
        self.hub = self.make("hub")
        self("hub", "ip", "link", "add", "name", "br0", "type", "bridge")
        self("hub", "ip", "link", "set", "br0", "up")
        for address in ("10.244.0.1/16", f"{OUTSIDE}/24", f"{BACKEND}/24", f"{MONITORING}/32"):
            self("hub", "ip", "address", "add", address, "dev", "br0")
        for number, (pod, address) in enumerate(PODS.items()):
            self.make(pod)
            self("hub", "ip", "link", "add", "name", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns",
                 self.names[pod])
            self("hub", "ip", "link", "set", f"v{number}", "master", "br0", "up")
            self(pod, "ip", "address", "add", f"{address}/16", "dev", "eth0")
            self(pod, "ip", "link", "set", "eth0", "up")
            self(pod, "ip", "route", "add", "default", "via", "10.244.0.1")

    def make(self, pod):
        self.names[pod] = f"berth-{os.getpid()}-{pod}"
        run("ip", "netns", "add", self.names[pod])
        self(pod, "ip", "link", "set", "lo", "up")

    def command(self, pod, *command):
        return ["ip", "netns", "exec", self.names[pod], *map(str, command)]

    def __call__(self, pod, *command, check=True):
        return run(*self.command(pod, *command), check=check)

    def remove(self):
        for name in self.names.values():
            run("ip", "netns", "delete", name, check=False)

    def apply(self, policies):
        """NetworkPolicies as packet filters of the pods that they select."""
        for pod in PODS:
            rules = ["*filter", ":INPUT DROP", ":OUTPUT DROP", ":FORWARD DROP"]
            for chain, interface in (("INPUT", "-i"), ("OUTPUT", "-o")):
                rules += [f"-A {chain} {interface} lo -j ACCEPT",
                          f"-A {chain} -m conntrack --ctstate ESTABLISHED -j ACCEPT"]
            number = itertools.count()
            for policy in policies:
                if selects(policy["spec"]["podSelector"], pod):
                    rules += rules_of(policy["spec"].get("ingress") or [], "INPUT", "from", "-s", number)
                    rules += rules_of(policy["spec"].get("egress") or [], "OUTPUT", "to", "-d", number)
            subprocess.run(self.command(pod, "iptables-restore"), text=True, check=True,
                           input="\n".join([*rules, "COMMIT", ""]))


def selects(selector, pod):
    labels = {"app.kubernetes.io/name": "berth", "app.kubernetes.io/component": kind(pod)}
    return all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())


def addresses(peer):
    """(network, exceptions) of a peer."""
    if "ipBlock" in peer:
        return [(peer["ipBlock"]["cidr"], peer["ipBlock"].get("except", []))]
    if "namespaceSelector" in peer:
        name = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        return [(MONITORING, [])] if name == "monitoring" else []  # there are no name servers here
    return [(address, []) for pod, address in PODS.items() if selects(peer["podSelector"], pod)]


def rules_of(rules, chain, key, option, number):
    for rule in rules:
        ends = [end for peer in rule.get(key, []) for end in addresses(peer)] \
            if key in rule else [("0.0.0.0/0", [])]
        for (network, exceptions), port in itertools.product(ends, rule["ports"]):
            own = f"p{next(number)}"
            yield f":{own} -"
            yield from (f"-A {own} {option} {net} -j RETURN" for net in exceptions)
            yield f"-A {own} -j ACCEPT"
            yield f"-A {chain} {option} {network} -p {port['protocol'].lower()} --dport " \
                  f"{port['port']} -j {own}"


# ---- pods ----

class Cluster(Manifests):
    def __init__(self, folder):
        super().__init__()
        self.folder, self.processes = folder, {}
        (folder / "image" / "usr" / "bin").mkdir(parents=True)
        for pod in PODS:
            shutil.copy(BUILD / f"berth-{kind(pod)}", folder / "image" / "usr" / "bin")
            run("sh", ROOT / "deploy" / "docker" / "image-root.sh", folder / "image", folder / pod,
                f"berth-{kind(pod)}")
        self.network = Network()

    def prepare(self, pod):
        """The container's folders and files; the shell commands that mount them."""
        spec = self.spec(kind(pod))
        root, script = self.folder / pod, [f"mount --bind {self.folder / pod} {self.folder / pod}"]
        sources = {v["name"]: v for v in spec["volumes"]}
        for mount in spec["containers"][0]["volumeMounts"]:
            source = sources.get(mount["name"], {})
            folder = self.folder / f"{pod}-volumes" / mount["name"]
            target = root / mount["mountPath"].lstrip("/")
            target.mkdir(parents=True)
            if not self.volume(source, folder):  # a claimed one: the kubelet gives it to the group
                folder.mkdir(parents=True)
                os.chown(folder, 0, spec["securityContext"]["fsGroup"])
                folder.chmod(0o2775)
                script.append(f"mount --bind {folder} {target}")
                continue
            script += [f"mount --bind {folder} {target}", f"mount -o remount,bind,ro {target}"]
        names = {f"berth-{other}": address for other, address in PODS.items()}
        names["backend.example"] = BACKEND
        (root / "etc").mkdir(exist_ok=True)
        (root / "etc" / "hosts").write_text("".join(f"{a} {n}\n" for n, a in names.items()))
        (root / "proc").mkdir()
        script += [f"mount -t proc proc {root / 'proc'}", f"mount -o remount,bind,ro {root}"]
        return script

    def start(self, pod):
        spec = self.spec(kind(pod))
        user = spec["securityContext"]["runAsUser"]
        environment = {e["name"]: e["value"] for e in spec["containers"][0].get("env", [])}
        command = f"/usr/bin/berth-{kind(pod)} -c /etc/berth/config.yaml"
        script = [*self.scripts[pod], f"exec env -i {' '.join(f'{k}={v}' for k, v in environment.items())} "
                  f"setpriv --no-new-privs /usr/sbin/chroot --userspec={user}:{user} --groups="
                  f"{spec['securityContext']['fsGroup']} {self.folder / pod} {command}"]
        (self.folder / f"{pod}.sh").write_text("set -e\n" + "\n".join(script))
        self.processes[pod] = Process(
            self.network.command(pod, "unshare", "--mount", "sh", self.folder / f"{pod}.sh"),
            self.folder / f"{pod}.log")

    def probe(self, pod, which):
        container = self.spec(kind(pod))["containers"][0]
        get = container[which]["httpGet"]
        port = next(p["containerPort"] for p in container["ports"] if p["name"] == get["port"])
        if not self.processes[pod].running():
            raise Gone(f"{pod}: {self.processes[pod].text()[-3000:]}")
        done = self.network(pod, "curl", "-sk", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}",
                            f"{get.get('scheme', 'HTTP').lower()}://{PODS[pod]}:{port}{get['path']}",
                            check=False)
        return done.stdout == "200"

    def ready(self):
        return all(self.probe(pod, "readinessProbe") for pod in PODS)

    def call(self, method, through="gateway", **params):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        done = self.network("hub", "curl", "-sS", "-m", "10", "--interface", OUTSIDE, "--cacert",
                            self.folder / "tls.pem", "--resolve", f"localhost:22022:{PODS[through]}",
                            "-H", "Content-Type: application/json", "-d", body,
                            "https://localhost:22022/licenses", check=False)
        answer = json.loads(done.stdout) if done.returncode == 0 else done.stderr
        assert "result" in answer, answer
        return answer["result"]

    def request(self):
        return self.call("RequestSessionV1", feature="F", version="24.11", edition="Steady",
                         modules="")["sessionId"]

    def reached(self, source, targets):
        """Which of the (address, port) can be connected to, all tried at once."""
        where, bind = (source, "") if source in PODS else ("hub", source)
        done = self.network(where, "/usr/bin/python3", "-c", CONNECT, bind,
                            *[f"{address}:{port}" for address, port in targets])
        return [(a, int(p)) for a, p in (line.split(":") for line in done.stdout.split())]

    def stop(self):
        for process in self.processes.values():
            process.stop(signal.SIGKILL)
        self.network.remove()


def fill(cluster, folder, keys):
    server, license_folder = folder / "server-license", folder / "license"
    license_folder.mkdir()
    vendor("cloud-license", "--dir", keys, "--server-id", "S-1", "--cloud-url", "https://backend.example:443",
           "--addon", "borrow", "--out", server)
    vendor("license", "--dir", keys, "--server-id", "S-1", "--feature", "F", "--version", "24.11",
           "--edition", "Steady", "--modules", "fc", "--count", 2, "--out",
           license_folder / "license_a.dat")
    make_tls_certificate(folder)
    run(BUILD / "berth", "rpc-keys", folder / "rpc")
    cluster.provide_all(folder)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pods")
    folder.chmod(0o755)
    for parent in folder.parents:  # pytest's own folders are for root alone
        if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    keys = folder / "keys"
    vendor("init", "--dir", keys, "--cloud-name", "backend.example")
    cluster = Cluster(folder)
    try:
        cluster.scripts = {pod: cluster.prepare(pod) for pod in PODS}
        fill(cluster, folder, keys)
        cluster.network.apply(cluster.of_kind("NetworkPolicy"))
        cluster.processes["backend"] = Process(
            cluster.network.command("hub", BUILD / "berth-cloud", "serve", "--dir", keys / "cloud",
                                    "--listen", f"{BACKEND}:443", "--state", folder / "cloud.db"),
            folder / "cloud.log")
        wait_until(lambda: "cloud.listening" in cluster.processes["backend"].text(), 10, "backend")
        for pod in PODS:
            cluster.start(pod)
        wait_until(cluster.ready, 40, "all pods are ready")
        yield cluster
    finally:
        cluster.stop()


def test_pods_are_alive_and_ready(cluster):
    for pod in PODS:
        assert cluster.probe(pod, "livenessProbe") and cluster.probe(pod, "startupProbe")
        status = open(f"/proc/{cluster.processes[pod].pid}/status").read()
        assert f"Uid:\t{USER}\t{USER}" in status and "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status


def test_a_client_from_outside_is_served(cluster):
    session = cluster.request()
    cluster.call("RevalidateSessionV1", sessionId=session)
    cluster.call("ReturnSessionV1", sessionId=session)


def test_either_gateway_will_do(cluster):
    """They hold no state: a session of the one lives through the other, and when the one is gone."""
    assert cluster.pods["gateway"]["spec"]["replicas"] == 2
    session = cluster.request()
    cluster.call("RevalidateSessionV1", through="gateway-2", sessionId=session)
    cluster.processes["gateway-2"].stop(signal.SIGKILL)
    cluster.call("RevalidateSessionV1", sessionId=session)
    cluster.start("gateway-2")
    wait_until(cluster.ready, 40, "ready again")
    cluster.call("ReturnSessionV1", through="gateway-2", sessionId=session)


def test_policies_hold(cluster):
    """Everybody tries every port of every pod, and the backend's: the table says who gets through."""
    rpc = {"pool": 22034, "trust": 22035, "borrow": 22036}
    ops = {"gateway": 22023, "pool": 22024, "trust": 22025, "borrow": 22026}
    clients = [*PODS, OUTSIDE, MONITORING]
    gateways = [pod for pod in PODS if kind(pod) == "gateway"]
    allowed = {("pool", "trust", 22035), ("borrow", "trust", 22035), ("borrow", "pool", 22034),
               ("trust", "backend", 443), *((MONITORING, pod, ops[kind(pod)]) for pod in PODS),
               *((g, pod, port) for g in gateways for pod, port in rpc.items()),
               *((c, g, 22022) for c in (OUTSIDE, MONITORING) for g in gateways)}
    targets = {("backend", 443): BACKEND, **{(g, 22022): PODS[g] for g in gateways},
               **{(pod, port): PODS[pod] for pod in PODS for port in
                  (rpc.get(kind(pod)), ops[kind(pod)]) if port}}
    found, wanted, tries = set(), set(), {}
    for client in clients:
        asked = {(address, port): name for (name, port), address in targets.items()
                 if name != client and (name != "backend" or client in PODS)}
        wanted |= {(client, name, port) for (_, port), name in asked.items()
                   if (client, name, port) in allowed}
        tries[client] = asked
    with ThreadPoolExecutor(len(tries)) as pool:
        for client, reached in zip(tries, pool.map(cluster.reached, tries, tries.values())):
            found |= {(client, tries[client][at], at[1]) for at in reached}
    assert found == wanted == allowed


def test_a_renewed_certificate_is_taken_over(cluster):
    def served():
        shown = cluster.network("hub", "openssl", "s_client", "-connect", f"{PODS['gateway']}:22022",
                                "-bind", OUTSIDE, check=False).stdout
        return shown[shown.index("BEGIN CERTIFICATE"):shown.index("END CERTIFICATE")]
    before = served()
    make_tls_certificate(cluster.folder)
    cluster.provide("berth-tls", tls_secret(cluster.folder))
    wait_until(lambda: served() != before, 20, "new certificate")
    assert cluster.probe("gateway", "readinessProbe")


def test_new_licenses_are_taken_over(cluster, tmp_path):
    files = {link: (cluster.volumes["berth-licenses"][0].folder / link).read_bytes()
             for link in ("license_a.dat",)}
    vendor("license", "--dir", cluster.folder / "keys", "--server-id", "S-1", "--feature", "G",
           "--version", "24.11", "--edition", "Steady", "--modules", "", "--count", 1, "--out",
           tmp_path / "license_g.dat")
    cluster.provide("berth-licenses", {**files, **contents(tmp_path)})
    wait_until(lambda: {i["feature"] for i in cluster.call("ListLicensesV1")} == {"F", "G"}, 10,
               "both licenses")


@pytest.mark.parametrize("pod", ["trust", "pool", "borrow"])
def test_a_pod_that_is_lost_comes_back_with_its_volume(cluster, pod):
    session = cluster.request()
    cluster.processes[pod].stop(signal.SIGKILL)
    cluster.start(pod)
    wait_until(cluster.ready, 40, "ready again")
    wait_until(lambda: cluster.call("RevalidateSessionV1", sessionId=session), 20, "session lives")
    cluster.call("ReturnSessionV1", sessionId=session)
