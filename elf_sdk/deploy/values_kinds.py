"""The kinds of text and number that values hold, as patterns of their JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

__all__ = [
    "Cidr",
    "Digest",
    "Host",
    "Interval",
    "KubernetesObject",
    "Labels",
    "Name",
    "Port",
    "Quantity",
    "Repository",
    "Seconds",
    "SecretKey",
    "SecretName",
    "Tag",
    "ValuesModel",
    "VariableName",
]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
Cidr = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
SecretName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253)
]
SecretKey = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=253)]
Repository = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9._/:]*[a-z0-9])?$", max_length=255)]
# Lengths stand beside the patterns: Helm compiles them for every render, and unrolls a counted repetition.
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][-A-Za-z0-9_.]*$", max_length=128)]
Host = Annotated[str, StringConstraints(pattern=r"^(\*\.)?[a-z0-9.-]*$", max_length=253)]
Labels = dict[str, str]
"""Labels or annotations; whether Kubernetes takes them is checked where they are rendered."""

KubernetesObject = dict[str, Any]
"""Part of an object as Kubernetes writes it; what it says is checked where it is rendered."""
Interval = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*(ms|s|m|h|d)$", max_length=8)]
Digest = Annotated[str, StringConstraints(pattern=r"^(sha256:[0-9a-f]+)?$", max_length=71)]


class ValuesModel(BaseModel):
    """A group of values: frozen, camelCase in files, without keys that it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
    )
