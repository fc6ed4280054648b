"""What one run changes in CrewAI, whose defaults are of the whole process, and only for that run.

CrewAI keeps as module state what differs from run to run here: the model of agents that name none, what `@agent` and
`@task` methods have built, who is asked for feedback, where flows keep their state. `install` puts one function in the
place of each that looks up the scope of the run in whose context it is called, and does what CrewAI does where there
is none. Context variables follow a run into CrewAI's threads, because CrewAI copies them there.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from elf_sdk.adapters.crewai.questions import Refused

if TYPE_CHECKING:
    from crewai.flow.persistence.base import FlowPersistence
    from crewai.llms.base_llm import BaseLLM

__all__ = ["Scope", "install", "scoped"]


@dataclass(frozen=True, slots=True)
class Scope:
    """What holds in one run.

    Attributes:
        llm: the model of agents, managers and planners that name none.
        store: where the run's flow keeps its state.
        reviewer: who is asked where a task has `human_input`; a `HumanInputProvider`.
        built: what decorated methods of a `@CrewBase` class have built, by CrewAI's own key. In CrewAI the key names an
            instance by its address, which another run's instance may get later.
    """

    llm: BaseLLM
    store: FlowPersistence
    reviewer: Any
    built: dict[str, Any] = field(default_factory=dict)


_SCOPE: ContextVar[Scope | None] = ContextVar("elf_crewai_scope", default=None)


@contextmanager
def scoped(scope: Scope) -> Iterator[None]:
    """Let `scope` hold for what is called inside, and in threads that CrewAI starts there. CrewAI prints nothing."""
    from crewai.core.providers.human_input import reset_provider, set_provider
    from crewai.events.listeners.tracing.utils import set_suppress_tracing_messages
    from crewai_core.printer import set_suppress_console_output

    install()
    token = _SCOPE.set(scope)
    reviewer = set_provider(scope.reviewer)
    # The context ends with the run's thread, and these with it.
    set_suppress_console_output(True)
    set_suppress_tracing_messages(True)
    try:
        yield
    finally:
        reset_provider(reviewer)
        _SCOPE.reset(token)


@functools.cache
def install() -> None:
    """Make CrewAI ask for the scope, once in a process. It starts no thread and tells CrewAI's event bus nothing."""
    from crewai.flow.flow_config import flow_config
    from crewai.flow.persistence import factory
    from crewai.flow.persistence.sqlite import SQLiteFlowPersistence
    from crewai.memory.storage import factory as memory
    from crewai.project import utils as project
    from crewai.utilities import llm_utils

    _let_crews_find_the_llm()
    _keep_no_outputs()
    fallback = llm_utils._llm_via_environment_or_fallback

    def default_llm() -> Any:
        scope = _SCOPE.get()
        return scope.llm if scope else fallback()

    llm_utils._llm_via_environment_or_fallback = default_llm

    project.cache = _Built(project.cache)  # type: ignore[assignment]

    stored = factory._factory or SQLiteFlowPersistence
    factory.set_flow_persistence_factory(lambda: scope.store if (scope := _SCOPE.get()) else stored())
    if memory._factory is None:
        memory.set_memory_storage_factory(lambda spec: _LateMemory() if spec == "lancedb" else None)
    if flow_config.hitl_provider is None:
        flow_config.hitl_provider = _Feedback()
    if flow_config.input_provider is None:
        flow_config.input_provider = _Input()


def _let_crews_find_the_llm() -> None:
    from crewai import Crew

    plain = Crew.__init__

    @functools.wraps(plain)
    def with_llm(self: Crew, /, **data: Any) -> None:
        # CrewAI refuses a hierarchical crew without a manager, and plans with a model of its own choice.
        scope = _SCOPE.get()
        if scope is not None:
            process = data.get("process")
            if getattr(process, "value", process) == "hierarchical" and not (
                data.get("manager_llm") or data.get("manager_agent")
            ):
                data["manager_llm"] = scope.llm
            if data.get("planning") and not data.get("planning_llm"):
                data["planning_llm"] = scope.llm
        plain(self, **data)

    crew: Any = Crew
    crew.__init__ = with_llm


def _keep_no_outputs() -> None:
    from crewai.utilities import task_output_storage_handler

    handler: Any = task_output_storage_handler
    handler.KickoffTaskOutputsSQLiteStorage = _NoOutputs


class _NoOutputs:
    """In the place of CrewAI's database: the inputs and outputs of every crew, whoever asked, in one file.

    Only a command of CrewAI's reads it, that does a task of the latest crew again.
    """

    def add(self, *_: Any, **__: Any) -> None: ...

    def update(self, *_: Any, **__: Any) -> None: ...

    def load(self) -> list[dict[str, Any]]:
        return []

    def delete_all(self) -> None: ...


class _LateMemory:
    """CrewAI's default store of memories, opened when it is used: every flow has one, and its import takes seconds."""

    def __init__(self) -> None:
        self._store: Any = None
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        with self._lock:
            if self._store is None:
                from crewai.memory.storage.lancedb_storage import LanceDBStorage

                self._store = LanceDBStorage()
        return getattr(self._store, name)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()


class _Built:
    """CrewAI's cache of what decorated methods have built, one for each run."""

    def __init__(self, outside: Any) -> None:
        self._outside = outside

    def read(self, tool: str, input: str) -> Any:  # noqa: A002 - CrewAI's own word for it
        scope = _SCOPE.get()
        return scope.built.get(f"{tool}-{input}") if scope else self._outside.read(tool=tool, input=input)

    def add(self, tool: str, input: str, output: Any) -> None:  # noqa: A002 - the same
        scope = _SCOPE.get()
        if scope is None:
            self._outside.add(tool=tool, input=input, output=output)
        else:
            scope.built[f"{tool}-{input}"] = output


class _Feedback:
    """Asks for a flow's `@human_feedback`: in a run by pausing the flow, elsewhere at the console."""

    def request_feedback(self, context: Any, flow: Any) -> str:
        from crewai.flow.async_feedback import HumanFeedbackPending
        from crewai.flow.async_feedback.providers import ConsoleProvider

        if _SCOPE.get() is None:
            return ConsoleProvider().request_feedback(context, flow)
        raise HumanFeedbackPending(context=context)


class _Input:
    """Answers a flow's `ask()`, which waits in the middle of a method: in a run by refusing."""

    def request_input(self, message: str, flow: Any, metadata: dict[str, Any] | None = None) -> str | None:
        from crewai.flow.async_feedback.providers import ConsoleProvider

        if _SCOPE.get() is None:
            return ConsoleProvider().request_input(message, flow, metadata)
        raise Refused(
            f"the flow asks “{message}” by ask(), which waits inside a method and cannot outlive the process; "
            "ask by @human_feedback"
        )
