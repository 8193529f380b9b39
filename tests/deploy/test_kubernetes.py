"""The Kubernetes manifests: built by kubectl, held strictly against the API's schema, and against what
the schema cannot see: ports, volumes, selectors, policies, secrets, the configuration in them."""

import copy
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from kubernetes_schema import check

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BERTH_BUILD", ROOT / "build"))
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("cloud-ready", "on-premises")
PROCESSES = ("gateway", "pool", "trust", "borrow")
RPC = {"pool": 22034, "trust": 22035, "borrow": 22036}
OPS = {"gateway": 22023, "pool": 22024, "trust": 22025, "borrow": 22026}
# Who calls whom: docs/architecture.md, and pool is told of borrows by borrow.
CALLS = {("gateway", "pool"), ("gateway", "trust"), ("gateway", "borrow"), ("pool", "trust"),
         ("borrow", "trust"), ("borrow", "pool")}


def build(folder):
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request):
    return request.param


@pytest.fixture(scope="module")
def manifests(overlay):
    made = build(FOLDER / "overlays" / overlay)
    assert len(made) > 15
    return made


def of_kind(manifests, *kinds):
    return [m for m in manifests if m["kind"] in kinds]


def component(labels):
    return labels["app.kubernetes.io/component"]


def workloads(manifests):
    """component → manifest"""
    return {component(m["spec"]["template"]["metadata"]["labels"]): m
            for m in of_kind(manifests, "Deployment", "StatefulSet")}


def selects(selector, labels):
    return all(labels.get(k) == v for k, v in selector.items())


# ---- what is wrong with a set of manifests ----

def faults_of_pod(name, manifest):
    spec = manifest["spec"]["template"]["spec"]
    labels = manifest["spec"]["template"]["metadata"]["labels"]
    if not selects(manifest["spec"]["selector"]["matchLabels"], labels):
        yield f"{name}: its selector does not select its pods"
    declared = {v["name"] for v in spec.get("volumes", [])}
    declared |= {v["metadata"]["name"] for v in manifest["spec"].get("volumeClaimTemplates", [])}
    mounted = {m["name"] for c in spec["containers"] for m in c.get("volumeMounts", [])}
    yield from (f"{name}: volume {v} is not declared" for v in mounted - declared)
    yield from (f"{name}: volume {v} is not mounted" for v in declared - mounted)
    for c in spec["containers"]:
        ports = {p["name"]: p["containerPort"] for p in c.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            get = c.get(probe, {}).get("httpGet")
            if not get:
                yield f"{name}: no {probe}"
            elif get["port"] not in ports:
                yield f"{name}: {probe}: no port {get['port']}"
            elif get["path"] != ("/health/ready" if probe == "readinessProbe" else "/health/alive"):
                yield f"{name}: {probe} asks {get['path']}"
        if not c["resources"].get("limits", {}).get("memory") or not c["resources"].get("requests"):
            yield f"{name}: no requests, or no limit of memory"


def faults_of_security(name, manifest, privileged):
    """What Pod Security "restricted" asks for, and a little more."""
    spec = manifest["spec"]["template"]["spec"]
    pod = spec["securityContext"]
    wanted = {"runAsNonRoot": True, "runAsUser": 22022, "runAsGroup": 22022, "fsGroup": 22022,
              "seccompProfile": {"type": "RuntimeDefault"}}
    yield from (f"{name}: {k} is {pod.get(k)}" for k, v in wanted.items() if pod.get(k) != v)
    if spec.get("automountServiceAccountToken") is not False or \
            spec.get("enableServiceLinks") is not False:
        yield f"{name}: it gets the service account's token, or the services' variables"
    yield from (f"{name}: {k}" for k in ("hostNetwork", "hostPID", "hostIPC") if spec.get(k))
    for c in spec["containers"]:
        own = c["securityContext"]
        if own.get("readOnlyRootFilesystem") is not True or \
                own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: root file system, or capabilities"
        if bool(own.get("privileged")) != privileged or \
                (own.get("allowPrivilegeEscalation") is not False) != privileged:
            yield f"{name}: privileges"
    for volume in spec.get("volumes", []):
        kind = next(k for k in volume if k != "name")
        if kind not in ("configMap", "secret") and not (privileged and kind == "hostPath"):
            yield f"{name}: volume of kind {kind}"
        if kind == "secret" and volume["secret"].get("defaultMode") != 0o400:
            yield f"{name}: mode of secret {volume['name']}"


def faults_of_services(manifests):
    pods = {n: m["spec"]["template"] for n, m in workloads(manifests).items()}
    for service in of_kind(manifests, "Service"):
        name = service["metadata"]["name"]
        hit = [n for n, p in pods.items()
               if selects(service["spec"]["selector"], p["metadata"]["labels"])]
        if len(hit) != 1:
            yield f"service {name} selects {hit}"
            continue
        ports = {p["name"]: p["containerPort"]
                 for p in pods[hit[0]]["spec"]["containers"][0]["ports"]}
        for port in service["spec"]["ports"]:
            if ports.get(port["targetPort"]) != port["port"]:
                yield f"service {name}: port {port['port']} leads to {port['targetPort']}"
    names = {s["metadata"]["name"] for s in of_kind(manifests, "Service")}
    for s in of_kind(manifests, "StatefulSet"):
        if s["spec"]["serviceName"] not in names:
            yield f"no service {s['spec']['serviceName']}"


def numbers(node, path=""):
    if isinstance(node, dict):
        for k, v in node.items():
            yield from numbers(v, f"{path}.{k}")
    elif isinstance(node, list):
        for v in node:
            yield from numbers(v, path)
    elif re.search(r"[pP]ort$", path) and isinstance(node, int):
        yield path, node


def faults(manifests, privileged=()):
    for m in manifests:
        yield from check(m)
        yield from (f"{path}: {n} is no port" for path, n in numbers(m) if not 0 < n < 65536)
        if m["kind"] != "Namespace" and m["metadata"].get("namespace") != "berth":
            yield f"{m['kind']} {m['metadata']['name']}: namespace"
    for name, m in workloads(manifests).items():
        yield from faults_of_pod(name, m)
        yield from faults_of_security(name, m, name in privileged)
    yield from faults_of_services(manifests)


def test_manifests_are_right(overlay, manifests):
    privileged = ("trust",) if overlay == "on-premises" else ()
    assert list(faults(manifests, privileged)) == []
    level = of_kind(manifests, "Namespace")[0]["metadata"]["labels"]
    assert level["pod-security.kubernetes.io/enforce"] == ("privileged" if privileged else
                                                           "restricted")


def at(manifests, kind, name):
    return next(m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name)


def container(manifests, kind, name):
    return at(manifests, kind, name)["spec"]["template"]["spec"]["containers"][0]


def pod(manifests, name):
    return at(manifests, "StatefulSet", name)["spec"]["template"]["spec"]


# What is done to the manifests, and a part of what is then said.
BREAKS = {
    "unknown key imag": lambda m: container(m, "StatefulSet", "berth-pool").update(imag="x"),
    "unknown key pth": lambda m: container(m, "Deployment", "berth-gateway")["livenessProbe"]
    ["httpGet"].update(pth="/"),
    "'2' is no integer": lambda m: at(m, "Deployment", "berth-gateway")["spec"]
    .update(replicas="2"),
    "True is no integer": lambda m: at(m, "Deployment", "berth-gateway")["spec"]
    .update(replicas=True),
    "policyTypes: 'Ingress' is no array": lambda m: at(m, "NetworkPolicy", "berth-pool")["spec"]
    .update(policyTypes="Ingress"),
    "image: 7 is no string": lambda m: container(m, "StatefulSet", "berth-pool").update(image=7),
    "name is missing": lambda m: container(m, "StatefulSet", "berth-pool")["volumeMounts"]
    [0].pop("name") and container(m, "StatefulSet", "berth-pool")["env"][0].pop("name"),
    "no such kind": lambda m: at(m, "PodDisruptionBudget", "berth-gateway")
    .update(apiVersion="policy/v1beta1"),
    "70000 is no port": lambda m: at(m, "Service", "berth-pool")["spec"]["ports"][0]
    .update(nodePort=70000),
    "volume none is not declared": lambda m: container(m, "StatefulSet", "berth-trust")
    ["volumeMounts"].append({"name": "none", "mountPath": "/x"}),
    "volume extra is not mounted": lambda m: pod(m, "berth-trust")["volumes"]
    .append({"name": "extra", "secret": {"secretName": "x", "defaultMode": 0o400}}),
    "its selector does not select": lambda m: at(m, "Deployment", "berth-gateway")["spec"]
    ["selector"]["matchLabels"].update({"app.kubernetes.io/component": "pool"}),
    "service berth selects []": lambda m: at(m, "Service", "berth")["spec"]["selector"]
    .update({"app.kubernetes.io/component": "x"}),
    "port 22035 leads to rpc": lambda m: at(m, "Service", "berth-pool")["spec"]["ports"][0]
    .update(port=22035),
    "livenessProbe asks /health/ready": lambda m: container(m, "StatefulSet", "berth-trust")
    ["livenessProbe"]["httpGet"].update(path="/health/ready"),
    "runAsUser is 0": lambda m: pod(m, "berth-pool")["securityContext"].update(runAsUser=0),
    "root file system": lambda m: container(m, "StatefulSet", "berth-pool")["securityContext"]
    .update(readOnlyRootFilesystem=False),
    "pool: privileges": lambda m: container(m, "StatefulSet", "berth-pool")["securityContext"]
    .update(privileged=True),
    "volume of kind hostPath": lambda m: pod(m, "berth-pool")["volumes"]
    .__setitem__(0, {"name": "config", "hostPath": {"path": "/"}}),
    "mode of secret rpc": lambda m: pod(m, "berth-pool")["volumes"][-1]["secret"]
    .update(defaultMode=0o444),
    "no limit of memory": lambda m: container(m, "StatefulSet", "berth-borrow")["resources"]
    .pop("limits"),
    "namespace": lambda m: at(m, "Service", "berth-pool")["metadata"].update(namespace="default"),
}


@pytest.fixture(scope="module")
def cloud_ready():
    return build(FOLDER / "overlays" / "cloud-ready")


@pytest.mark.parametrize("said", BREAKS)
def test_the_checks_find(said, cloud_ready):
    broken = copy.deepcopy(cloud_ready)
    BREAKS[said](broken)
    for fault in faults(broken):
        if said in fault:
            return
    pytest.fail(f"nobody says: {said}")


# ---- who may talk to whom ----

def edges(manifests, direction):
    """(from, to, port) that the policies allow; a name in brackets is not one of the four."""
    key, peers = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}[direction]
    for policy in of_kind(manifests, "NetworkPolicy"):
        own = policy["spec"]["podSelector"].get("matchLabels", {})
        targets = [p for p in PROCESSES if selects(own, {"app.kubernetes.io/name": "berth",
                                                         "app.kubernetes.io/component": p})]
        for rule in policy["spec"].get(key) or []:
            assert rule.get("ports"), "all ports are open"
            for peer in rule.get(peers, [{"everywhere": True}]):
                other = (component(peer["podSelector"]["matchLabels"]) if set(peer) ==
                         {"podSelector"} else f"[{', '.join(sorted(peer))}]")
                for port in rule["ports"]:
                    for target in targets:
                        pair = (other, target) if direction == "Ingress" else (target, other)
                        yield (*pair, port["port"])


def test_policies_allow_what_is_needed_and_nothing_else(overlay, manifests):
    needed = {(a, b, RPC[b]) for a, b in CALLS}
    ingress, egress = set(edges(manifests, "Ingress")), set(edges(manifests, "Egress"))
    assert {e for e in ingress if e[0] in PROCESSES} == needed
    assert {e for e in egress if e[1] in PROCESSES} == needed
    assert ingress - needed == {("[everywhere]", "gateway", 22022)} | {
        ("[namespaceSelector]", p, OPS[p]) for p in PROCESSES}
    out = {("trust", "[ipBlock]", 443)} if overlay == "cloud-ready" else set()
    assert egress - needed == out | {(p, "[namespaceSelector, podSelector]", 53) for p in PROCESSES}


def test_what_is_not_allowed_is_denied(manifests):
    deny = at(manifests, "NetworkPolicy", "berth-default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_policies_name_ports_of_the_pods(manifests):
    ports = {name: {p["containerPort"] for p in
                    m["spec"]["template"]["spec"]["containers"][0]["ports"]}
             for name, m in workloads(manifests).items()}
    for _, target, port in edges(manifests, "Ingress"):
        assert port in ports[target]
    named = {(t, p) for _, t, p in edges(manifests, "Ingress")}
    assert named == {(t, p) for t in ports for p in ports[t]}, "a port that nobody may reach"


# ---- configuration, secrets ----

def configuration(manifests):
    return next(m for m in of_kind(manifests, "ConfigMap"))["data"]["config.yaml"]


def test_configuration_in_the_manifests(overlay, manifests, tmp_path):
    assert (BUILD / "berth").exists(), f"no binaries in {BUILD}: build first"
    text = configuration(manifests)
    (tmp_path / "config.yaml").write_text(text)
    done = subprocess.run([BUILD / "berth", "check-config", tmp_path / "config.yaml"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    config = yaml.safe_load(text)
    for name, port in RPC.items():
        assert config["rpc"][name] == f"tls+tcp://berth-{name}:{port}"
        assert config["ops"][name] == f"0.0.0.0:{OPS[name]}"
        service = at(manifests, "Service", f"berth-{name}")["spec"]
        assert port in [p["port"] for p in service["ports"]]
        assert service["publishNotReadyAddresses"] is True
        variable = container(manifests, "StatefulSet", f"berth-{name}")["env"][0]
        assert variable == {"name": f"BERTH_RPC_{name.upper()}",
                            "value": f"tls+tcp://0.0.0.0:{port}"}
    needs = {"gateway": [config["serve"]["licenses"]["tls"]["certificate"],
                         config["serve"]["licenses"]["tls"]["key"],
                         config["serve"]["admin"]["token_file"], config["borrow"]["token_file"]],
             "pool": [config["licenses"]["search_paths"][0] + "/x", config["sessions"]["state_dir"] +
                      "/x", config["trust"]["vendor_ca"]],
             "trust": [config["trust"]["state_dir"] + "/x", config["trust"]["vendor_ca"]],
             "borrow": [config["borrow"]["directory"] + "/x", config["trust"]["vendor_ca"]]}
    if overlay == "cloud-ready":
        needs["trust"].append(config["trust"]["server_license"] + "/x")
    for name, paths in needs.items():
        mounts = [m["mountPath"] for m in
                  workloads(manifests)[name]["spec"]["template"]["spec"]["containers"][0]
                  ["volumeMounts"]]
        for path in [*paths, "/etc/berth/config.yaml", config["rpc"]["keys"] + "/ca.pem"]:
            assert any(path.startswith(mount + "/") for mount in mounts), f"{name}: {path}"


def test_a_mounted_change_is_seen():
    """A subPath is copied once: neither links nor contents would ever change."""
    for f in FOLDER.rglob("*.yaml"):
        assert "subPath" not in f.read_text(), f


def test_overlays_differ_in_one_line():
    one, other = ((FOLDER / "overlays" / o / "config.yaml").read_text().splitlines()
                  for o in OVERLAYS)
    assert sum(a != b for a, b in zip(one, other, strict=True)) == 1


def test_secrets_are_those_of_the_readme(manifests):
    """Everything that has to be made by hand, with the keys of it that are read."""
    readme = (FOLDER / "README.md").read_text()
    referenced = {}
    for name, m in workloads(manifests).items():
        for volume in m["spec"]["template"]["spec"]["volumes"]:
            source = volume.get("secret", {}).get("secretName") or \
                volume.get("configMap", {}).get("name")
            if source and not source.startswith("berth-config-"):
                referenced.setdefault(source, set()).add(name)
    assert len(referenced) >= 8
    for source, users in referenced.items():
        assert re.search(rf"^\| `{source}` \|.*\| {', '.join(sorted(users))} \|$", readme, re.M), \
            (source, users)


# ---- monitoring ----

def test_alert_rules_for_the_operator():
    """The command of the README, but for its end."""
    readme = (FOLDER / "README.md").read_text()
    command = re.search(r"^    (\{ printf.*?\}) \| kubectl apply -f -$", readme, re.M | re.S).group(1)
    made = yaml.safe_load(subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True,
                                         text=True, check=True).stdout)
    rules = yaml.safe_load((ROOT / "deploy" / "monitoring" / "alerts.yml").read_text())
    assert made == {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
                    "metadata": {"name": "berth", "namespace": "berth"}, "spec": rules}


def test_service_monitors(cloud_ready):
    monitors = build(FOLDER / "monitoring")
    assert {m["metadata"]["name"] for m in monitors} == {f"berth-{p}" for p in PROCESSES}
    for m in monitors:
        assert (m["apiVersion"], m["kind"]) == ("monitoring.coreos.com/v1", "ServiceMonitor")
        assert set(m) == {"apiVersion", "kind", "metadata", "spec"}
        assert set(m["spec"]) == {"selector", "endpoints"} and len(m["spec"]["endpoints"]) == 1
        endpoint = m["spec"]["endpoints"][0]
        assert set(endpoint) <= {"port", "path", "interval", "scheme", "tlsConfig"}
        hit = [s["metadata"]["name"] for s in of_kind(cloud_ready, "Service")
               if selects(m["spec"]["selector"]["matchLabels"], s["metadata"]["labels"]) and
               endpoint["port"] in [p["name"] for p in s["spec"]["ports"]]]
        # The job, by which the alert rules know it, is the service's name.
        assert hit == [m["metadata"]["name"]]
        assert (endpoint.get("scheme") == "https") == (hit == ["berth-gateway"])
