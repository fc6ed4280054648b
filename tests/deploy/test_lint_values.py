"""The values file that sets every option once: nothing is forgotten in it, all of it is valid, and all of it shows."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import jsonschema_rs
import pytest
import yaml

from elf_sdk.deploy.chart import chart_tree, load_templates, templates_directory
from elf_sdk.deploy.helm import Helm
from elf_sdk.deploy.kubernetes import ObjectSchemas, parse_manifests
from elf_sdk.deploy.values_model import Values, describe_values, unset_values, values_schema
from elf_sdk.files import write_tree
from tests.deploy.organisations import render, spec

FILE = templates_directory() / "lint-values.yaml"
WITHOUT_EFFECT = {
    "image.tag",  # there is a digest
    "issuer.jwksUrl",  # there is a ConfigMap
    "networkPolicy.egress.dns.what",  # for people
    "networkPolicy.egress.rules.what",
    "networkPolicy.ingress.clients.what",
    "replicas",  # the autoscaler's
    "workloadTokens.configMap.key",  # of other keys
    "workloadTokens.configMap.name",
}
"""Values that show nothing beside what else the file sets, with the reason."""

_OTHER_CHOICE = {"issuer": "api-server", "postgres": "ephemeral", "variable": "file"}

Place = tuple[str | int, ...]


def lint_values() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return values


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[helm_python.Chart]:
    """The chart of the file, without the schema, so that a value may be anything."""
    directory = tmp_path_factory.mktemp("lint") / "chart"
    tree = chart_tree(spec(name="lint-team"), {"staging": lint_values()}, load_templates())
    write_tree(directory, {path: content for path, content in tree.items() if path != "values.schema.json"})
    with helm_python.Chart.load(directory) as loaded:
        yield loaded


def test_the_file_sets_every_value() -> None:
    assert list(unset_values(lint_values())) == []


def test_what_it_forgets_is_listed() -> None:
    values = lint_values()
    del values["ports"]["grpc"]
    values["ingress"]["host"] = ""
    values["secrets"] = [{**each, "key": ""} for each in values["secrets"]]
    values["extra"]["volumes"] = []
    assert list(unset_values(values)) == ["secrets[].key", "ports.grpc", "extra.volumes", "ingress.host"]


def test_the_file_is_valid_and_renders_every_kind(tmp_path: Path) -> None:
    values = lint_values()
    Values.model_validate(values)
    assert jsonschema_rs.Draft202012Validator(values_schema()).is_valid(values)
    objects = render(tmp_path, spec(name="lint-team"), values, name="staging")
    assert {kind.partition("/")[0] for kind in objects} >= {
        "ConfigMap",
        "Deployment",
        "ExternalSecret",
        "HTTPRoute",
        "Ingress",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "ScaledObject",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
    }
    ObjectSchemas().check(list(objects.values()))
    assert {each["metadata"]["namespace"] for each in objects.values()} == {"elf-teams-lint"}


def test_every_engine_renders_the_same_of_every_option(
    any_helm: Helm, chart: helm_python.Chart, tmp_path: Path
) -> None:
    rendered = chart.render(lint_values(), name="lint-team", namespace="elf-teams-lint")
    objects = parse_manifests("\n---\n".join(rendered.values()))
    named = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    for each in render(tmp_path, spec(name="lint-team"), lint_values(), any_helm, name="staging").values():
        assert each == named.pop((each["kind"], each["metadata"]["name"]))
    assert named == {}


def places(node: Any, place: Place = ()) -> Iterator[Place]:
    """Every scalar of `node`."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from places(value, (*place, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from places(value, (*place, index))
    else:
        yield place


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if value in _OTHER_CHOICE:
        return _OTHER_CHOICE[value]
    if re.match("[0-9]", value):
        return ("2" if value[0] != "2" else "3") + value[1:]
    return value[:-1] + ("a" if value[-1] != "a" else "b")


def path_of(place: Place) -> str:
    return ".".join(str(part) for part in place if isinstance(part, str))


def test_every_value_shows_in_what_is_rendered(chart: helm_python.Chart) -> None:
    values = lint_values()

    def manifests(given: dict[str, Any]) -> dict[str, str]:
        return chart.render(given, name="lint-team", namespace="elf-teams-lint")

    plain = manifests(values)
    unseen = set()
    for place in places(values):
        other = copy.deepcopy(values)
        node: Any = other
        for part in place[:-1]:
            node = node[part]
        node[place[-1]] = changed(node[place[-1]])
        if manifests(other) == plain:
            unseen.add(path_of(place))
    assert unseen == WITHOUT_EFFECT


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        ("autoscaling.kind", "hpa", "HorizontalPodAutoscaler"),
        ("monitoring.kind", "PodMonitor", "PodMonitor"),
        ("autoscaling.enabled", False, ""),
        ("ingress.className", "traefik", ""),
        ("ingress.className", "haproxy", ""),
        ("scheduling.antiAffinity", "preferred", ""),
    ],
)
def test_every_choice_renders_valid_objects(path: str, value: object, kind: str, chart: helm_python.Chart) -> None:
    values = lint_values()
    group, name = path.split(".")
    values[group][name] = value
    rendered = chart.render(values, name="lint-team", namespace="elf-teams-lint")
    objects = parse_manifests("\n---\n".join(rendered.values()))
    ObjectSchemas().check(objects)
    assert not kind or kind in {each["kind"] for each in objects}


def test_what_is_switched_off_is_not_there(chart: helm_python.Chart) -> None:
    values = lint_values()
    for group in ("autoscaling", "externalSecrets", "httpRoute", "ingress", "monitoring", "networkPolicy", "test"):
        values[group]["enabled"] = False
    values["podDisruptionBudget"]["enabled"] = values["migration"]["enabled"] = False
    values["extra"]["initContainers"] = []
    rendered = chart.render(values, name="lint-team", namespace="elf-teams-lint")
    objects = parse_manifests("\n---\n".join(rendered.values()))
    assert {each["kind"] for each in objects} == {"ConfigMap", "Deployment", "Service", "ServiceAccount"}
    (deployment,) = [each for each in objects if each["kind"] == "Deployment"]
    assert deployment["spec"]["replicas"] == 3
    assert "initContainers" not in deployment["spec"]["template"]["spec"]


def test_every_value_says_what_it_means() -> None:
    silent = [path for path, _, meaning in describe_values() if not meaning]
    assert silent == []
