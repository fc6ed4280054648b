"""A team without a framework: one Python function.

An async generator yields its answer piece by piece, a coroutine returns it whole, and so does a plain function, which
runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

from elf_sdk.adapters.base import Bridge, bridged, in_thread
from elf_sdk.adapters.delegation import DelegateArguments, tool_name
from elf_sdk.adapters.toolbox import open_tools
from elf_sdk.adapters.tools import Tool, offered, reported
from elf_sdk.errors import BadInput
from elf_sdk.runs.adapter import AdapterCapabilities, RunContext, RunError, TurnMessage
from elf_sdk.runs.events import Event, Step, TextDelta, Usage
from elf_sdk.team.spec import TeamSpec

if TYPE_CHECKING:
    from elf_sdk.models.chat import ChatClient

__all__ = ["FunctionAdapter", "FunctionContext"]

Answer = str | None
TeamFunction = (
    Callable[["FunctionContext"], AsyncGenerator[str | Event, None]]
    | Callable[["FunctionContext"], Awaitable[Answer]]
    | Callable[["FunctionContext"], Answer]
)


class FunctionContext:
    """What a team's function gets.

    Attributes:
        text: what was asked.
        user: id of the person, or of the team, that asks.
        spec: the team, as its team.yaml says.
        tools: those of the team's MCP servers, and one for each team that work may be proposed to; for a model that
            the function asks by itself.
        run: everything else that is known of the run.
    """

    def __init__(self, run: RunContext, bridge: Bridge, tools: Sequence[Tool] = ()) -> None:
        self.run = run
        self.text = run.text
        self.user = run.owner.subject
        self.spec: TeamSpec = run.spec
        self._bridge = bridge
        self._client: ChatClient | None = None
        self.tools = reported(tools, bridge.push)
        self._tools = {tool.name: tool for tool in tools}
        self._reported = {tool.name: tool for tool in self.tools}

    async def history(self) -> tuple[TurnMessage, ...]:
        """Earlier messages of the conversation, oldest first."""
        return await self.run.history()

    @property
    def cancelled(self) -> bool:
        """Whether the run was closed; a plain function that works long should look now and then, and return."""
        return self._bridge.closed

    def emit(self, event: Event) -> None:
        """Add an event to the run: a step, an artifact, a tool call. From any thread."""
        self._bridge.push(event)

    def step(self, name: str, phase: str = "start") -> None:
        """Say that a part of the work begins or ends."""
        self.emit(Step(name, phase))

    def delegate(
        self,
        team: str,
        title: str,
        description: str,
        *,
        requirements: Sequence[str] = (),
        priority: Literal["low", "normal", "high", "urgent"] = "normal",
        deadline: str = "",
        success_criteria: Sequence[str] = (),
    ) -> str:
        """Propose work to another team. A person confirms before anything is sent.

        Args:
            team: its name.
            title: the work in a few words.
            description: what is to be done and why, with all that the team needs to know.
            requirements: what the result has to fulfil.
            priority: how urgent it is.
            deadline: by when, as a date or in words.
            success_criteria: how one sees that it worked.

        Returns:
            A text that says what happens next, as a model would get it.

        Raises:
            BadInput: this team may not propose work to that one.
        """
        known = sorted(target.name for target in self.run.delegates)
        if team not in known:
            raise BadInput(f"{self.spec.name} cannot delegate to {team!r}; it may to: {', '.join(known) or 'none'}")
        given = DelegateArguments(
            title=title,
            description=description,
            requirements=list(requirements),
            priority=priority,
            deadline=deadline,
            success_criteria=list(success_criteria),
        )
        return self._tools[tool_name(team)].call_blocking(given.model_dump())

    async def call(self, name: str, /, **arguments: Any) -> str:
        """Call one of the team's tools; the call and its result are events of the run.

        Args:
            name: as in `tools`.
            arguments: as its parameters say.

        Returns:
            What it answered.

        Raises:
            ToolError: it failed; the text says why.
            BadInput: there is no such tool.
        """
        tool = self._reported.get(name)
        if tool is None:
            raise BadInput(f"{self.spec.name} has no tool {name!r}; it has: {', '.join(sorted(self._tools)) or 'none'}")
        return await tool.call(arguments)

    async def stream(self, prompt: str | None = None, *, system: str | None = None) -> AsyncGenerator[str, None]:
        """Ask the team's model, and yield its answer in pieces as they arrive.

        Args:
            prompt: what to ask; by default the earlier messages and what was asked of the team.
            system: by default who the team is, from its team.yaml.
        """
        client = await self._connected()
        messages = [{"role": "system", "content": system or introduction(self.spec)}]
        if prompt is None:
            messages += [
                {"role": "user" if turn.role == "user" else "assistant", "content": turn.text}
                for turn in await self.history()
            ]
        messages.append({"role": "user", "content": self.text if prompt is None else prompt})
        async with aclosing(client.stream(messages)) as pieces:
            async for piece in pieces:
                if isinstance(piece, str):
                    yield piece
                else:
                    model = self.run.endpoint.model
                    self.emit(Usage(model, piece.input, piece.output, piece.cached, piece.reasoning))

    async def complete(self, prompt: str | None = None, *, system: str | None = None) -> str:
        """Ask the team's model, and return its whole answer. Arguments as for `stream`."""
        async with aclosing(self.stream(prompt, system=system)) as pieces:
            return "".join([piece async for piece in pieces])

    async def _connected(self) -> ChatClient:
        # In a thread: the first run that asks a model loads the HTTP client.
        client = await asyncio.to_thread(_client_class)
        if self._client is None:
            self._client = client(self.run.endpoint)
        return self._client

    async def aclose(self) -> None:
        """Close the connections to the model; the adapter does it at the end of the run."""
        if self._client is not None:
            await self._client.aclose()


def _client_class() -> type[ChatClient]:
    from elf_sdk.models.chat import ChatClient

    return ChatClient


def introduction(spec: TeamSpec) -> str:
    """A system prompt: who speaks, for which team, to what purpose."""
    purpose = f" {spec.purpose}" if spec.purpose else ""
    return f"You are the {spec.manager.role} of the team {spec.title}.{purpose}"


class FunctionAdapter:
    """Runs one function as a team.

    Args:
        function: takes a `FunctionContext`; an async generator of text (or events), a coroutine that returns text, or a
            plain function that does. A plain function is not stopped by a cancel, only asked to (`ctx.cancelled`).

    Example:
        async def answer(ctx: FunctionContext) -> AsyncGenerator[str]:
            async for piece in ctx.stream():
                yield piece

        adapter = FunctionAdapter(answer)
    """

    name = "function"

    def __init__(self, function: TeamFunction) -> None:
        if not callable(function):
            raise BadInput(f"FunctionAdapter takes a function, not {type(function).__name__}")
        self._function: Callable[[FunctionContext], Any] = function
        self._streams = inspect.isasyncgenfunction(function)
        self._awaits = inspect.iscoroutinefunction(function)
        certain = self._streams or self._awaits
        self.capabilities = AdapterCapabilities(
            stream=self._streams, human=False, cancel="certain" if certain else "cooperative", recover=False
        )

    def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        """Do the work of one run; see `Adapter.run`."""
        return bridged(ctx, lambda bridge: self._work(ctx, bridge))

    async def _work(self, ctx: RunContext, bridge: Bridge) -> None:
        async with open_tools(ctx, bridge.push) as tools:
            await self._call(FunctionContext(ctx, bridge, tools), bridge)

    async def _call(self, context: FunctionContext, bridge: Bridge) -> None:
        offered.set(context.tools)
        try:
            if self._streams:
                async with aclosing(self._function(context)) as pieces:
                    async for piece in pieces:
                        await bridge.put(_event(piece))
                return
            answer = await (self._function(context) if self._awaits else in_thread(self._function, context))
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                await bridge.put(_event(answer))
        finally:
            await context.aclose()


def _event(piece: Any) -> Event:
    if isinstance(piece, str):
        return TextDelta(piece)
    if isinstance(piece, Event):
        return piece
    raise RunError(f"the team's function gave a {type(piece).__name__}; give text (str) or an event")
