"""Health, as probes and people see it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from elf_sdk.team.spec import TeamSpec

__all__ = ["Health", "report"]

Status = Literal["ok", "degraded", "failing"]


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a team.

    Attributes:
        status: `degraded` still serves; `failing` takes the team out of service.
        detail: name of a check to what it found; never a secret.
    """

    status: Status = "ok"
    detail: Mapping[str, str] = field(default_factory=dict)

    def merged(self, other: Health) -> Health:
        """The worse status of both, and the details of both."""
        order: tuple[Status, ...] = ("ok", "degraded", "failing")
        worse = max(self.status, other.status, key=order.index)
        return Health(worse, {**self.detail, **other.detail})


def report(
    spec: TeamSpec, health: Health, *, now: datetime, chat_enabled: bool, image: str, full: bool
) -> dict[str, Any]:
    """The body of `/health`.

    Args:
        spec: the team.
        health: what the checks found.
        now: aware.
        chat_enabled: whether the chat is really mounted.
        image: digest of the container image that serves; empty where it is not known.
        full: whether the caller may see more than the public part.
    """
    body: dict[str, Any] = {
        "status": health.status,
        "team_name": spec.name,
        "chat_enabled": chat_enabled,
        "timestamp": now.isoformat(),
    }
    if full:
        body |= {
            "framework": spec.framework,
            "department": spec.department,
            "placement": spec.placement,
            "agents": [member.role for member in spec.members],
            "version": spec.version,
            "checks": dict(health.detail),
        }
        if image:
            body["image"] = image
    return body
