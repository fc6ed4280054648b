"""The charts of the example teams, by the command, and by a Helm that is not ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from elf_sdk.deploy.helm import CommandLineHelm, EmbeddedHelm
from elf_sdk.deploy.kubernetes import parse_manifests
from elf_sdk.errors import Missing
from tests.examples.support import ROOT, TEAMS, environment
from tests.helm import helm_programs

ENVIRONMENTS = ("dev", "staging", "prod")


def package(output: Path) -> None:
    command = [sys.executable, "-m", "elf_sdk", "package", "--output", str(output)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(output.parent), check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "4 charts in" in done.stdout


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("charts") / "out"
    package(output)
    return output


@pytest.fixture(scope="module")
def helm() -> str:
    """A Helm that is not ours, used without a line of ours between."""
    program = next(iter(helm_programs()), None)
    if program is None:
        pytest.skip("there is no helm on the PATH, and ELF_TEST_HELM names none")
    try:
        CommandLineHelm(Path(program))
    except Missing as missing:
        pytest.skip(str(missing))
    return program


def test_two_runs_give_identical_trees(charts: Path, tmp_path: Path) -> None:
    package(tmp_path / "again")
    assert {path.name for path in charts.iterdir()} >= set(TEAMS)
    different = subprocess.run(["diff", "-r", charts, tmp_path / "again"], check=False, capture_output=True, text=True)
    assert (different.returncode, different.stdout) == (0, "")


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("team", TEAMS)
def test_another_helm_gives_the_same_objects(charts: Path, helm: str, team: str, name: str) -> None:
    values = charts / team / f"values-{name}.yaml"
    command = [helm, "template", "x", str(charts / team), "-f", str(values), "--namespace", "elf-teams"]
    theirs = parse_manifests(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    ours = parse_manifests(EmbeddedHelm().render(charts / team, values, release="x", namespace="elf-teams"))
    assert len(ours) >= 5
    assert in_order(ours) == in_order(theirs)


def in_order(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(objects, key=lambda each: (each["kind"], each["metadata"]["name"]))
