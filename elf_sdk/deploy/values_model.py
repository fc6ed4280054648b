"""The values of a team's chart: one model, from which come values.schema.json and the table in the chart's README.

Names are camelCase in files, as Helm's are. Every field is always written, so that a value is overridden and never
has to be removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from elf_sdk.deploy.network_model import EdgesValues, NetworkPolicyValues, WorkloadTokens

__all__ = ["Values", "describe_values", "values_schema"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
SecretName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253)
]
SecretKey = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=253)]
Repository = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9._/:]*[a-z0-9])?$", max_length=255)]
# Lengths stand beside the patterns: Helm compiles them for every render, and unrolls a counted repetition.
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][-A-Za-z0-9_.]*$", max_length=128)]
Digest = Annotated[str, StringConstraints(pattern=r"^(sha256:[0-9a-f]+)?$", max_length=71)]


class _Values(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
    )


class Team(_Values):
    """What the team is; from team.yaml."""

    name: Annotated[Name, Field(max_length=45)]
    """Its Deployment, Service and ServiceAccount, and the label `app`."""
    display_name: str
    """For people; an annotation."""
    purpose: str
    """For people; an annotation."""
    version: Annotated[str, Field(max_length=64)]
    placement: str
    framework: str


class ContainerImage(_Values):
    """The container image."""

    repository: Repository
    """With the registry, without tag and digest."""
    tag: Tag
    """Used where there is no digest."""
    digest: Digest
    """`sha256:…`, from images.lock.yaml; empty for none."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"]
    pull_secrets: tuple[SecretName, ...]


class ProcessSettings(_Values):
    """Settings of the team's process, in its ConfigMap as `ELF_…`."""

    log_level: Literal["debug", "info", "warning", "error"]
    store: str
    """The SQLite file."""
    team_url: str
    """How other teams are reached, with `{team}` in it."""


class Variable(_Values):
    """A variable of the team's process, in its ConfigMap."""

    name: VariableName
    value: Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


class SecretValue(_Values):
    """A value from a Secret; the Secret is named here, and never its value."""

    name: VariableName
    """`file` sets NAME_FILE to the path of a file, `variable` sets NAME."""
    secret: SecretName
    key: SecretKey
    mount: Literal["file", "variable"]
    optional: bool
    """Whether the pod starts without it."""


class Store(_Values):
    """Where runs are kept."""

    kind: Literal["postgres", "ephemeral"]
    """`ephemeral` is the pod's own disk: one replica, lost with the pod."""


Quantities = dict[Literal["cpu", "memory", "ephemeral-storage"], Quantity]


class ResourceRequirements(_Values):
    """Resources of one replica, as Kubernetes writes them: cpu, memory, ephemeral-storage."""

    requests: Quantities
    limits: Quantities


class Probe(_Values):
    """The timing of a probe."""

    period_seconds: Seconds
    timeout_seconds: Seconds
    failure_threshold: Annotated[int, Field(ge=1)]


class Probes(_Values):
    """`/startupz`, `/livez` and `/readyz`: started once, alive, ready for requests."""

    startup: Probe
    liveness: Probe
    readiness: Probe


class Drain(_Values):
    """How a pod ends."""

    pre_stop_seconds: Seconds
    """It still answers for this long, until all endpoints have forgotten it."""
    grace_period_seconds: Seconds
    """For all of it: preStop, and the runs that have to finish."""


class Volumes(_Values):
    """The two places that can be written; both are lost with the pod."""

    data_size: Quantity
    """/data, which is also HOME."""
    tmp_size: Quantity
    """/tmp."""  # noqa: S108 - the mount path in the pod


class ServiceValues(_Values):
    """The Service."""

    app_protocol: str
    """A hint for gateways, such as `kubernetes.io/ws`; empty for none."""


class DisruptionBudget(_Values):
    """The PodDisruptionBudget, which exists only with two replicas or more."""

    enabled: bool
    max_unavailable: Annotated[int, Field(ge=1)]


class Values(_Values):
    """All values of a team's chart."""

    team: Team
    organisation: Name
    environment: Name
    namespace: Name
    """Where every object goes, whatever namespace Helm was told."""
    image: ContainerImage
    replicas: Annotated[int, Field(ge=0, le=1000)]
    settings: ProcessSettings
    env: tuple[Variable, ...]
    """The team's own variables; a list is replaced whole by another values file."""
    secrets: tuple[SecretValue, ...]
    store: Store
    resources: ResourceRequirements
    probes: Probes
    drain: Drain
    volumes: Volumes
    service: ServiceValues
    priority_class_name: SecretName | Literal[""]
    pod_disruption_budget: DisruptionBudget
    edges: EdgesValues
    workload_tokens: WorkloadTokens
    network_policy: NetworkPolicyValues

    @model_validator(mode="after")
    def _one_replica(self) -> Self:
        if self.store.kind == "ephemeral" and self.replicas > 1:
            raise ValueError(
                f"replicas is {self.replicas}, but an ephemeral store is the pod's own disk; "
                "write replicas: 1, or runs: {store: default}"
            )
        return self


_EPHEMERAL_IS_ONE: Final[dict[str, Any]] = {
    "if": {"properties": {"store": {"properties": {"kind": {"const": "ephemeral"}}}}},
    "then": {"properties": {"replicas": {"maximum": 1}}},
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
