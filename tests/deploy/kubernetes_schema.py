#!/usr/bin/python3
"""Strict check of manifests against the API's own schema, kept in kubernetes-schema.json.

That file is the part of the Kubernetes API's definitions (Apache-2.0) that our kinds reach, without
descriptions, one definition a line. Made anew by

    pip download kubernetes-validate && kubernetes_schema.py kubernetes_validate-*.whl [v1.32.0]
"""

import json
import sys
import zipfile
from pathlib import Path

FILE = Path(__file__).with_name("kubernetes-schema.json")
KINDS = ["apps/v1 Deployment", "apps/v1 StatefulSet", "networking.k8s.io/v1 NetworkPolicy",
         "policy/v1 PodDisruptionBudget", "v1 ConfigMap", "v1 Namespace", "v1 Secret", "v1 Service",
         "v1 ServiceAccount"]
KEPT = ("type", "properties", "required", "items", "additionalProperties", "enum", "oneOf", "anyOf")
TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict,
         "array": list}


def problems(value, schema, definitions, path):
    """All that the schema does not allow, unknown keys first of all, as texts."""
    if "ref" in schema:
        schema = definitions[schema["ref"]]
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            tries = [list(problems(value, s, definitions, path)) for s in schema[choice]]
            if all(tries):
                yield from tries[0]
            return
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(isinstance(value, TYPES[k]) and (k == "boolean" or value is not True
                                                          and value is not False) for k in kinds):
        yield f"{path}: {value!r} is no {' or '.join(kinds)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {schema['enum']}"
    if isinstance(value, list):
        for n, item in enumerate(value):
            yield from problems(item, schema.get("items", {}), definitions, f"{path}[{n}]")
    if not isinstance(value, dict) or not kinds:
        return
    for key in schema.get("required", []):
        if key not in value:
            yield f"{path}: {key} is missing"
    known, more = schema.get("properties", {}), schema.get("additionalProperties")
    for key, item in value.items():
        if key in known or isinstance(more, dict):
            yield from problems(item, known.get(key, more), definitions, f"{path}.{key}")
        else:
            yield f"{path}: unknown key {key}"


def check(manifest):
    stored = json.loads(FILE.read_text())
    kind = f"{manifest.get('apiVersion')} {manifest.get('kind')}"
    if kind not in stored["kinds"]:
        return [f"{kind}: no such kind"]
    name = manifest.get("metadata", {}).get("name", "")
    return list(problems(manifest, {"ref": stored["kinds"][kind]}, stored["definitions"],
                         f"{manifest['kind']}/{name}"))


def reduced(node):
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return {"ref": node["$ref"].split("/")[-1]}
    out = {}
    for key in KEPT:
        if key not in node:
            continue
        value = node[key]
        if key == "properties":
            value = {name: reduced(item) for name, item in value.items()}
        elif key in ("items", "additionalProperties"):
            value = reduced(value)
        elif key in ("oneOf", "anyOf"):
            value = [reduced(item) for item in value]
        elif key == "type" and isinstance(value, list):  # null means "absent": we write no nulls
            value = [item for item in value if item != "null"]
            value = value[0] if len(value) == 1 else value
        out[key] = value
    return out


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("ref"), str):
            yield node["ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def make(wheel, version="v1.32.0"):
    folder = f"kubernetes_validate/kubernetes-json-schema/{version}-local/_definitions.json"
    all_of_them = json.loads(zipfile.ZipFile(wheel).read(folder))["$defs"]
    kinds = {}
    for name, schema in all_of_them.items():
        for gvk in schema.get("x-kubernetes-group-version-kind", []):
            kind = f"{gvk['group']}/{gvk['version']} {gvk['kind']}".lstrip("/")
            if kind in KINDS:
                kinds[kind] = name
    assert sorted(kinds) == KINDS, kinds
    definitions, waiting = {}, list(kinds.values())
    while waiting:
        name = waiting.pop()
        if name not in definitions:
            definitions[name] = reduced(all_of_them[name])
            waiting += references(definitions[name])
    lines = ",\n".join(json.dumps(n) + ":" + json.dumps(definitions[n], separators=(",", ":"))
                       for n in sorted(definitions))
    FILE.write_text(f'{{"version": {json.dumps(version)},\n"kinds": '
                    f"{json.dumps(kinds, sort_keys=True)},\n\"definitions\": {{\n{lines}\n}}}}\n")


if __name__ == "__main__":
    make(*sys.argv[1:])
