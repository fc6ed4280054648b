"""The values of a team's chart: one model, from which come values.schema.json and the table in the chart's README.

Names are camelCase in files, as Helm's are. Every field is always written, so that a value is overridden and only a
key of a free mapping, such as an annotation, ever has to be removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, Field, StringConstraints, model_validator

from elf_sdk.deploy.network_model import EdgesValues, IssuerValues, NetworkPolicyValues, WorkloadTokens
from elf_sdk.deploy.values_access import ExternalSecrets, HttpRoute, Ingress, Monitoring, ServiceValues, Test
from elf_sdk.deploy.values_kinds import (
    Cidr,
    Digest,
    Name,
    Repository,
    SecretKey,
    SecretName,
    Tag,
    ValuesModel,
    VariableName,
)
from elf_sdk.deploy.values_pod import (
    Drain,
    Extra,
    Migration,
    Ports,
    Probes,
    ResourceRequirements,
    Scheduling,
    Store,
    Volumes,
)
from elf_sdk.deploy.values_scaling import Autoscaling, DisruptionBudget

__all__ = ["Values", "describe_values", "unset_values", "values_schema"]


class Team(ValuesModel):
    """What the team is; from team.yaml."""

    name: Annotated[Name, Field(max_length=45)]
    """Its Deployment, Service and ServiceAccount, and the label `app`."""
    display_name: str
    """For people; an annotation."""
    purpose: str
    """For people; an annotation."""
    version: Annotated[str, Field(max_length=64)]
    """Semantic version; a label."""
    placement: str
    """Its place in the organisation; an annotation."""
    framework: str
    """Its adapter; an annotation. With `crewai` comes a directory for CrewAI's files."""


class ContainerImage(ValuesModel):
    """The container image."""

    repository: Repository
    """With the registry, without tag and digest."""
    tag: Tag
    """Used where there is no digest."""
    digest: Digest
    """`sha256:…`, from images.lock.yaml; empty for none."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"]
    """When a node fetches it."""
    pull_secrets: tuple[SecretName, ...]
    """Secrets that open the registry."""


class ProcessSettings(ValuesModel):
    """Settings of the team's process, in its ConfigMap as `ELF_…`."""

    log_level: Literal["debug", "info", "warning", "error"]
    """From which level up logs are written."""
    store: str
    """The SQLite file."""
    team_url: str
    """How other teams are reached, with `{team}` in it."""
    public_url: str
    """The team's address as others see it; empty: as the request says."""
    trusted_proxies: tuple[Cidr, ...]
    """Networks whose forwarding headers are believed."""
    push_allow: tuple[str, ...]
    """What push notifications may go to although it is not public."""


class Variable(ValuesModel):
    """A variable of the team's process, in its ConfigMap."""

    name: VariableName
    """Its name."""
    value: Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
    """Its value, as it is: nothing in it is expanded."""


class SecretValue(ValuesModel):
    """A value from a Secret; the Secret is named here, and never its value."""

    name: VariableName
    """`file` sets NAME_FILE to the path of a file, `variable` sets NAME."""
    secret: SecretName
    """Name of the Secret."""
    key: SecretKey
    """Key in it."""
    mount: Literal["file", "variable"]
    """A file is read again when the Secret changes, where the process does so; a variable never."""
    optional: bool
    """Whether the pod starts without it."""


class Values(ValuesModel):
    """All values of a team's chart."""

    team: Team
    organisation: Name
    """The organisation, as it stands in tokens."""
    environment: Name
    """The environment, as it stands in tokens and in the database."""
    namespace: Name
    """Where every object goes, whatever namespace Helm was told."""
    image: ContainerImage
    replicas: Annotated[int, Field(ge=0, le=1000)]
    """How many there are, where no autoscaler decides."""
    settings: ProcessSettings
    env: tuple[Variable, ...]
    """A list is replaced whole by another values file."""
    secrets: tuple[SecretValue, ...]
    store: Store
    migration: Migration
    ports: Ports
    resources: ResourceRequirements
    probes: Probes
    drain: Drain
    volumes: Volumes
    scheduling: Scheduling
    extra: Extra
    autoscaling: Autoscaling
    pod_disruption_budget: DisruptionBudget
    service: ServiceValues
    ingress: Ingress
    http_route: HttpRoute
    monitoring: Monitoring
    external_secrets: ExternalSecrets
    test: Test
    edges: EdgesValues
    workload_tokens: WorkloadTokens
    issuer: IssuerValues
    network_policy: NetworkPolicyValues

    @model_validator(mode="after")
    def _one_replica(self) -> Self:
        if self.store.kind == "ephemeral" and (self.replicas > 1 or self.autoscaling.enabled):
            what = "autoscaling is on" if self.autoscaling.enabled else f"replicas is {self.replicas}"
            raise ValueError(
                f"{what}, but an ephemeral store is the pod's own disk; "
                "write replicas: 1 and no autoscaling, or runs: {store: default}"
            )
        return self


_EPHEMERAL_IS_ONE: Final[dict[str, Any]] = {
    "if": {"properties": {"store": {"properties": {"kind": {"const": "ephemeral"}}}}},
    "then": {
        "properties": {
            "replicas": {"maximum": 1},
            "autoscaling": {"properties": {"enabled": {"const": False}}},
        }
    },
}


def values_schema() -> dict[str, Any]:
    """The JSON Schema of a team's values: unknown keys are refused, `global` and the library's own key allowed."""
    schema = _without_titles(Values.model_json_schema(by_alias=True))
    assert isinstance(schema, dict)  # noqa: S101 - for the type checker: the root of a schema is an object
    properties = {
        **schema["properties"],
        "global": {"type": "object", "description": "Helm's own; not used."},
        "elf-team": {"type": "object", "description": "The library chart's own; not used."},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **{key: value for key, value in schema.items() if key != "$defs"},
        "properties": properties,
        **_EPHEMERAL_IS_ONE,
        "$defs": schema["$defs"],
    }


def _without_titles(node: object) -> object:
    # Titles repeat the names; Helm compiles this schema for every render.
    if isinstance(node, dict):
        return {k: _without_titles(v) for k, v in node.items() if not (k == "title" and isinstance(v, str))}
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    return node


def describe_values() -> Iterator[tuple[str, str, str]]:
    """Path, type and meaning of every value, in the order of the file."""
    yield from _describe(Values, "")


def unset_values(values: Mapping[str, Any]) -> Iterator[str]:
    """Paths of the values that `values` does not set, or sets to nothing that shows: empty text, an empty list, 0."""
    for path, _, _ in describe_values():
        if not any(found is False or found for found in _found(values, path.split("."))):
            yield path


def _found(node: Any, path: Sequence[str]) -> Iterator[Any]:
    """What is at `path`, once for each item of the lists on the way."""
    if not path:
        yield node
        return
    name = path[0].removesuffix("[]")
    if isinstance(node, Mapping) and name in node:
        for each in node[name] if path[0].endswith("[]") else (node[name],):
            yield from _found(each, path[1:])


def _describe(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    schema = model.model_json_schema(by_alias=True)
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        inner, suffix = _model_in(field.annotation)
        if inner is None:
            yield path, _type_name(schema["properties"][field.alias or name]), field.description or ""
            continue
        about = " ".join((inner.__doc__ or "").split())
        yield path + suffix, "list" if suffix else "object", field.description or about
        yield from _describe(inner, f"{path}{suffix}.")


def _model_in(annotation: object) -> tuple[type[BaseModel] | None, str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    for argument in get_args(annotation):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument, "[]"
    return None, ""


def _type_name(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "anyOf" in schema:
        return " or ".join(_type_name(option) for option in schema["anyOf"])
    kind = schema.get("type", "object")
    return {"array": "list", "boolean": "true or false"}.get(kind, str(kind))
