"""What does a team's work, as the engine sees it: its adapter, or its `on_message`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from elf_sdk.adapters.registry import adapter_for
from elf_sdk.errors import BadInput
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import Adapter, AdapterCapabilities, RunContext
from elf_sdk.runs.events import Event
from elf_sdk.team.spec import TeamSpec

if TYPE_CHECKING:
    from elf_sdk.runs.worker import Isolated

__all__ = ["Hooked", "beside_the_loop", "chosen_adapter", "isolated_adapter"]

OnMessage = Callable[[RunContext], AsyncGenerator[Event, None]]


class Hooked:
    """A team's own `on_message` in the place of an adapter.

    Args:
        on_message: the hook.
        name: of the framework that it stands for.
        capabilities: of what stands behind it.
    """

    def __init__(self, on_message: OnMessage, name: str, capabilities: AdapterCapabilities) -> None:
        self.name = name
        self.capabilities = capabilities
        self._on_message = on_message

    def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        """Do the work of one run; see `Adapter.run`."""
        return self._on_message(ctx)


_HOOK_ALONE: Final = AdapterCapabilities(stream=True, human=False, cancel="certain", recover=False)


def chosen_adapter(name: str, spec: TeamSpec, adapter: Adapter | None, *, replaced: bool) -> Adapter:
    """The adapter that a team's class names, once it fits its team.yaml.

    Args:
        name: of the class, for messages.
        spec: the team.
        adapter: what the class names.
        replaced: whether the class has an `on_message` of its own, which needs no adapter.

    Raises:
        BadInput: there is nothing that does the work, or the adapter is for another framework.
    """
    if adapter is None:
        if not replaced:
            named = adapter_for(spec.framework).__name__
            raise BadInput(
                f"{name} has neither an adapter nor an on_message; give it one of them, such as adapter = {named}(…)"
            )
        return Hooked(_nothing, spec.framework, _HOOK_ALONE)
    if adapter.name != spec.framework:
        raise BadInput(
            f"{spec.name}: team.yaml says framework: {spec.framework}, but {name} uses {type(adapter).__name__}, "
            f"which is for {adapter.name}; make them agree"
        )
    return adapter


def isolated_adapter(cls: type, spec: TeamSpec, adapter: Adapter, model: Endpoint) -> Isolated | None:
    """The adapter in processes of its own, where its code would block and the team wants it so.

    Args:
        cls: names the adapter.
        spec: the team.
        adapter: what `chosen_adapter` gave.
        model: of the team.

    Raises:
        BadInput: a process of its own could not find it.
    """
    if not adapter.capabilities.blocking or spec.runs.isolation != "process":
        return None
    # A team whose code does not block needs none of it.
    from elf_sdk.runs.worker import Isolated
    from elf_sdk.server.origin import origin_of

    return Isolated(adapter.name, adapter.capabilities, origin_of(cls, adapter), spec.name, model)


def beside_the_loop(adapter: Adapter) -> Adapter:
    """The adapter in the server's own process, where what blocks can only be asked to stop."""
    if not adapter.capabilities.blocking:
        return adapter
    return Hooked(adapter.run, adapter.name, replace(adapter.capabilities, cancel="cooperative"))


async def _nothing(ctx: RunContext) -> AsyncGenerator[Event, None]:
    """What `super().on_message` gives where there is no adapter."""
    nothing: tuple[Event, ...] = ()
    for event in nothing:
        yield event
