"""Static checkers find nothing in what the example organisation renders, in any environment, that is not explained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from elf_sdk.deploy.chart import chart_tree, load_templates
from elf_sdk.deploy.helm import EmbeddedHelm
from elf_sdk.deploy.values import team_values
from elf_sdk.files import write_tree
from elf_sdk.team.edges import compile_edges
from elf_sdk.team.project import find_project
from tests.deploy.checkers import CHECKERS, Exemption, Finding, exemptions, program, sifted
from tests.deploy.organisations import render, spec
from tests.deploy.test_lint_values import lint_values

ROOT = Path(__file__).parents[2]
DIGEST = f"sha256:{'0' * 63}1"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the example organisation and the file with every option render, in a directory for each environment."""
    root, helm, templates = tmp_path_factory.mktemp("rendered"), EmbeddedHelm(), load_templates()
    project = find_project(ROOT)
    for team in project.teams:
        for environment in project.organisation.environments:
            edges = compile_edges(project.org, project.organisation, environment, team.spec.name)
            values = team_values(team.spec, project.organisation, environment, edges, DIGEST)
            chart = root / "charts" / environment.name / team.spec.name
            write_tree(chart, chart_tree(team.spec, {environment.name: values}, templates))
            own = chart / f"values-{environment.name}.yaml"
            text = helm.render(chart, own, release=team.spec.name, namespace=values["namespace"])
            write_tree(root / "objects" / environment.name, {f"{team.spec.name}.yaml": text.encode()})
    values = lint_values()
    # A checker takes braces for a template, which it does not look into.
    values["team"]["displayName"], values["test"]["message"] = "Lint", "Say hello."
    objects = render(root / "lint", spec(name="lint-team"), values, name="staging")
    write_tree(root / "objects" / "lint", {"lint-team.yaml": yaml.safe_dump_all(objects.values()).encode()})
    return root / "objects"


@pytest.mark.parametrize("name", sorted(CHECKERS))
def test_a_checker_finds_nothing_that_is_not_explained(
    name: str, rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checker = program(name)
    if checker is None:
        pytest.skip(f"there is no {name} here; scripts/checkers installs it")
    found = list(CHECKERS[name](checker, rendered))
    known = exemptions()
    unexplained, covered = sifted(found, known)
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {len(unexplained)} findings, and {len(found) - len(unexplained)} that stand\n")
        for (exemption, check), number in covered.items():
            sys.stdout.write(f"  {number:3} {check}: {exemption.because}\n")
    assert unexplained == []
    wanted = {(each, check) for each in known for check in each.checks if check.startswith(f"{name} ")}
    assert wanted == set(covered), "an exception that covers nothing any more has to go"


def test_a_finding_is_covered_by_its_check_on_its_objects_only() -> None:
    known = [Exemption(("x A",), ("dev/Pod/*",), "so it is")]
    covered = Finding("x A", "dev/Pod/a-test", "")
    others = [Finding("x B", "dev/Pod/a-test", ""), Finding("x A", "prod/Pod/a-test", "")]
    assert sifted([covered, *others], known) == (others, {(known[0], "x A"): 1})
