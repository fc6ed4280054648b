"""Rendered objects against the schemas of a Kubernetes version, strictly: a field that it does not know is an error.

The schemas are those of the package kubernetes-validate, read as files and compiled once, because its own function
reads and compiles them for every object. Kinds that others define are in `crds/`, taken from their definitions.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from elf_sdk.errors import Failure, Missing

if TYPE_CHECKING:
    import jsonschema_rs

__all__ = ["KUBERNETES_VERSION", "ObjectSchemas", "parse_manifests"]

KUBERNETES_VERSION: Final = "1.33"
"""The version that charts are proven for."""

_INSTALL: Final = "pip install 'elf-sdk[tools]'"
_DEFINITIONS: Final = "https://kubernetes.io/api/_definitions.json"
_CRDS: Final = Path(__file__).parent / "crds"
_SUBDOMAIN: Final = r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_NAMES: Final = {
    "Service": (r"(?=.{1,63}$)[a-z]([-a-z0-9]*[a-z0-9])?", "a label that starts with a letter (RFC 1035)"),
    "Namespace": (r"(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?", "a label (RFC 1123)"),
    "ClusterRole": (r"[^/%]+", "a part of a path"),
    "ClusterRoleBinding": (r"[^/%]+", "a part of a path"),
    "Role": (r"[^/%]+", "a part of a path"),
    "RoleBinding": (r"[^/%]+", "a part of a path"),
}
"""How names are written, by kind, where not as most are (DNS subdomains, RFC 1123)."""

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_manifests(text: str, documents: Sequence[object] | None = None) -> list[dict[str, Any]]:
    """The objects in a stream of YAML documents.

    Args:
        text: the stream.
        documents: what it says, where somebody has read it already.

    Raises:
        Failure: it is no YAML, or holds something that is no object.
    """
    if documents is None:
        try:
            documents = [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
        except yaml.YAMLError as error:
            raise Failure(f"what was rendered is no YAML: {' '.join(str(error).split())}") from None
    found: list[dict[str, Any]] = []
    for document in documents:
        if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
            raise Failure(f"what was rendered holds something that is no Kubernetes object: {document!r:.80}")
        found.append(document)
    return found


class ObjectSchemas:
    """The compiled schemas of one Kubernetes version. Safe to use from several threads.

    Args:
        version: major and minor number, such as `1.33`.

    Raises:
        Missing: the package with the schemas is not installed, or does not know the version.
    """

    def __init__(self, version: str = KUBERNETES_VERSION) -> None:
        self.version = version
        self._directory = _schemas() / f"v{version}.0-local-strict"
        if not self._directory.is_dir():
            raise Missing(f"there are no schemas for Kubernetes {version}; {_INSTALL} --upgrade brings newer ones")
        self._validator = cache(self._compile)

    def check(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """Check every object.

        Raises:
            Failure: names each object that is wrong by kind and name, the path in it, and what is wrong there.
        """
        found: list[str] = []
        seen: set[tuple[str, str]] = set()
        for each in objects:
            kind, name = str(each.get("kind", "?")), str(each.get("metadata", {}).get("name", "?"))
            where = f"{kind}/{name}"
            if (kind, name) in seen:
                found.append(f"{where}: it is there twice")
            seen.add((kind, name))
            validator = self._validator(str(each.get("apiVersion", "")), kind)
            if validator is None:
                found.append(f"{where}: Kubernetes {self.version} has no {kind} in {each.get('apiVersion')}")
                continue
            for error in validator.iter_errors(each):
                path = ".".join(str(part) for part in error.instance_path) or "the object"
                found.append(f"{where}: {path}: {error.message[:300]}")
            # What an API server refuses, and no schema says.
            pattern, what = _NAMES.get(kind, (_SUBDOMAIN, "a name in lower-case letters, digits, dashes and dots"))
            if name != "?" and not re.fullmatch(pattern, name):
                found.append(f"{where}: metadata.name: it is not {what}")
        if found:
            raise Failure("; ".join(found))

    def _compile(self, api_version: str, kind: str) -> jsonschema_rs.Draft202012Validator | None:
        import jsonschema_rs

        group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
        if not re.fullmatch(r"[A-Za-z0-9-]+", f"{kind}{group}"):
            return None
        name = f"{kind.lower()}-{group}.json"
        file = next((place / name for place in (self._directory, _CRDS) if (place / name).is_file()), None)
        if file is None:
            return None
        return jsonschema_rs.Draft202012Validator(json.loads(file.read_bytes()), registry=self._registry)

    @property
    def _registry(self) -> jsonschema_rs.Registry:
        return _definitions(self._directory)


@cache
def _definitions(directory: Path) -> jsonschema_rs.Registry:
    import jsonschema_rs

    return jsonschema_rs.Registry([(_DEFINITIONS, json.loads((directory / "_definitions.json").read_bytes()))])


def _schemas() -> Path:
    # Found and not imported: the package itself is not used, and takes long to load.
    package = importlib.util.find_spec("kubernetes_validate")
    if package is None or not package.submodule_search_locations or importlib.util.find_spec("jsonschema_rs") is None:
        raise Missing(f"the Kubernetes schemas are not installed; {_INSTALL} brings them")
    return Path(package.submodule_search_locations[0]) / "kubernetes-json-schema"
