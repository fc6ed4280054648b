"""The `delegate` tool, as every framework offers it to its models: a name, a schema, and the text that comes back.

Calling it sends nothing. It proposes: an event goes out, a person sees a preview and decides.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from elf_sdk.runs.adapter import Delegate, RunContext
from elf_sdk.runs.events import DelegationProposed, Event

__all__ = ["DelegateArguments", "DelegateTool", "delegate_tools", "tool_name"]


class DelegateArguments(BaseModel):
    """What the other team needs to know to do the work."""

    title: Annotated[str, Field(max_length=200, description="The work in a few words.")]
    description: Annotated[str, Field(description="What is to be done and why, with all that the team needs to know.")]
    requirements: Annotated[list[str], Field(description="What the result has to fulfil.")] = []
    priority: Annotated[Literal["low", "normal", "high", "urgent"], Field(description="How urgent it is.")] = "normal"
    deadline: Annotated[str, Field(description="By when, as a date or in words; empty if there is none.")] = ""
    success_criteria: Annotated[list[str], Field(description="How one sees that it worked.")] = []


@dataclass(frozen=True, slots=True)
class DelegateTool:
    """One team's tool, in one run.

    Attributes:
        target: the team.
        name: `delegate_to_` and the team's name with underscores.
        description: for the model.
        propose: emits the proposal and returns the text for the model.
    """

    target: Delegate
    name: str
    description: str
    propose: Callable[[DelegateArguments], str]

    def call(self, **arguments: Any) -> str:
        """Propose work, with the arguments that the model gave.

        Raises:
            ValueError: they do not fit `DelegateArguments`.
        """
        return self.propose(DelegateArguments.model_validate(arguments))


def tool_name(team: str) -> str:
    """`delegate_to_marketing_team` for `marketing-team`."""
    return f"delegate_to_{team.replace('-', '_')}"


def delegate_tools(ctx: RunContext, emit: Callable[[Event], None]) -> list[DelegateTool]:
    """A tool for each team that may be proposed.

    Args:
        ctx: of the run; its id and an ordinal make each proposal's id, so the same run proposes under the same ids.
        emit: takes the `DelegationProposed`, from whatever thread the framework calls the tool in.
    """
    ordinals = itertools.count(1)
    return [_tool(ctx, target, emit, ordinals) for target in ctx.delegates]


def _tool(ctx: RunContext, target: Delegate, emit: Callable[[Event], None], ordinals: Iterator[int]) -> DelegateTool:
    title = target.title or target.name

    def propose(arguments: DelegateArguments) -> str:
        emit(
            DelegationProposed(
                proposal_id=f"{ctx.run_id}-{next(ordinals)}",
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
            f"The proposal “{arguments.title}” for {title} is written down, and nothing has been sent yet. The person "
            "sees a preview and confirms, edits or rejects it. Say so in your answer, and stop: do not call this tool "
            "again for the same work, and do not do the work yourself."
        )

    purpose = f" Its purpose: {target.purpose}" if target.purpose else ""
    description = f"Propose work to the team {title}. A person confirms before anything is sent.{purpose}"
    return DelegateTool(target, tool_name(target.name), description, propose)
