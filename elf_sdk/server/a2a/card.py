"""The agent card: what a team tells the world about itself (A2A 1.0, section 4.4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from elf_sdk.runs.adapter import AdapterCapabilities
from elf_sdk.team.kinds import duration_seconds
from elf_sdk.team.spec import TeamSpec
from elf_sdk.team.work import Skill

__all__ = ["A2A_PATH", "CARD_PATH", "IDEMPOTENT_MESSAGE_ID", "TEAM", "agent_card", "extended_card", "interfaces"]

A2A_PATH: Final = "/a2a/v1"
"""Where both bindings live, below the team's base URL: JSON-RPC at the path itself, HTTP+JSON below it."""

CARD_PATH: Final = "/.well-known/agent-card.json"
"""Where the card is, below the team's base URL."""

IDEMPOTENT_MESSAGE_ID: Final = "urn:elf:a2a:idempotent-message-id:v1"
"""Extension: sending a message again with the same messageId and content gives the same task, and starts nothing."""

TEAM: Final = "urn:elf:a2a:team:v1"
"""Extension of the extended card: who is in the team, and what its limits are."""

_SCHEME: Final = "bearer"
_MODES: Final = ("text/plain", "application/json")


def agent_card(
    spec: TeamSpec,
    capabilities: AdapterCapabilities,
    base_url: str,
    *,
    others: Sequence[str] = (),
    compatible: bool = True,
    grpc_address: str = "",
    push: bool = False,
) -> dict[str, Any]:
    """The card of a team as JSON: that of 1.0.

    Args:
        spec: the team.
        capabilities: of its adapter.
        base_url: where it is served, without a slash at the end.
        others: the same for where else; what comes first is preferred.
        compatible: whether it also has the fields by which a client of 0.3 finds its way.
        grpc_address: `host:port` of its gRPC; empty where there is none.
        push: whether there are push notifications.
    """
    url = f"{base_url}{A2A_PATH}"
    bindings = [("JSONRPC", "1.0"), ("HTTP+JSON", "1.0"), *([("JSONRPC", "0.3")] if compatible else [])]
    served = [(f"{base}{A2A_PATH}", *binding) for base in (base_url, *others) for binding in bindings]
    if grpc_address:
        served.append((grpc_address, "GRPC", "1.0"))
    scheme = {"type": "http", "scheme": "Bearer", "bearerFormat": "JWT"}
    old = {
        "protocolVersion": "0.3",
        "preferredTransport": "JSONRPC",
        "supportsAuthenticatedExtendedCard": True,
        "url": url,
        "security": [{_SCHEME: []}],
    }
    return {
        "name": spec.title,
        "description": spec.purpose or spec.title,
        "version": spec.version,
        "supportedInterfaces": [
            {"url": where, "protocolBinding": binding, "protocolVersion": version} for where, binding, version in served
        ],
        "capabilities": {
            "streaming": capabilities.stream,
            "pushNotifications": push,
            "extendedAgentCard": True,
            "extensions": [
                {
                    "uri": IDEMPOTENT_MESSAGE_ID,
                    "description": "A message that is sent again with the same messageId gives the same task.",
                    "required": False,
                }
            ],
        },
        "securitySchemes": {
            _SCHEME: {
                "httpAuthSecurityScheme": {"scheme": "Bearer", "bearerFormat": "JWT"},
                **(scheme if compatible else {}),
            }
        },
        "securityRequirements": [{"schemes": {_SCHEME: {}}}],
        "defaultInputModes": list(_MODES),
        "defaultOutputModes": list(_MODES),
        "skills": [_skill(skill) for skill in spec.skills] or [_purpose(spec)],
        **(old if compatible else {}),
    }


def extended_card(card: dict[str, Any], spec: TeamSpec, capabilities: AdapterCapabilities) -> dict[str, Any]:
    """The card for those who may call (A2A 1.0, section 3.1.11): `card`, the public one, with the extension `TEAM`.

    Its params hold no secret, but what is nobody's business who does not work with the team: `name`, `framework`,
    `department` and `placement`; `members` with role, title, isManager, responsibilities and skills; `limits` with
    deadlineSeconds of a task, concurrentTasks and queuedTasks of a replica, and delegationDepth; and
    `adapter`, what cancelling, asking and taking over really do.
    """
    team = {
        "uri": TEAM,
        "description": "Who is in the team, and what its limits are.",
        "required": False,
        "params": {
            "name": spec.name,
            "framework": spec.framework,
            "department": spec.department,
            "placement": spec.placement,
            "members": [
                {
                    "role": member.role,
                    "title": member.title or "",
                    "isManager": member.is_manager,
                    "responsibilities": list(member.responsibilities),
                    "skills": list(member.skills),
                }
                for member in spec.members
            ],
            "limits": {
                "deadlineSeconds": duration_seconds(spec.runs.deadline),
                "concurrentTasks": spec.runs.concurrency,
                "queuedTasks": spec.runs.queue,
                "delegationDepth": spec.delegation.max_depth,
            },
            "adapter": {
                "human": capabilities.human,
                "cancel": capabilities.cancel,
                "recover": capabilities.recover,
            },
        },
    }
    about = card["capabilities"]
    return {**card, "capabilities": {**about, "extensions": [*about["extensions"], team]}}


def interfaces(card: dict[str, Any]) -> tuple[dict[str, str], ...]:
    """URL, binding and protocol version of each interface of a card."""
    return tuple(
        {
            "url": interface["url"],
            "protocol_binding": interface["protocolBinding"],
            "protocol_version": interface["protocolVersion"],
        }
        for interface in card["supportedInterfaces"]
    )


def _skill(skill: Skill) -> dict[str, Any]:
    examples = {"examples": list(skill.examples)} if skill.examples else {}
    return {
        "id": skill.id,
        "name": skill.name,
        "description": skill.description or skill.name,
        # The specification wants at least one tag.
        "tags": list(skill.tags) or [skill.id],
        **examples,
    }


def _purpose(spec: TeamSpec) -> dict[str, Any]:
    """The one skill of a team that names none: what it is for."""
    return {
        "id": spec.name,
        "name": spec.title,
        "description": spec.purpose or spec.title,
        "tags": [spec.department],
    }
