"""Small organisations to package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import elf_sdk
from elf_sdk.deploy.chart import chart_tree, load_templates
from elf_sdk.deploy.helm import EmbeddedHelm, Helm
from elf_sdk.deploy.kubernetes import parse_manifests
from elf_sdk.deploy.values import team_values
from elf_sdk.files import write_tree
from elf_sdk.team.edges import Callee, Caller, Edges
from elf_sdk.team.organisation import Environment, Organisation
from elf_sdk.team.spec import TeamSpec

Object = dict[str, Any]

TEAMS: dict[str, dict[str, Any]] = {
    "chief-team": {"manages": ["brand-team", "data-team"], "placement": "executive"},
    "brand-team": {"reports_to": "chief-team", "peers": ["data-team"], "placement": "brand"},
    "data-team": {"reports_to": "chief-team", "peers": ["brand-team"], "placement": "data"},
}


def write_project(
    root: Path, teams: Mapping[str, Mapping[str, Any]] = TEAMS, organisation: Mapping[str, Any] | None = None
) -> Path:
    """A project whose files are JSON, which is YAML."""
    for name, fields in teams.items():
        data = {"name": name, "members": [{"role": "lead", "is_manager": True}], **fields}
        file = root / "teams" / name / "team.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(data), encoding="utf-8")
    if organisation is not None:
        (root / "elf.yaml").write_text(json.dumps(organisation), encoding="utf-8")
    return root


def spec(**fields: Any) -> TeamSpec:
    return TeamSpec.model_validate({"name": "brand-team", "members": [{"role": "lead", "is_manager": True}], **fields})


def environment(name: str, organisation: Organisation | None = None) -> Environment:
    return next(each for each in (organisation or Organisation()).environments if each.name == name)


def values_of(team: TeamSpec, name: str = "prod", edges: Edges | None = None, digest: str = "") -> dict[str, Any]:
    return team_values(team, Organisation(), environment(name), edges or Edges(team.name), digest)


def render(
    directory: Path, team: TeamSpec, values: Mapping[str, Any], helm: Helm | None = None, name: str = "prod"
) -> dict[str, Object]:
    """The objects of a chart with these values, by kind; those of `helm test` by kind and name, as are further ones."""
    chart = directory / "chart"
    write_tree(chart, chart_tree(team, {name: values}, load_templates()))
    text = (helm or EmbeddedHelm()).render(
        chart, chart / f"values-{name}.yaml", release=team.name, namespace="elf-teams"
    )
    found: dict[str, Object] = {}
    for each in parse_manifests(text):
        kind, named = str(each["kind"]), str(each["metadata"]["name"])
        found[f"{kind}/{named}" if kind in found or named.endswith("-test") else kind] = each
    return found


def neighbours(
    team: TeamSpec, name: str = "prod", *, callers: Sequence[str] = (), callees: Sequence[str] = (), **spaces: str
) -> Edges:
    """Peers of a team; those in a namespace of their own are in `spaces`, with underscores for dashes."""

    def space(peer: str) -> str:
        return spaces.get(peer.replace("-", "_"), environment(name).namespace_name)

    return Edges(
        team.name,
        tuple(Caller(peer, space(peer), "peers") for peer in callers),
        tuple(
            Callee(
                peer, space(peer), "peers", f"http://{peer}.{space(peer)}.svc:8000", f"elf:elf:{name}:{peer}", peer, ""
            )
            for peer in callees
        ),
    )


def elf(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """The real command line, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "elf_sdk", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(elf_sdk.__file__).parents[1]), **environ},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
