"""How a team works: its model, its members, and the bounds of what it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from elf_sdk.team.base import Frozen
from elf_sdk.team.kinds import (
    Amount,
    Bool,
    Duration,
    EnvName,
    EnvValue,
    Identifier,
    Name,
    Number,
    TeamName,
    Text,
    Url,
    Whole,
)

__all__ = ["LLM", "Approval", "Budget", "Chat", "Delegation", "McpServer", "Member", "Runs", "Skill"]


class LLM(Frozen):
    """The model that a team talks to. Keys are never written here: they come from a file or the environment."""

    provider: Literal["offline", "openai", "anthropic", "openrouter", "ollama", "compatible"] = "offline"
    """`compatible` is any OpenAI-compatible endpoint and needs `base_url`; `offline` is the built-in model for demos
    and tests."""
    model: Name = "offline"
    """The provider's own name of the model."""
    base_url: Url | None = None
    """Address of the API. Default: the provider's own."""
    temperature: Annotated[Number, Field(ge=0, le=2)] = 0.2
    """How freely the model chooses its words."""
    timeout: Duration = "60s"
    """How long a call may go without a word from the model, from its beginning on."""
    retries: Annotated[Whole, Field(ge=0, le=10)] = 2
    """Further tries of one call, when trying again may help."""
    fallbacks: tuple[LLM, ...] = ()
    """Tried in this order when the model before them is out of reach."""

    def chain(self) -> Iterator[LLM]:
        """This model, then its fallbacks with theirs, in the order in which they are asked."""
        yield self
        for fallback in self.fallbacks:
            yield from fallback.chain()


class Member(Frozen):
    """One agent of the team, or an executive who stands for it."""

    role: Name
    """What the agent is, once in a team."""
    title: Name | None = None
    """An executive's title, such as CMO."""
    is_manager: Bool = False
    """Whether it leads the team; the first manager speaks for it."""
    responsibilities: tuple[Text, ...] = ()
    """What it answers for."""
    skills: tuple[Name, ...] = ()
    """What it can do."""
    traits: tuple[Name, ...] = ()
    """Its personality, such as sceptical."""
    manages: tuple[TeamName, ...] = ()
    """The teams for which this executive answers."""


class Skill(Frozen):
    """What the agent card says the team can do."""

    id: Identifier
    """Once in a team."""
    name: Name
    """For people."""
    description: Text = ""
    """For people and for other teams' models, which choose by it."""
    tags: tuple[Name, ...] = ()
    """Words to find it by."""
    examples: tuple[Text, ...] = ()
    """What somebody may ask."""


class Chat(Frozen):
    """The chat interface and its limits, which hold across replicas."""

    enabled: Bool = True
    """Whether people can chat with the team; `enable_chat_interface` in API and registry."""
    top_level: Bool = False
    """A team that people are meant to talk to first; `is_top_level` in API and registry."""
    allowed_roles: tuple[Name, ...] = ("admin", "user")
    """Who may chat, by the roles in their token."""
    max_session_duration_minutes: Annotated[Whole, Field(ge=1)] = 60
    """Minutes until a session ends."""
    idle_timeout_minutes: Annotated[Whole, Field(ge=1)] = 15
    """Minutes without a message until a session ends."""
    max_messages_per_session: Annotated[Whole, Field(ge=1)] = 100
    """Messages of the user in one session."""
    max_connections_per_user: Annotated[Whole, Field(ge=1)] = 5
    """Open connections of one user."""
    messages_per_minute: Annotated[Whole, Field(ge=1)] = 20
    """Messages of one user in a minute."""
    max_message_bytes: Annotated[Whole, Field(ge=1, le=1_048_576)] = 65_536
    """Bytes of one message in UTF-8."""
    context_window_messages: Annotated[Whole, Field(ge=0)] = 20
    """Earlier messages that the team sees."""


class Approval(Frozen):
    """Who must say yes to a delegation: to each one, or only above a cost, or only towards a target."""

    role: Name
    """The role that must say yes."""
    above: Amount | None = None
    """Only above this expected cost."""
    target: TeamName | None = None
    """Only towards this team."""


class Delegation(Frozen):
    """How work is handed to another team."""

    preview: Bool = True
    """Whether the user sees what would be sent; `enable_delegation_preview` in API and registry."""
    confirmation: Bool = True
    """Whether the user must confirm it; `require_user_confirmation` in API and registry."""
    max_depth: Annotated[Whole, Field(ge=1, le=16)] = 4
    """How many teams a piece of work may pass through."""
    approvals: tuple[Approval, ...] = ()
    """Who else must say yes to what."""


class Budget(Frozen):
    """Upper bounds in the organisation's currency, or in tokens."""

    per_run: Amount | None = None
    """For one run. Default: no bound."""
    per_day: Amount | None = None
    """For one day in UTC. Default: no bound."""
    per_month: Amount | None = None
    """For one month in UTC. Default: no bound."""
    subtree: Bool = False
    """Whether the bounds hold for the team and all below it together."""


class Runs(Frozen):
    """How the engine runs what the team does."""

    deadline: Duration = "30m"
    """For one run."""
    concurrency: Annotated[Whole, Field(ge=1, le=10_000)] = 32
    """Runs at once in one replica."""
    queue: Annotated[Whole, Field(ge=0)] = 100
    """How many runs may wait for a place."""
    isolation: Literal["process", "thread", "inline"] = "process"
    """Where synchronous code runs; only in a `process` of its own is a cancel certain."""
    store: Literal["default", "database", "ephemeral"] = "default"
    """`database` keeps runs in PostgreSQL, and `ephemeral` on the container's own disk: one replica, lost with the pod.
    `default` is the database, but the disk for a single replica in dev."""
    drain: Duration | None = None
    """How long a pod that ends waits for runs that no other replica can go on with. Default: the deadline, at most 30s
    in dev and 5m elsewhere."""
    retention: Duration = "30d"
    """How long a run is kept after it has ended, and how long one waits for a person's answer."""


class McpServer(Frozen):
    """An MCP server whose tools the team may use, by `url` (streamable HTTP) or by `command` (stdio)."""

    name: Identifier
    """Once in a team."""
    url: Url | None = None
    """Address of a server that speaks streamable HTTP."""
    command: tuple[Annotated[EnvValue, Field(min_length=1)], ...] = ()
    """Program and arguments of a server that speaks over stdio."""
    tools: tuple[Name, ...] = ()
    """Only these; all where empty."""
    token_env: EnvName | None = None
    """With `url`: the environment variable whose value is sent as bearer token. `<name>_FILE`, the path of a file with
    it, goes before it."""
    env: tuple[EnvName, ...] = ()
    """With `command`: environment variables that the program gets, besides PATH, HOME and the like; each also as
    `<name>_FILE`."""
    timeout: Duration = "60s"
    """For one call of a tool."""
    optional: Bool = False
    """Whether a run goes on without the server's tools where it is out of reach; else the run fails and can be tried
    again."""

    @model_validator(mode="after")
    def _transport(self) -> Self:
        if (self.url is None) == (not self.command):
            raise ValueError("write either url (streamable HTTP) or command (stdio)")
        if self.token_env is not None and self.url is None:
            raise ValueError("token_env is sent to a url; name what a command needs in env")
        if self.env and not self.command:
            raise ValueError("env is for a command; name the variable with a url's token in token_env")
        return self
