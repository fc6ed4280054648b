"""What a team's function gets: what was asked, the model, and the ways to say something.

There are two of it, with the same methods: a function that is `async` awaits them, and a plain one calls them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from elf_sdk.adapters.delegation import DelegateArguments, tool_name
from elf_sdk.adapters.function.questions import Questions
from elf_sdk.adapters.tools import Tool, reported
from elf_sdk.errors import BadInput
from elf_sdk.runs.adapter import RunContext, TurnMessage
from elf_sdk.runs.events import Event, Step, Usage
from elf_sdk.team.spec import TeamSpec

if TYPE_CHECKING:
    from elf_sdk.models.chat import ChatClient

__all__ = ["FunctionContext", "SyncFunctionContext", "Wait"]

ResultT = TypeVar("ResultT")
Push = Callable[[Event], None]
Wait = Callable[[Coroutine[Any, Any, Any]], Any]
"""Has a coroutine run elsewhere, and gives its result."""


class _Context:
    """What both have, and nobody has to wait for.

    Attributes:
        text: what was asked.
        user: id of the person, or of the team, that asks.
        spec: the team, as its team.yaml says.
        run: everything else that is known of the run.
        tools: one for each team that work may be proposed to, and those of the MCP servers.
    """

    def __init__(
        self, run: RunContext, questions: Questions, push: Push, closed: Callable[[], bool], tools: Sequence[Tool]
    ) -> None:
        self.run = run
        self.text = run.text
        self.user = run.owner.subject
        self.spec: TeamSpec = run.spec
        self._questions = questions
        self._push = push
        self._closed = closed
        self._given = tuple(tools)
        self.tools = reported(tools, self.emit)

    @property
    def cancelled(self) -> bool:
        """Whether the run was closed; code that is not ended with its process should look now and then, and return."""
        return self._closed()

    def emit(self, event: Event) -> None:
        """Add an event to the run: a step, an artifact, a tool call. From any thread."""
        if self._questions.is_new(event):
            self._push(event)

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
        proposed = DelegateArguments(
            title=title,
            description=description,
            requirements=list(requirements),
            priority=priority,
            deadline=deadline,
            success_criteria=list(success_criteria),
        )
        tool = next(tool for tool in self._given if tool.name == tool_name(team))
        return tool.call_blocking(proposed.model_dump())

    def _tool(self, name: str) -> Tool:
        for tool in self.tools:
            if tool.name == name:
                return tool
        known = ", ".join(sorted(tool.name for tool in self.tools)) or "none"
        raise BadInput(f"{self.spec.name} has no tool {name!r}; it has: {known}")


class FunctionContext(_Context):
    """What an `async` function gets.

    Attributes:
        text: what was asked.
        user: id of the person, or of the team, that asks.
        spec: the team, as its team.yaml says.
        run: everything else that is known of the run.
        tools: one for each team that work may be proposed to, and those of the MCP servers.
    """

    _client: ChatClient | None = None

    async def history(self) -> tuple[TurnMessage, ...]:
        """Earlier messages of the conversation, oldest first."""
        return await self.run.history()

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
        return await self._tool(name).call(arguments)

    async def ask(self, prompt: str) -> str:
        """Ask the person, and return the answer, whenever it comes.

        The function is left at this place, the process forgets it, and after the answer it is called again from its
        start. Then what it asked before returns at once, and what it said before is not said again. What it does before
        it asks is done again, so what has an effect belongs behind the last question.
        """
        return self._questions.ask(prompt)

    async def stream(self, prompt: str | None = None, *, system: str | None = None) -> AsyncGenerator[str, None]:
        """Ask the team's model, and yield its answer in pieces as they arrive.

        Args:
            prompt: what to ask; by default the earlier messages and what was asked of the team.
            system: by default who the team is, from its team.yaml.
        """
        client = await self._connected()
        messages = [{"role": "system", "content": system or _introduction(self.spec)}]
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
                    self.emit(
                        Usage(
                            piece.model,
                            piece.input,
                            piece.output,
                            piece.cached,
                            piece.reasoning,
                            provider=piece.provider,
                        )
                    )

    async def complete(self, prompt: str | None = None, *, system: str | None = None) -> str:
        """Ask the team's model, and return its whole answer. Arguments as for `stream`."""
        async with aclosing(self.stream(prompt, system=system)) as pieces:
            return "".join([piece async for piece in pieces])

    async def _connected(self) -> ChatClient:
        # In a thread: the first run that asks a model loads the HTTP client.
        client = await asyncio.to_thread(_client_class)
        if self._client is None:
            self._client = client(self.run.endpoint, self.run.deadline)
        return self._client

    async def aclose(self) -> None:
        """Close the connections to the model; the adapter does it at the end of the run."""
        if self._client is not None:
            await self._client.aclose()


class SyncFunctionContext(_Context):
    """What a plain function gets: the methods of a `FunctionContext`, to be called and not awaited.

    Args:
        context: does it.
        wait: has what the context does run in an event loop.
        push: takes events.

    Attributes:
        text: what was asked.
        user: id of the person, or of the team, that asks.
        spec: the team, as its team.yaml says.
        run: everything else that is known of the run.
        tools: one for each team that work may be proposed to, and those of the MCP servers.
    """

    def __init__(self, context: FunctionContext, wait: Wait, push: Push) -> None:
        super().__init__(context.run, context._questions, push, context._closed, context._given)
        self._context = context
        self._wait = wait

    def history(self) -> tuple[TurnMessage, ...]:
        """As `FunctionContext.history`."""
        earlier: tuple[TurnMessage, ...] = self._wait(self._context.history())
        return earlier

    def call(self, name: str, /, **arguments: Any) -> str:
        """As `FunctionContext.call`."""
        return self._tool(name).call_blocking(arguments)

    def ask(self, prompt: str) -> str:
        """As `FunctionContext.ask`."""
        return self._questions.ask(prompt)

    def stream(self, prompt: str | None = None, *, system: str | None = None) -> Generator[str, None, None]:
        """As `FunctionContext.stream`."""
        pieces = self._context.stream(prompt, system=system)
        try:
            while (piece := self._wait(_next(pieces))) is not None:
                yield piece
        finally:
            self._wait(pieces.aclose())

    def complete(self, prompt: str | None = None, *, system: str | None = None) -> str:
        """As `FunctionContext.complete`."""
        answer: str = self._wait(self._context.complete(prompt, system=system))
        return answer


async def _next(pieces: AsyncGenerator[str, None]) -> str | None:
    return await anext(pieces, None)


def _client_class() -> type[ChatClient]:
    from elf_sdk.models.chat import ChatClient

    return ChatClient


def _introduction(spec: TeamSpec) -> str:
    """A system prompt: who speaks, for which team, to what purpose."""
    purpose = f" {spec.purpose}" if spec.purpose else ""
    return f"You are the {spec.manager.role} of the team {spec.title}.{purpose}"
