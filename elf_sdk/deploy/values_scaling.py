"""Values of how many pods there are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from elf_sdk.deploy.values_kinds import KubernetesObject, ValuesModel

__all__ = ["Autoscaling", "DisruptionBudget"]

Replicas = Annotated[int, Field(ge=1, le=1000)]


class Keda(ValuesModel):
    """What KEDA looks at beside the processor's use."""

    prometheus: str
    """Address of a Prometheus that counts the team's runs; empty for none."""
    runs_per_replica: Annotated[int, Field(ge=1)]
    """Runs that work or wait, for each replica."""
    triggers: tuple[KubernetesObject, ...]
    """Further triggers, as KEDA writes them."""


class Autoscaling(ValuesModel):
    """The HorizontalPodAutoscaler, or KEDA's ScaledObject. With either of them `replicas` has no effect."""

    enabled: bool
    """Whether there is one."""
    kind: Literal["hpa", "keda"]
    """Which of them."""
    min_replicas: Replicas
    """It never goes below."""
    max_replicas: Replicas
    """It never goes above."""
    cpu_percent: Annotated[int, Field(ge=1, le=100)]
    """Average use of the requested processor time above which a replica is added."""
    scale_down_seconds: Annotated[int, Field(ge=0, le=3600)]
    """A replica is taken away only when it was not needed for this long."""
    keda: Keda


class DisruptionBudget(ValuesModel):
    """The PodDisruptionBudget, which exists only with two replicas or more."""

    enabled: bool
    """Whether there is one."""
    max_unavailable: Annotated[int, Field(ge=1)]
    """How many may be away at once for work on nodes."""
