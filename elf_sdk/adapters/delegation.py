"""The `delegate` tool, as every framework offers it to its models: a name, a schema, and the text that comes back.

Calling it sends nothing. It proposes: an event goes out, a person sees a preview and decides.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from elf_sdk.adapters.effects import Effects
from elf_sdk.adapters.tools import Tool
from elf_sdk.runs.adapter import Delegate, RunContext
from elf_sdk.runs.events import DelegationProposed, Event

__all__ = ["DelegateArguments", "Proposals", "delegate_tools", "tool_name"]


class DelegateArguments(BaseModel):
    """What the other team needs to know to do the work."""

    title: Annotated[str, Field(max_length=200, description="The work in a few words.")]
    description: Annotated[str, Field(description="What is to be done and why, with all that the team needs to know.")]
    requirements: Annotated[list[str], Field(description="What the result has to fulfil.")] = []
    priority: Annotated[Literal["low", "normal", "high", "urgent"], Field(description="How urgent it is.")] = "normal"
    deadline: Annotated[str, Field(description="By when, as a date or in words; empty if there is none.")] = ""
    success_criteria: Annotated[list[str], Field(description="How one sees that it worked.")] = []


def tool_name(team: str) -> str:
    """`delegate_to_marketing_team` for `marketing-team`."""
    return f"delegate_to_{team.replace('-', '_')}"


class Proposals:
    """The proposals of one run.

    Args:
        effects: gives each an id of its own, the same when the work is repeated.
        emit: takes the `DelegationProposed`, from whatever thread the framework calls the tool in.
    """

    def __init__(self, effects: Effects, emit: Callable[[Event], None]) -> None:
        self._effects = effects
        self._emit = emit

    def propose(self, target: Delegate, arguments: DelegateArguments) -> str:
        """Emit one; returns the text for the model."""
        self._emit(
            DelegationProposed(
                proposal_id=self._effects.key(),
                target=target.name,
                title=arguments.title,
                description=arguments.description,
                requirements=tuple(arguments.requirements),
                priority=arguments.priority,
                deadline=arguments.deadline,
                success_criteria=tuple(arguments.success_criteria),
            )
        )
        return (
            f"The proposal “{arguments.title}” for {target.title or target.name} is written down, and nothing has been "
            "sent yet. The person sees a preview and confirms, edits or rejects it. Say so in your answer, and stop: "
            "do not call this tool again for the same work, and do not do the work yourself."
        )


def delegate_tools(ctx: RunContext, proposals: Proposals) -> list[Tool]:
    """A tool for each team that may be proposed, named `delegate_to_` and the team's name with underscores."""
    return [_tool(target, proposals) for target in ctx.delegates]


@functools.cache
def _parameters() -> Mapping[str, Any]:
    return DelegateArguments.model_json_schema()


def _tool(target: Delegate, proposals: Proposals) -> Tool:
    def work(arguments: Mapping[str, Any]) -> str:
        return proposals.propose(target, DelegateArguments.model_validate(arguments))

    purpose = f" Its purpose: {target.purpose}" if target.purpose else ""
    title = target.title or target.name
    description = f"Propose work to the team {title}. A person confirms before anything is sent.{purpose}"
    return Tool(tool_name(target.name), description, _parameters(), work)
