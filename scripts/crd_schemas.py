"""From CustomResourceDefinitions to strict JSON Schemas, as small as they can be: `scripts/crd-schemas`.

A structural schema (apiextensions.k8s.io/v1) becomes JSON Schema 2020-12 by a few rules: descriptions, defaults and
formats go; an object takes no other field than its own, unless it preserves unknown ones; `metadata` is Kubernetes's
own; `status` goes, because no chart may write it; what stands there twice is written once. Rules in CEL
(x-kubernetes-validations) need a cluster and go too.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

TARGET: Final = Path("elf_sdk/deploy/crds")
METADATA: Final = {
    "$ref": "https://kubernetes.io/api/_definitions.json#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
}


@dataclass(frozen=True, slots=True)
class Source:
    """A Go module, and the definitions in it, as path and version of the API."""

    module: str
    version: str
    licence: str
    definitions: tuple[tuple[str, str], ...]


SOURCES: Final = (
    Source(
        "sigs.k8s.io/gateway-api",
        "v1.4.0",
        "Apache-2.0",
        (("config/crd/standard/gateway.networking.k8s.io_httproutes.yaml", "v1"),),
    ),
    Source(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "Apache-2.0",
        (
            ("example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml", "v1"),
            ("example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml", "v1"),
            ("example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml", "v1"),
        ),
    ),
    Source(
        "github.com/external-secrets/external-secrets",
        "v0.20.4",
        "Apache-2.0",
        (("config/crds/bases/external-secrets.io_externalsecrets.yaml", "v1"),),
    ),
    Source(
        "github.com/kedacore/keda/v2",
        "v2.18.1",
        "Apache-2.0",
        (
            ("config/crd/bases/keda.sh_scaledobjects.yaml", "v1alpha1"),
            ("config/crd/bases/keda.sh_triggerauthentications.yaml", "v1alpha1"),
        ),
    ),
    Source(
        "github.com/cilium/cilium",
        "v1.18.4",
        "Apache-2.0",
        (("pkg/k8s/apis/cilium.io/client/crds/v2/ciliumnetworkpolicies.yaml", "v2"),),
    ),
    Source(
        "github.com/argoproj/argo-cd/v3",
        "v3.5.1",
        "Apache-2.0",
        (
            ("manifests/crds/application-crd.yaml", "v1alpha1"),
            ("manifests/crds/applicationset-crd.yaml", "v1alpha1"),
            ("manifests/crds/appproject-crd.yaml", "v1alpha1"),
        ),
    ),
)

_TEXT: Final = {"type": "string"}
_TEXTS: Final = {"type": "array", "items": _TEXT}
_PAIRS: Final = {"type": "object", "additionalProperties": _TEXT}


def _fields(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


KUSTOMIZATION: Final = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "required": ["apiVersion", "kind"],
    **_fields(
        apiVersion={"const": "kustomize.config.k8s.io/v1beta1"},
        kind={"const": "Kustomization"},
        metadata=METADATA,
        resources=_TEXTS,
        components=_TEXTS,
        namespace=_TEXT,
        namePrefix=_TEXT,
        nameSuffix=_TEXT,
        commonAnnotations=_PAIRS,
        labels={
            "type": "array",
            "items": _fields(pairs=_PAIRS, includeSelectors={"type": "boolean"}, includeTemplates={"type": "boolean"}),
        },
        images={"type": "array", "items": _fields(name=_TEXT, newName=_TEXT, newTag=_TEXT, digest=_TEXT)},
        patches={"type": "array", "items": _fields(path=_TEXT, patch=_TEXT, target=_PAIRS)},
    ),
}
"""Kustomize's file is no object of a cluster and has no definition; these are the fields that tools write."""


def main() -> None:
    """Write every schema, and the page that says where each comes from."""
    TARGET.mkdir(exist_ok=True)
    for old in TARGET.glob("*.json"):
        old.unlink()
    rows = [row for source in SOURCES for row in write(source)]
    (TARGET / "kustomization-kustomize-v1beta1.json").write_text(encoded(KUSTOMIZATION), encoding="utf-8")
    (TARGET / "SOURCES.md").write_text(page(rows), encoding="utf-8")


def write(source: Source) -> Iterator[tuple[str, ...]]:
    """Write the schemas of one module; a row of the page for each."""
    directory = fetch(source)
    for path, version in source.definitions:
        content = (directory / path).read_bytes()
        definition = yaml.safe_load(content)
        kind, group = definition["spec"]["names"]["kind"], definition["spec"]["group"]
        (schema,) = [
            each["schema"]["openAPIV3Schema"]
            for each in definition["spec"]["versions"]
            if each["name"] == version and each["served"]
        ]
        file = TARGET / f"{kind.lower()}-{group.partition('.')[0]}-{version}.json"
        file.write_text(encoded(whole(schema, kind, f"{group}/{version}")), encoding="utf-8")
        print(f"{file} {file.stat().st_size // 1024} KiB")
        sha256 = hashlib.sha256(content).hexdigest()
        yield kind, f"{group}/{version}", source.module, source.version, path, source.licence, sha256


def fetch(source: Source) -> Path:
    """The module's directory, brought there by Go, which checks its sum."""
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            ["go", "mod", "download", "-json", f"{source.module}@{source.version}"],
            cwd=elsewhere,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return Path(json.loads(done.stdout)["Dir"])


def whole(schema: dict[str, Any], kind: str, api_version: str) -> dict[str, Any]:
    """The schema of an object: what a chart may write of it."""
    body = strict({key: value for key, value in schema["properties"].items() if key != "status"})
    required = sorted({"apiVersion", "kind", "metadata", *schema.get("required", ())} - {"status"})
    return once(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "required": required,
            "properties": {
                **body,
                "apiVersion": {"const": api_version},
                "kind": {"const": kind},
                "metadata": METADATA,
            },
            "additionalProperties": False,
        }
    )


def strict(properties: dict[str, Any]) -> dict[str, Any]:
    """Fields, each of which says what there may be."""
    return {name: structural(schema) for name, schema in properties.items()}


def structural(schema: dict[str, Any]) -> dict[str, Any]:
    """One node that says what there may be."""
    result = validations(schema)
    kind = schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
        result.pop("anyOf", None)  # says the same once more
    elif kind == "object":
        result["type"] = "object"
        if schema.get("x-kubernetes-embedded-resource"):
            result["required"] = sorted({"apiVersion", "kind", *schema.get("required", ())})
        if "properties" in schema:
            result["properties"] = strict(schema["properties"])
        if "additionalProperties" in schema:
            inner = schema["additionalProperties"]
            result["additionalProperties"] = structural(inner) if isinstance(inner, dict) else inner
        elif not schema.get("x-kubernetes-preserve-unknown-fields"):
            result["additionalProperties"] = False
    elif kind == "array":
        result |= {"type": "array", "items": structural(schema["items"])}
        if schema.get("x-kubernetes-list-type") == "set":
            result["uniqueItems"] = True
    elif kind is not None:
        result["type"] = kind
    if schema.get("nullable") and isinstance(kind, str):
        result["type"] = [kind, "null"]
    return result


_SAME: Final[tuple[str, ...]] = (
    "enum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "required",
    "uniqueItems",
)


def validations(schema: dict[str, Any]) -> dict[str, Any]:
    """What a node says of values, without what there may be."""
    result: dict[str, Any] = {key: schema[key] for key in _SAME if key in schema}
    for bound in ("Maximum", "Minimum"):
        # OpenAPI 3.0 has a flag here where JSON Schema has the number.
        if schema.get(f"exclusive{bound}"):
            result[f"exclusive{bound}"] = result.pop(bound.lower())
    for key in ("allOf", "anyOf", "oneOf"):
        if key in schema:
            result[key] = [loose(each) for each in schema[key]]
    if "not" in schema:
        result["not"] = loose(schema["not"])
    return result


def loose(schema: dict[str, Any]) -> dict[str, Any]:
    """A node below allOf, anyOf, oneOf or not: it forbids no other field."""
    result = validations(schema)
    if "type" in schema:
        result["type"] = schema["type"]
    if "properties" in schema:
        result["properties"] = {name: loose(each) for name, each in schema["properties"].items()}
    if isinstance(schema.get("items"), dict):
        result["items"] = loose(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = loose(schema["additionalProperties"])
    return result


_WORTH: Final = 120
"""Characters from which on a schema that stands there twice is written once."""


def once(schema: dict[str, Any]) -> dict[str, Any]:
    """The same, with every larger part that stands there more than once under $defs."""
    counted: Counter[str] = Counter()

    def count(node: object) -> None:
        if isinstance(node, dict):
            text = json.dumps(node, sort_keys=True)
            counted[text] += 1
            if counted[text] > 1:
                return
        for inner in children(node):
            count(inner)

    count(schema)
    twice = [text for text, times in counted.items() if times > 1 and len(text) >= _WORTH and is_schema(text)]
    names = {text: f"p{number}" for number, text in enumerate(twice)}

    def replaced(node: Any, *, top: bool = False) -> Any:
        if isinstance(node, dict):
            name = None if top else names.get(json.dumps(node, sort_keys=True))
            return {"$ref": f"#/$defs/{name}"} if name else {key: replaced(value) for key, value in node.items()}
        return [replaced(item) for item in node] if isinstance(node, list) else node

    parts = {name: replaced(json.loads(text), top=True) for text, name in names.items()}
    return {**replaced(schema, top=True), **({"$defs": parts} if parts else {})}


def is_schema(text: str) -> bool:
    """Whether it is a schema, and no map from names to schemas."""
    return "type" in json.loads(text) and not isinstance(json.loads(text)["type"], dict)


def children(node: object) -> Iterable[object]:
    """What is in a map or a list."""
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def encoded(schema: dict[str, Any]) -> str:
    """One line for each definition and each of the top: small, and still compared line by line."""
    lines: list[str] = []
    for key, value in schema.items():
        if key == "$defs":
            parts = ",\n".join(f"{json.dumps(name)}:{compact(part)}" for name, part in value.items())
            lines.append(f'"$defs":{{\n{parts}\n}}')
        else:
            lines.append(f"{json.dumps(key)}:{compact(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def compact(value: object) -> str:
    """As JSON on one line."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def page(rows: list[tuple[str, ...]]) -> str:
    """The page about `rows`, in Markdown."""
    lines = [
        "# Where these schemas come from",
        "",
        "Each is the structural schema of a CustomResourceDefinition, as JSON Schema: without descriptions, defaults,",
        "formats, `status` and rules in CEL; an unknown field is an error. `scripts/crd-schemas` writes them and this",
        "page.",
        "",
        "| kind | API | Go module | version | file | licence | SHA-256 of the file |",
        "|---|---|---|---|---|---|---|",
    ]
    last = [
        "",
        "Kustomization (kustomize.config.k8s.io/v1beta1) is no object of a cluster: its schema is written in",
        "`scripts/crd_schemas.py`, with the fields that tools write.",
        "",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), *last])


if __name__ == "__main__":
    main()
