"""What the tests of the suite stand on: the author's programs, a model, and servers."""

from __future__ import annotations

import asyncio
import functools
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Concatenate, Final, Literal, ParamSpec, TypeVar

import httpx
import pytest

from elf_sdk.errors import ElfError
from elf_sdk.models.llm import Endpoint
from elf_sdk.models.offline import OfflineModel
from elf_sdk.models.script import OfflineScript
from elf_sdk.runs.adapter import Adapter, Delegate, Owner, RunContext, TurnMessage
from elf_sdk.runs.events import Event, TextDelta, Usage
from elf_sdk.server.a2a.client import TeamClient
from elf_sdk.server.remote import RemoteTask
from elf_sdk.server.team_server import TeamServer
from elf_sdk.team.spec import TeamSpec
from elf_sdk.testing.process import TeamProcess, write_team
from elf_sdk.testing.tools import TOOLS, request

__all__ = [
    "BRAND",
    "KEY",
    "Servers",
    "Setting",
    "answer",
    "ask",
    "asynchronous",
    "begin",
    "calling",
    "counted",
    "events_of",
    "isolated",
    "script",
    "sockets",
    "until",
    "used",
]

KEY: Final = "only-for-this-suite"
"""The model's key, which nobody may get to see."""

_P = ParamSpec("_P")
_S = TypeVar("_S")


def asynchronous(
    test: Callable[Concatenate[_S, _P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[_S, _P], None]:
    """A test that is a coroutine, in a loop of its own and without a plugin; it leaves no task behind."""

    @functools.wraps(test)
    def run(self: _S, /, *arguments: _P.args, **named: _P.kwargs) -> None:
        async def whole() -> None:
            await test(self, *arguments, **named)
            # The loop itself closes a generator that was dropped, by a task that ends at once.
            end = time.monotonic() + 2
            while left := asyncio.all_tasks() - {asyncio.current_task()}:
                assert time.monotonic() < end, f"tasks were left behind: {left}"
                await asyncio.sleep(0.01)

        asyncio.run(whole())

    return run


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until it is so, at most so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not happen within {seconds:g} s"
        await asyncio.sleep(0.01)


def sockets(pid: int | Literal["self"]) -> int:
    """How many sockets a process has open; 0 where the system does not say so."""
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        with suppress(OSError):  # it was closed meanwhile
            found += descriptor.readlink().name.startswith("socket:")
    return found


async def events_of(adapter: Adapter, ctx: RunContext) -> list[Event]:
    """All events of one run."""
    async with aclosing(adapter.run(ctx)) as events:
        return [event async for event in events]


def answer(events: list[Event]) -> str:
    """The text of the answer."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def used(events: list[Event]) -> tuple[int, int]:
    """Input and output tokens of all calls to the model."""
    calls = [event for event in events if isinstance(event, Usage)]
    return sum(call.input_tokens for call in calls), sum(call.output_tokens for call in calls)


def counted(model: OfflineModel) -> tuple[int, int]:
    """The same, as the model itself counted."""
    return sum(each.input_tokens for each in model.requests), sum(each.output_tokens for each in model.requests)


class Servers:
    """The server processes of one class of tests: one for each program and database, started when it is asked for."""

    def __init__(self, setting: type[Setting], directory: Path, postgres: Callable[[], str]) -> None:
        self._setting = setting
        self._directory = directory
        self._postgres = postgres
        self._model: dict[tuple[type[TeamServer], str], OfflineModel] = {}
        self._running: dict[tuple[type[TeamServer], str], TeamProcess] = {}

    def running(self, program: type[TeamServer], database: str) -> tuple[TeamProcess, OfflineModel]:
        """The server of a program on a database, and its model, whose requests of before are forgotten."""
        key = (program, database)
        if key not in self._running:
            model = OfflineModel()
            process = self.made(program, database, model)
            self._running[key], self._model[key] = process, model
        if not self._running[key].running:
            # The first time, or because a test before has ended it.
            self._running[key].start()
        self._model[key].requests.clear()
        return self._running[key], self._model[key]

    def made(self, program: type[TeamServer], database: str, model: OfflineModel) -> TeamProcess:
        """A server that is not started yet, in a directory of its own."""
        directory = Path(tempfile.mkdtemp(prefix=f"{program.__name__}-{database}-", dir=self._directory))
        model.start()
        environ = {"COMPATIBLE_API_KEY": KEY, "HOME": str(directory), "CREWAI_STORAGE_DIR": str(directory / "crewai")}
        if database == "postgres":
            environ["ELF_DATABASE_URL"] = self._postgres()
        spec = self._setting.spec_of(program, model.url(), timeout="30s")
        return TeamProcess(write_team(program, spec, directory / "team"), directory, environ)

    def close(self) -> list[tuple[TeamProcess, int]]:
        """Stop them all; each with its exit code."""
        try:
            left = [process for process in self._running.values() if process.running]
            with ThreadPoolExecutor() as pool:
                return list(zip(left, pool.map(TeamProcess.stop, left), strict=True))
        finally:
            for process in self._running.values():
                process.close()
            for model in self._model.values():
                model.stop()


class Setting:
    """The programs, written in the author's framework. Each is a class at the top level of a module.

    Attributes:
        agent: passes what was asked, and what was said before, to the team's model, and answers with its words. Its
            model has the tools of `tools`, and one for each team that work may be proposed to.
        asking: asks a person `Which colour?`, and then the model, in words that hold the answer. By default there is
            none, which is right only where `capabilities.human` is False.
        recovering: has two steps. The first asks the model as `You are the first.`, the second as `You are the
            second.`, whose answer is the team's. None where `capabilities.recover` is False.
        failing: its factory, or whatever makes the program for a run, raises `ValueError("no such thing")`.
        mistaken: its factory returns the number 5.
        endless: works for ever without a word. Where its adapter takes a factory, the factory itself never returns when
            it was asked `In the factory.`
        tools: names of the functions in `elf_sdk.testing.tools.TOOLS` that the agent has.
        delegates: whether the adapter gives its models tools to propose work to other teams.
        closes: whether closing a run closes its connection to the model even where cancel is only cooperative; False
            where the program's own synchronous code holds that connection.
        isolation: as `runs.isolation`.
        seed: of the random moments at which processes are killed; None takes another one each time, and prints it.
    """

    agent: ClassVar[type[TeamServer]]
    asking: ClassVar[type[TeamServer] | None] = None
    recovering: ClassVar[type[TeamServer] | None] = None
    failing: ClassVar[type[TeamServer] | None] = None
    mistaken: ClassVar[type[TeamServer] | None] = None
    endless: ClassVar[type[TeamServer] | None] = None
    tools: ClassVar[frozenset[str]] = frozenset(tool.__name__ for tool in TOOLS)
    delegates: ClassVar[bool] = True
    closes: ClassVar[bool] = True
    isolation: ClassVar[Literal["process", "thread", "inline"]] = "process"
    seed: ClassVar[int | None] = None

    # Fixtures.

    @pytest.fixture(scope="class")
    @classmethod
    def postgres_url(cls) -> Callable[[], str]:
        """Gives the URL of an empty database with this release's schema; replace it to run on PostgreSQL too."""
        return _no_postgres

    @pytest.fixture
    def model(self) -> Generator[OfflineModel, None, None]:
        """The model of a test that runs the adapter alone."""
        with OfflineModel() as running:
            yield running

    @pytest.fixture(params=["sqlite", "postgres"])
    def database(self, request: pytest.FixtureRequest, postgres_url: Callable[[], str]) -> str:
        """Each kind of database."""
        kind: str = request.param
        if kind == "postgres" and postgres_url is _no_postgres:
            pytest.skip("there is no PostgreSQL: replace the fixture postgres_url to run on one")
        return kind

    @pytest.fixture
    def one_database(self, postgres_url: Callable[[], str]) -> str:
        """PostgreSQL where there is one, else SQLite: for what is long, and is asked of the other by other tests."""
        return "sqlite" if postgres_url is _no_postgres else "postgres"

    @pytest.fixture(scope="class")
    @classmethod
    def servers(
        cls, tmp_path_factory: pytest.TempPathFactory, postgres_url: Callable[[], str]
    ) -> Generator[Servers, None, None]:
        """The servers of this class of tests; they stop well."""
        servers = Servers(cls, tmp_path_factory.mktemp("suite"), postgres_url)
        try:
            yield servers
        finally:
            stopped = servers.close()
        for process, code in stopped:
            assert code == 0, f"the server did not stop well:\n{process.output}"
            assert KEY not in process.output, "the server printed the model's key"

    # Programs.

    @classmethod
    def adapter_of(cls, program: type[TeamServer] | None) -> Adapter:
        """The adapter of a program."""
        assert program is not None, f"{cls.__name__} names no such program"
        assert program.adapter is not None, f"{program.__name__} has no adapter"
        return program.adapter

    @classmethod
    def spec_of(cls, program: type[TeamServer], url: str, timeout: str) -> dict[str, Any]:
        """What goes into the team.yaml of a program."""
        return {
            "format": "elf/v1",
            "name": "team-under-test",
            "purpose": "To be tested.",
            "framework": cls.adapter_of(program).name,
            "members": [{"role": "lead", "is_manager": True}],
            "llm": {"provider": "compatible", "model": "scripted", "base_url": url, "timeout": timeout, "retries": 0},
            "runs": {"deadline": "5m", "isolation": cls.isolation},
        }

    @classmethod
    def claimed(cls, program: type[TeamServer] | None, claim: str) -> type[TeamServer]:
        """The program, where its adapter claims this; else the test is skipped."""
        adapter = cls.adapter_of(program or cls.agent)
        if not getattr(adapter.capabilities, claim):
            pytest.skip(f"{adapter.name} does not claim it: capabilities.{claim} is False")
        assert program is not None, f"{adapter.name} claims {claim}, and {cls.__name__} names no program that shows it"
        return program

    @classmethod
    def has(cls, tool: str) -> None:
        """Skip the test where the agent has no such tool."""
        if tool not in cls.tools:
            pytest.skip(f"the agent has no tool {tool!r}")

    def context(self, model: OfflineModel, text: str = "Hello", **changed: Any) -> RunContext:
        """A run's context, for the adapter alone.

        Args:
            model: the team's.
            text: what was asked.
            changed: `user`, `history`, `timeout` in seconds, `retries`, or any field of the context.
        """
        user = changed.pop("user", "ada")
        history: tuple[TurnMessage, ...] = changed.pop("history", ())

        async def earlier() -> tuple[TurnMessage, ...]:
            return history

        endpoint = Endpoint(
            "compatible",
            "scripted",
            model.url(),
            KEY,
            timeout=changed.pop("timeout", 20.0),
            retries=changed.pop("retries", 0),
        )
        values: dict[str, Any] = {
            "run_id": f"run-of-{user}",
            "spec": TeamSpec.model_validate(self.spec_of(self.agent, model.url(), "20s")),
            "owner": Owner("suite", user),
            "conversation": f"talk-of-{user}",
            "text": text,
            "endpoint": endpoint,
            "history": earlier,
            **changed,
        }
        return RunContext(**values)


BRAND: Final = Delegate("brand-team", "Brand Team", "How we sound.")


def _no_postgres() -> str:
    return ""


def script(model: OfflineModel, *rules: Mapping[str, Any], delay: str = "0ms") -> None:
    """From now on the model answers by these rules."""
    model.add("", OfflineScript.model_validate({"delay": delay, "rules": rules}))


@asynccontextmanager
async def calling(process: TeamProcess, user: str = "ada") -> AsyncGenerator[TeamClient, None]:
    """A client of the team, as another team has it."""
    async with httpx.AsyncClient(timeout=httpx.Timeout(30, read=None)) as http:
        yield TeamClient(process.url, lambda: process.token(user), http, team=process.name)


async def ask(
    client: TeamClient, text: str, *, task_id: str | None = None, deadline: float | None = None
) -> RemoteTask:
    """Send a message, follow its task until it rests, and give it as it is then."""
    known = ""
    updates = client.send(text, message_id=uuid.uuid4().hex, task_id=task_id, deadline=deadline)
    async with aclosing(updates):
        async for update in updates:
            known = update.task_id
    return await client.get(known)


@asynccontextmanager
async def begin(client: TeamClient, text: str) -> AsyncGenerator[tuple[str, list[str]], None]:
    """Send a message, and follow its task while the block runs: its id, and the pieces of its answer so far."""
    task_id: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    said: list[str] = []

    async def follow() -> None:
        try:
            async with aclosing(client.send(text, message_id=uuid.uuid4().hex)) as updates:
                async for update in updates:
                    if not task_id.done():
                        task_id.set_result(update.task_id)
                    said.append(update.text_delta)
        except ElfError as error:
            if not task_id.done():
                task_id.set_exception(error)

    following = asyncio.create_task(follow())
    try:
        yield await task_id, said
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def isolated(process: TeamProcess, model: OfflineModel) -> bool:
    """Whether the agent's tools run in another process than the server: by the id that `beat` writes."""
    with tempfile.NamedTemporaryFile() as file:
        rules = {"when": {"user": "use beat"}, "call": {"tool": "beat", "arguments": {"file": file.name}}}
        script(model, rules, {"say": "I used it."}, {"when": {"after_tool": "beat"}, "say": "I used it."})
        async with calling(process) as client, begin(client, request("beat", file=file.name)) as (task_id, _):
            path = Path(file.name)
            await until(lambda: path.stat().st_size > 0, 30)
            await client.cancel(task_id)
        return int(path.read_text(encoding="ascii").split()[0]) != process.pid
