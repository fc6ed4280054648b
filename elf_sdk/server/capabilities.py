"""What a team can do, as `/capabilities` shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from elf_sdk.runs.adapter import AdapterCapabilities
from elf_sdk.server.chat.frames import SUBPROTOCOL
from elf_sdk.team.spec import TeamSpec

__all__ = ["CHAT_PATH", "CHAT_SCHEMA_PATH", "Capabilities", "describe"]

CHAT_PATH = "/chat"
CHAT_SCHEMA_PATH = "/chat/schema.json"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a team tells about itself. Hooks extend it with `dataclasses.replace`.

    Attributes:
        team_name: the team's name.
        purpose: what it is for.
        agents: role, title, is_manager, responsibilities and skills of each member.
        skills: as on the agent card.
        adapter: framework, and what its adapter really does: stream, human, cancel, recover.
        model: provider and model; `offline` says that answers are made up.
        limits: of chat and runs.
        interfaces: where to reach it: A2A addresses, and the chat when it is on.
        extra: whatever a team adds.
    """

    team_name: str
    purpose: str
    agents: tuple[Mapping[str, Any], ...]
    skills: tuple[Mapping[str, Any], ...]
    adapter: Mapping[str, Any]
    model: Mapping[str, Any]
    limits: Mapping[str, Any]
    interfaces: tuple[Mapping[str, Any], ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return asdict(self)


def describe(
    spec: TeamSpec,
    adapter: AdapterCapabilities,
    *,
    base_url: str,
    a2a: tuple[Mapping[str, Any], ...],
    chat_enabled: bool,
    query_token: bool,
) -> Capabilities:
    """What the spec and the adapter already say.

    Args:
        spec: the team.
        adapter: what its adapter does.
        base_url: the team's own address, without a trailing slash.
        a2a: binding, URL and version of each A2A interface.
        chat_enabled: whether the chat is really mounted.
        query_token: whether the chat takes a token in its address.
    """
    interfaces: list[Mapping[str, Any]] = [{"type": "a2a", **interface} for interface in a2a]
    if chat_enabled:
        interfaces.append(
            {
                "type": "websocket-chat",
                "url": base_url.replace("http", "ws", 1) + CHAT_PATH,
                "path": CHAT_PATH,
                "subprotocols": [SUBPROTOCOL],
                "frame_schema": base_url + CHAT_SCHEMA_PATH,
                "token_in": [
                    "header Authorization: Bearer <token>",
                    "subprotocol elf.bearer.<base64url of the token>",
                    *(["query ?token=<token>"] if query_token else []),
                ],
            }
        )
    return Capabilities(
        team_name=spec.name,
        purpose=spec.purpose,
        agents=tuple(
            member.model_dump(include={"role", "title", "is_manager", "responsibilities", "skills"})
            for member in spec.members
        ),
        skills=tuple(skill.model_dump() for skill in spec.skills),
        adapter={
            "framework": spec.framework,
            **{name: value for name, value in asdict(adapter).items() if name != "blocking"},
        },
        model={"provider": spec.llm.provider, "model": spec.llm.model},
        limits={
            **spec.chat.model_dump(exclude={"enabled", "top_level"}),
            "run_deadline": spec.runs.deadline,
            "concurrent_runs": spec.runs.concurrency,
            "queued_runs": spec.runs.queue,
        },
        interfaces=tuple(interfaces),
    )
