from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from elf_sdk.deploy.chart import chart_tree, load_templates
from elf_sdk.deploy.helm import EmbeddedHelm, Helm
from elf_sdk.deploy.images import read_digests
from elf_sdk.deploy.values import layered, shortcomings, team_values
from elf_sdk.deploy.values_model import describe_values, values_schema
from elf_sdk.errors import BadInput, BadSpec, Failure
from elf_sdk.files import write_tree
from elf_sdk.team.edges import Edges
from elf_sdk.team.organisation import Organisation
from tests.deploy.organisations import environment, spec, values_of


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """What Helm makes of a values file over the chart's own."""
    return {
        key: merged(value, over[key]) if isinstance(value, dict) and key in over else over.get(key, value)
        for key, value in base.items()
    }


def test_the_common_file_and_an_environments_own_give_its_values_again() -> None:
    team = spec(environments={"prod": {"replicas": 5, "env": [{"name": "A", "value": "1"}]}})
    complete = {name: values_of(team, name) for name in ("dev", "staging", "prod")}
    common, own = layered(complete)
    for name, values in complete.items():
        assert merged(common, own[name]) == values


def test_an_environments_file_holds_only_what_differs() -> None:
    team = spec()
    _, own = layered({name: values_of(team, name) for name in ("dev", "staging", "prod")})
    assert "team" not in own["prod"]
    assert "probes" not in own["prod"]
    assert own["prod"]["replicas"] == 2
    assert layered({"dev": values_of(team, "dev")})[1] == {"dev": {}}


def test_what_an_environment_leaves_out_of_a_mapping_is_not_there(tmp_path: Path, any_helm: Helm) -> None:
    given = {"dev": {"one": "1", "two": "2"}, "staging": {"three": "3"}, "prod": {"one": "1"}}
    team = spec(environments={name: {"pod": {"annotations": each}} for name, each in given.items()})
    write_tree(tmp_path / "c", chart_tree(team, {name: values_of(team, name) for name in given}, load_templates()))
    for name, wanted in given.items():
        text = any_helm.render(tmp_path / "c", tmp_path / f"c/values-{name}.yaml", release="x", namespace="x")
        (pod,) = [each["spec"]["template"] for each in yaml.safe_load_all(text) if each["kind"] == "Deployment"]
        annotations = pod["metadata"]["annotations"]
        assert {key: value for key, value in annotations.items() if key in ("one", "two", "three")} == wanted


def test_the_chart_also_renders_without_an_environments_file(tmp_path: Path, embedded: EmbeddedHelm) -> None:
    team = spec()
    write_tree(tmp_path / "c", chart_tree(team, {n: values_of(team, n) for n in ("dev", "prod")}, load_templates()))
    (tmp_path / "none.yaml").write_text("{}\n")
    text = embedded.render(tmp_path / "c", tmp_path / "none.yaml", release="x", namespace="x")
    assert {each["metadata"]["namespace"] for each in yaml.safe_load_all(text)} == {"elf-teams-dev"}


def test_overrides_of_an_environment_stay_in_it() -> None:
    team = spec(
        replicas=3,
        resources={"memory_request": "2Gi"},
        environments={"prod": {"namespace": "vip", "replicas": 7, "llm": {"provider": "anthropic", "model": "claude"}}},
    )
    prod, staging = values_of(team, "prod"), values_of(team, "staging")
    assert (prod["replicas"], prod["namespace"]) == (7, "vip")
    assert (staging["replicas"], staging["namespace"]) == (3, "elf-teams-staging")
    assert "ANTHROPIC_API_KEY" in [secret["name"] for secret in prod["secrets"]]
    assert "ANTHROPIC_API_KEY" not in [secret["name"] for secret in staging["secrets"]]
    # A limit below its request would be refused by Kubernetes.
    assert staging["resources"]["limits"]["memory"] == "2Gi"


def test_two_replicas_of_dev_share_a_database() -> None:
    assert values_of(spec(), "dev")["store"] == {"kind": "ephemeral"}
    assert values_of(spec(replicas=2), "dev")["store"] == {"kind": "postgres"}


def test_an_ephemeral_store_with_two_replicas_is_refused_with_the_remedy() -> None:
    with pytest.raises(BadInput, match=r"brand-team in prod: .*replicas: 1"):
        values_of(spec(runs={"store": "ephemeral"}))


def test_a_way_out_that_is_closed_is_said_where_it_is_needed() -> None:
    needy = spec(llm={"provider": "openai", "model": "x"}, mcp=[{"name": "crm", "url": "https://crm.example.com"}])

    def said(team: Any, name: str) -> list[str]:
        return list(shortcomings(team, Organisation(), environment(name), Edges(team.name)))

    (sentence,) = said(needy, "prod")
    assert "brand-team in prod" in sentence
    assert "openai" in sentence
    assert "crm" in sentence
    assert said(needy, "dev") == []
    assert said(spec(), "prod") == []


def test_a_digest_without_a_registry_is_said() -> None:
    def said(team: Any, registry: str = "", digest: str = f"sha256:{'a' * 64}") -> list[str]:
        return list(shortcomings(team, Organisation(registry=registry), environment("dev"), Edges(team.name), digest))

    (sentence,) = said(spec())
    assert "brand-team in dev: the image goes by digest and is in no registry" in sentence
    assert said(spec(), registry="registry.example.com/agents") == []
    assert said(spec(image={"registry": "registry.example.com"})) == []
    assert said(spec(), digest="") == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("surprise",), 1),
        (("team", "surprise"), 1),
        (("networkPolicy", "egress", "surprise"), 1),
        (("replicas",), "2"),
        (("image", "digest"), "latest"),
        (("env",), [{"name": "not a name", "value": ""}]),
        (("image", "pullPolicy"), "Sometimes"),
    ],
)
def test_helm_refuses_values_that_the_schema_does_not_know(
    path: tuple[str, ...], value: object, tmp_path: Path, embedded: EmbeddedHelm
) -> None:
    team = spec()
    write_tree(tmp_path / "c", chart_tree(team, {"prod": values_of(team)}, load_templates()))
    over: Any = value
    for part in reversed(path):
        over = {part: over}
    (tmp_path / "over.yaml").write_text(json.dumps(over))
    with pytest.raises(Failure, match=path[-1] if path[-1] != "env" else "name"):
        embedded.render(tmp_path / "c", tmp_path / "over.yaml", release="x", namespace="x")


def test_the_schema_allows_global_and_the_librarys_key(tmp_path: Path, embedded: EmbeddedHelm) -> None:
    team = spec()
    write_tree(tmp_path / "c", chart_tree(team, {"prod": values_of(team)}, load_templates()))
    (tmp_path / "over.yaml").write_text('{"global": {"region": "eu"}, "elf-team": {}}')
    assert embedded.render(tmp_path / "c", tmp_path / "over.yaml", release="x", namespace="x")


def test_the_schema_holds_an_ephemeral_store_to_one_replica() -> None:
    schema = jsonschema_rs.Draft202012Validator(values_schema())
    dev = values_of(spec(), "dev")
    assert schema.is_valid(dev)
    assert not schema.is_valid({**dev, "replicas": 2})
    assert schema.is_valid(values_of(spec()))


def test_every_value_is_described_and_no_other() -> None:
    described = {path.replace("[]", "") for path, _, _ in describe_values()}

    def paths(node: object, prefix: str = "") -> set[str]:
        if isinstance(node, dict):
            own = {f"{prefix}{key}" for key in node}
            return own.union(*(paths(value, f"{prefix}{key}.") for key, value in node.items()), set())
        return set()

    free = ("resources.requests.", "resources.limits.", "networkPolicy.egress.cilium.dns.labels.")
    assert {path for path in paths(values_of(spec())) if not path.startswith(free)} <= described


def test_digests_come_from_the_lock_file(tmp_path: Path) -> None:
    digest = f"sha256:{'0' * 64}"
    assert read_digests(tmp_path, Organisation()) == {}
    (tmp_path / "images.lock.yaml").write_text(f"prod: {digest}\n")
    assert read_digests(tmp_path, Organisation()) == {"prod": digest}
    team = spec()
    assert values_of(team, digest=digest)["image"]["digest"] == digest


@pytest.mark.parametrize("content", ["qa: sha256:x\n", "prod: latest\n", "prod: 3\n", "- a\n", "a: [\n"])
def test_a_lock_file_that_is_wrong_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "images.lock.yaml").write_text(content)
    with pytest.raises(BadSpec, match=r"images\.lock\.yaml"):
        read_digests(tmp_path, Organisation())


def test_organisations_of_other_environments_get_the_middle_defaults() -> None:
    organisation = Organisation.model_validate({"environments": [{"name": "qa"}], "registry": "r.example.com/a/"})
    values = team_values(spec(), organisation, organisation.environments[0], Edges("brand-team"))
    assert values["namespace"] == "elf-teams-qa"
    assert values["image"]["repository"] == "r.example.com/a/brand-team"
    assert values["settings"]["logLevel"] == "info"
