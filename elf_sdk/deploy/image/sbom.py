"""What an image holds, as a CycloneDX document (ECMA-424, version 1.6): every Python distribution with its version.

The build runs this module inside the image, so that the document says what is there and not what was asked for. It
knows nothing of the base image's own packages.

    python -m elf_sdk.deploy.image.sbom brand-team 1.2.0 >sbom.cdx.json
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from typing import Any, Final

__all__ = ["sbom"]

_NAME: Final = re.compile(r"[-_.]+")
_REQUIRED: Final = re.compile(r"^[A-Za-z0-9._-]+")


def sbom(team: str, version: str, installed: Iterable[Distribution]) -> dict[str, Any]:
    """The document of a team's image. It holds no time and no serial number, so that the same image has the same.

    Args:
        team: the team's name.
        version: the team's version.
        installed: the distributions in the image.
    """
    found: dict[str, Distribution] = {}
    for each in installed:
        found.setdefault(_normal(each.metadata["Name"]), each)
    subject = f"team:{team}@{version}"
    refs = {name: f"pkg:pypi/{name}@{each.version}" for name, each in sorted(found.items())}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": subject, "name": team, "version": version}},
        "components": [_component(name, refs[name], found[name]) for name in refs],
        "dependencies": [
            {"ref": subject, "dependsOn": sorted(refs.values())},
            *({"ref": ref, "dependsOn": _needs(found[name], refs)} for name, ref in refs.items()),
        ],
    }


def _component(name: str, ref: str, found: Distribution) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": ref,
        "name": name,
        "version": found.version,
        "purl": ref,
    }
    metadata = found.metadata
    [expression] = metadata.get_all("License-Expression", [""])
    classified = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if line[:7] == "License"]
    if expression:
        component["licenses"] = [{"expression": expression}]
    elif classified:
        component["licenses"] = [{"license": {"name": each}} for each in sorted(set(classified))]
    return component


def _needs(found: Distribution, refs: dict[str, str]) -> list[str]:
    """What a distribution asks for and the image has; which of it an extra asked for is not told apart."""
    names = (match[0] for line in found.requires or () if (match := _REQUIRED.match(line)))
    return sorted({refs[name] for name in map(_normal, names) if name in refs})


def _normal(name: str) -> str:
    """PEP 503."""
    return _NAME.sub("-", name).lower()


def main() -> None:
    """Print the document of what this interpreter finds."""
    team, version = sys.argv[1:]
    json.dump(sbom(team, version, distributions()), sys.stdout, indent=2, ensure_ascii=False)
    print()  # noqa: T201 - a program of its own, run inside the image


if __name__ == "__main__":
    main()
