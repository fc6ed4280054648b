"""The agent card: what a team tells the world about itself (A2A 1.0, section 4.4.1)."""

from __future__ import annotations

from typing import Final

from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentExtension,
    AgentInterface,
    AgentSkill,
    HTTPAuthSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)
from a2a.utils.constants import PROTOCOL_VERSION_0_3, PROTOCOL_VERSION_1_0, TransportProtocol

from elf_sdk.runs.adapter import AdapterCapabilities
from elf_sdk.team.spec import TeamSpec
from elf_sdk.team.work import Skill

__all__ = ["A2A_PATH", "IDEMPOTENT_MESSAGE_ID", "agent_card", "interfaces"]

A2A_PATH: Final = "/a2a/v1"
"""Where both bindings live, below the team's base URL: JSON-RPC at the path itself, HTTP+JSON below it."""

IDEMPOTENT_MESSAGE_ID: Final = "urn:elf:a2a:idempotent-message-id:v1"
"""Extension: sending a message again with the same messageId and content gives the same task, and starts nothing."""

_SCHEME: Final = "bearer"


def agent_card(spec: TeamSpec, capabilities: AdapterCapabilities, base_url: str) -> AgentCard:
    """The card of a team that is served at `base_url` (no slash at the end)."""
    url = f"{base_url}{A2A_PATH}"
    return AgentCard(
        name=spec.title,
        description=spec.purpose or spec.title,
        version=spec.version,
        supported_interfaces=[
            AgentInterface(url=url, protocol_binding=binding, protocol_version=version)
            for binding, version in (
                (TransportProtocol.JSONRPC.value, PROTOCOL_VERSION_1_0),
                (TransportProtocol.HTTP_JSON.value, PROTOCOL_VERSION_1_0),
                (TransportProtocol.JSONRPC.value, PROTOCOL_VERSION_0_3),
            )
        ],
        capabilities=AgentCapabilities(
            streaming=capabilities.stream,
            push_notifications=False,
            extended_agent_card=False,
            extensions=[
                AgentExtension(
                    uri=IDEMPOTENT_MESSAGE_ID,
                    description="A message that is sent again with the same messageId gives the same task.",
                )
            ],
        ),
        security_schemes={
            _SCHEME: SecurityScheme(
                http_auth_security_scheme=HTTPAuthSecurityScheme(scheme="Bearer", bearer_format="JWT")
            )
        },
        security_requirements=[SecurityRequirement(schemes={_SCHEME: StringList()})],
        default_input_modes=["text/plain", "application/json"],
        default_output_modes=["text/plain", "application/json"],
        skills=[_skill(skill) for skill in spec.skills] or [_purpose(spec)],
    )


def interfaces(card: AgentCard) -> tuple[dict[str, str], ...]:
    """URL, binding and protocol version of each interface of a card, as plain values."""
    return tuple(
        {
            "url": interface.url,
            "protocol_binding": interface.protocol_binding,
            "protocol_version": interface.protocol_version,
        }
        for interface in card.supported_interfaces
    )


def _skill(skill: Skill) -> AgentSkill:
    return AgentSkill(
        id=skill.id,
        name=skill.name,
        description=skill.description or skill.name,
        # The specification wants at least one tag.
        tags=skill.tags or (skill.id,),
        examples=skill.examples,
    )


def _purpose(spec: TeamSpec) -> AgentSkill:
    """The one skill of a team that names none: what it is for."""
    return AgentSkill(id=spec.name, name=spec.title, description=spec.purpose or spec.title, tags=(spec.department,))
