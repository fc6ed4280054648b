"""What an environment is, where nobody says otherwise. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Defaults", "defaults_of"]


@dataclass(frozen=True, slots=True)
class Defaults:
    """The defaults of one environment. Quantities are Kubernetes's.

    Attributes:
        replicas: of a team.
        autoscaling: whether there are more when there is more to do.
        log_level: of the process.
        egress: the mode.
        cpu: request and limit.
        memory: request and limit, at least.
        ephemeral: disk, request and limit.
        drain_cap: seconds that runs may delay a pod's end, at most.
    """

    replicas: int
    autoscaling: bool
    log_level: Literal["debug", "info"]
    egress: Literal["open", "proxy"]
    cpu: tuple[str, str]
    memory: tuple[str, str]
    ephemeral: tuple[str, str]
    drain_cap: int


_DEV: Final = Defaults(1, False, "debug", "open", ("25m", "1"), ("256Mi", "768Mi"), ("64Mi", "1Gi"), 30)
_STAGING: Final = Defaults(1, False, "info", "open", ("50m", "1"), ("256Mi", "768Mi"), ("64Mi", "1Gi"), 300)
_PROD: Final = Defaults(2, True, "info", "proxy", ("250m", "1"), ("512Mi", "1Gi"), ("256Mi", "2Gi"), 300)


def defaults_of(environment: str) -> Defaults:
    """The defaults of dev, of prod, or of any other: that is like staging."""
    return {"dev": _DEV, "prod": _PROD}.get(environment, _STAGING)
