"""Every Helm renders the same objects from the same charts, and refuses the same values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from elf_sdk.deploy.chart import chart_tree, load_templates
from elf_sdk.deploy.helm import CommandLineHelm, EmbeddedHelm, Helm, Release
from elf_sdk.deploy.kubernetes import parse_manifests
from elf_sdk.deploy.team_chart import TeamChart, TeamCharts
from elf_sdk.errors import Failure
from elf_sdk.files import write_tree
from elf_sdk.team.project import find_project
from tests.deploy.hostile import HOSTILE
from tests.deploy.organisations import Object, spec, values_of
from tests.deploy.test_render import EVERYTHING

ROOT = Path(__file__).parents[2]
PROJECT = find_project(ROOT)


def rendered(
    helm: Helm, directory: Path, tree: Mapping[str, bytes], namespaces: Mapping[str, str]
) -> list[list[Object]]:
    write_tree(directory / "chart", tree)
    releases = [
        Release("brand-team", namespace, directory / "chart" / f"values-{name}.yaml")
        for name, namespace in namespaces.items()
    ]
    results = helm.render_each(directory / "chart", releases)
    assert not [each for each in results if isinstance(each, Failure)]
    # `helm template` sorts by kind, as an installation would need it; a cluster takes them in any order.
    return [sorted(parse_manifests(str(each)), key=lambda it: (it["kind"], it["metadata"]["name"])) for each in results]


def example(name: str) -> TeamChart:
    (team,) = PROJECT.select([name])
    return TeamCharts(PROJECT).chart(team)


def everything() -> tuple[dict[str, bytes], dict[str, str]]:
    """A team that uses every field, hostile texts among them."""
    team = spec(**EVERYTHING)
    values = {name: values_of(team, name) for name in ("dev", "staging", "prod")}
    for number, own in enumerate(values.values()):
        texts = HOSTILE[number::3]
        own["env"] += [{"name": f"V{index}", "value": text} for index, text in enumerate(texts)]
        own["team"] |= {"displayName": texts[0], "purpose": "\n".join(texts)}
    return chart_tree(team, values, load_templates()), {name: own["namespace"] for name, own in values.items()}


@pytest.mark.parametrize("name", [team.spec.name for team in PROJECT.teams])
def test_an_example_is_the_same_objects(
    name: str, embedded: EmbeddedHelm, command_line: CommandLineHelm, tmp_path: Path
) -> None:
    chart = example(name)
    assert rendered(embedded, tmp_path / "a", chart.tree, chart.namespaces) == rendered(
        command_line, tmp_path / "b", chart.tree, chart.namespaces
    )


def test_a_chart_that_uses_every_field_is_the_same_objects(
    embedded: EmbeddedHelm, command_line: CommandLineHelm, tmp_path: Path
) -> None:
    tree, namespaces = everything()
    assert rendered(embedded, tmp_path / "a", tree, namespaces) == rendered(
        command_line, tmp_path / "b", tree, namespaces
    )


def test_two_readers_of_yaml_see_the_same_objects(embedded: EmbeddedHelm, tmp_path: Path) -> None:
    charts = [(chart.tree, chart.namespaces) for chart in map(example, [team.spec.name for team in PROJECT.teams])]
    for number, (tree, namespaces) in enumerate([everything(), *charts]):
        directory = tmp_path / str(number)
        write_tree(directory, tree)
        releases = [Release("a", ns, directory / f"values-{name}.yaml") for name, ns in namespaces.items()]
        for text in embedded.render_each(directory, releases):
            assert embedded.objects(str(text)) == parse_manifests(str(text))


WRONG: list[dict[str, Any]] = [
    {"replicas": "2"},
    {"replicas": 1001},
    {"replicas": 1.5},
    {"surprise": 1},
    {"team": {"surprise": 1}},
    {"team": {"name": "A"}},
    {"team": {"name": "a" * 46}},
    {"team": {"name": "a\n"}},
    {"namespace": "a_b"},
    {"image": {"digest": "latest"}},
    {"image": {"digest": "sha256:" + "g" * 64}},
    {"image": {"pullPolicy": "Sometimes"}},
    {"env": [{"name": "not a name", "value": ""}]},
    {"env": [{"name": "A"}]},
    {"env": [{"name": "A", "value": "\0"}]},
    {"env": {"A": "b"}},
    {"resources": {"limits": {"cpu": "1 core"}}},
    {"resources": {"limits": {"gpu": "1"}}},
    {"probes": {"startup": {"periodSeconds": 0}}},
    {"store": {"kind": "ephemeral"}, "replicas": 2},
    {"networkPolicy": {"egress": {"surprise": 1}}},
    {"networkPolicy": {"egress": {"cidrs": ["10.0.0.0"]}}},
]
RIGHT: list[dict[str, Any]] = [
    {},
    {"replicas": 0},
    {"replicas": 2.0},
    {"global": {"region": "eu"}},
    {"team": {"purpose": "ü 漢字 😀\n"}},
    {"env": [{"name": "A", "value": "no"}]},
    {"resources": {"limits": {"cpu": "0.5"}}},
]


def said(helm: Helm, chart: Path, values: list[dict[str, Any]]) -> list[bool]:
    """Whether each of `values` is taken; the first of a chart, which Helm lints, and then as one of others."""
    releases = []
    for number, each in enumerate([{}, *values]):
        file = chart / f"values-{number}.yaml"
        file.write_text(json.dumps(each, ensure_ascii=False), encoding="utf-8")
        releases.append(Release("brand-team", "x", file))
    _, *others = helm.render_each(chart, releases)
    return [not isinstance(each, Failure) for each in others]


def test_helm_itself_and_the_compiled_schema_take_and_refuse_the_same(any_helm: Helm, tmp_path: Path) -> None:
    team = spec()
    write_tree(tmp_path / "chart", chart_tree(team, {"prod": values_of(team)}, load_templates()))
    assert said(any_helm, tmp_path / "chart", WRONG + RIGHT) == [False] * len(WRONG) + [True] * len(RIGHT)


def test_the_embedded_helms_own_schema_check_says_the_same(tmp_path: Path) -> None:
    import helm_python

    team = spec()
    write_tree(tmp_path / "chart", chart_tree(team, {"prod": values_of(team)}, load_templates()))
    with helm_python.Chart.load(tmp_path / "chart") as chart:
        for values in RIGHT:
            chart.validate_schema(values)
        for values in WRONG:
            with pytest.raises(helm_python.HelmError):
                chart.validate_schema(values)
