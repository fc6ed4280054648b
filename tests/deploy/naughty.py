"""Texts through the whole way: team.yaml, `elf package`, Helm, and what a cluster would be given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from elf_sdk.deploy.encode import to_yaml
from elf_sdk.deploy.helm import EmbeddedHelm, Helm
from elf_sdk.deploy.kubernetes import parse_manifests
from tests.deploy.organisations import Object, elf, spec

FIELDS = ("display_name", "purpose", "role", "skill", "env")
"""Where people write free text."""


def fields(field: str, text: str) -> dict[str, Any]:
    """What a team.yaml says that has `text` in `field`."""
    found: dict[str, dict[str, Any]] = {
        "display_name": {"display_name": text},
        "purpose": {"purpose": text},
        "role": {"members": [{"role": text, "is_manager": True}]},
        "skill": {"skills": [{"id": "a", "name": text, "description": text}]},
        "env": {"env": [{"name": "TEXT", "value": text}]},
    }
    return found[field]


def refused(texts: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    """By field the texts that it does not take, with the reason."""
    found: dict[str, dict[str, str]] = {}
    for field in FIELDS:
        found[field] = {}
        for text in texts:
            try:
                spec(**fields(field, text))
            except ValidationError as error:
                found[field][text] = error.errors()[0]["msg"]
    return found


def packaged(
    root: Path, texts: Sequence[str], without: Mapping[str, Mapping[str, str]], helm: Helm | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Each text that any field takes, and what a cluster is given for it, by field.

    One team a text, in one environment, packaged by the real command; what its chart renders to is read by `helm`.
    """
    for number, text in enumerate(texts):
        data: dict[str, Any] = {"name": f"team-{number}", "members": [{"role": "lead", "is_manager": True}]}
        for field in FIELDS:
            if text not in without[field]:
                data |= fields(field, text)
        file = root / "teams" / data["name"] / "team.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(to_yaml(data), encoding="utf-8")
    (root / "elf.yaml").write_text("environments: [{name: dev}]\n", encoding="utf-8")
    done = elf("package", "--output", "out", cwd=root)
    assert done.returncode == 0, done.stderr
    engine = helm or EmbeddedHelm()
    for number, text in enumerate(texts):
        chart = root / "out" / f"team-{number}"
        rendered = engine.render(chart, chart / "values-dev.yaml", release=chart.name, namespace="x")
        taken = [field for field in FIELDS if text not in without[field]]
        # The first of its kind: of two ConfigMaps the one with the settings.
        yield text, _found({str(each["kind"]): each for each in reversed(parse_manifests(rendered))}, taken)


def _found(objects: Mapping[str, Object], taken: Sequence[str]) -> dict[str, str]:
    annotations = objects["Deployment"]["metadata"]["annotations"]
    where = {
        "purpose": annotations["elf-sdk/purpose"],
        "env": objects["ConfigMap"]["data"].get("TEXT"),
        "display_name": annotations["elf-sdk/display-name"],
    }
    # A team without a name to show is shown by its own.
    unnamed = where["display_name"] == objects["Deployment"]["metadata"]["name"]
    return {
        field: "" if field == "display_name" and unnamed else value for field, value in where.items() if field in taken
    }
