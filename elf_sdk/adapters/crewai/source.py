"""What an author gives the adapter, made anew for each run: a crew, a class, a flow, or a function that builds one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from elf_sdk.adapters.base import call_factory, checked_factory, checked_name, named
from elf_sdk.errors import BadInput
from elf_sdk.runs.adapter import RunError

__all__ = ["Source"]

_OFFERED: Final = ("llm", "tools", "context")


class Source:
    """An author's crew or flow.

    Args:
        given: a crew; a class decorated with `@CrewBase`, or of a flow; or a function that returns one of these, or an
            instance of such a class. A class and a function get what they name among their parameters. Or the name of
            one of these, such as `"shop.crew:Support"`, which is imported when it is needed first.

    Raises:
        BadInput: it is none of these, or an object that only one run could use.
    """

    def __init__(self, given: Any) -> None:
        self._crew: Any = None
        self._factory: Callable[..., Any] | None = None
        self._place = self._name = ""
        if isinstance(given, str):
            self._name = checked_name(given, "shop.crew:Support")
        else:
            self._take(given)

    def find(self) -> None:
        """Import the crew, where it is named and was not imported yet."""
        if self._crew is None and self._factory is None:
            self._take(named(self._name))

    def _take(self, given: Any) -> None:
        self._crew = given if not inspect.isclass(given) and _is_crew(given) else None
        if self._crew is not None:
            return
        if not inspect.isclass(given) and (hasattr(given, "kickoff") or callable(getattr(given, "crew", None))):
            name = type(given).__name__
            raise BadInput(
                f"CrewAIAdapter got an instance of {name}, which one run would use up; give the class, "
                f"CrewAIAdapter({name}), or a function that makes one"
            )
        if not callable(given):
            raise BadInput(
                f"CrewAIAdapter takes a crew, a class decorated with @CrewBase, a flow's class, or a function that "
                f"builds one of these, not {given!r}"
            )
        self._place = _place(given)
        self._factory = checked_factory(_constructor(given) if inspect.isclass(given) else given, _OFFERED, "crewai")
        self.is_flow = inspect.isclass(given) and hasattr(given, "kickoff") and not hasattr(given, "crew")

    is_flow = False
    """Whether it is a flow for sure; what a function returns, or a name stands for, is not known before."""

    def build(self, **offered: Any) -> Any:
        """The crew or the flow of one run, in the run's thread.

        Raises:
            RunError: it is no crew with tasks, and no flow; the message says where it comes from.
            Exception: what the author's own code raises.
        """
        self.find()
        if self._crew is not None:
            return _with_tasks(self._crew.copy(), "")
        assert self._factory is not None  # noqa: S101 - there is a crew or a factory
        built = call_factory(self._factory, **offered)
        if inspect.isawaitable(built):
            built = asyncio.run(_awaited(built))
        if inspect.isclass(built):
            built = call_factory(_constructor(built), **offered)
        if callable(getattr(built, "crew", None)) and not hasattr(built, "kickoff"):
            built = built.crew()
        if _is_crew(built):
            return _with_tasks(built, self._place)
        if hasattr(built, "kickoff_async") and hasattr(built, "resume_async"):
            return built
        raise RunError(f"the crew's factory returned a {type(built).__name__}; return a Crew or a Flow{self._place}")


def _is_crew(value: Any) -> bool:
    return hasattr(value, "kickoff") and hasattr(value, "tasks")


def _with_tasks(crew: Any, place: str) -> Any:
    if not crew.tasks:
        raise RunError(f"the crew has no tasks; give it at least one, the last of which answers{place}")
    if not crew.agents and crew.manager_agent is None and all(task.agent is None for task in crew.tasks):
        raise RunError(f"the crew has no agents; give it those that do its tasks{place}")
    return crew


def _constructor(cls: type) -> Callable[..., Any]:
    """A function that makes an instance, with the signature of the class's own `__init__`.

    CrewAI's metaclass hides that signature.
    """

    def make(**given: Any) -> Any:
        return cls(**given)

    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
    make.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    make.__qualname__ = cls.__qualname__
    return make


async def _awaited(built: Awaitable[Any]) -> Any:
    return await built


def _place(given: Any) -> str:
    # Where the author's own code is, for errors that are found after it has returned.
    try:
        line = inspect.getsourcelines(given)[1]
        return f" ({Path(inspect.getfile(given)).name}, line {line})"
    except (OSError, TypeError):
        return ""
