"""What a crew's placeholders and a flow's state get from a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from elf_sdk.runs.adapter import RunContext, RunError

__all__ = ["Inputs", "crew_inputs", "flow_inputs"]

Inputs = Mapping[str, Any] | Callable[[RunContext], Mapping[str, Any]]
"""What an author adds: the same for every run, or made of the run."""

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_\-]*"


def crew_inputs(crew: Any, ctx: RunContext, history: str, own: Inputs | None) -> dict[str, Any]:
    """The inputs of a crew: the author's, `message`, `history`, `current_year` and `current_date`.

    Where a message is a JSON object, its members fill placeholders of their names. If one placeholder is left without
    an input, and none is `{message}`, it gets the message: it is what the crew is asked about.

    Raises:
        RunError: a placeholder is left without an input; the message names it and says how to give it one.
    """
    given = _given(ctx, history, own)
    wanted = _placeholders(crew)
    open_names = wanted - given.keys()
    if open_names:
        members = _members(ctx.text)
        given |= {name: members[name] for name in open_names & members.keys()}
        open_names -= given.keys()
    if len(open_names) == 1 and "message" not in wanted:
        given[open_names.pop()] = ctx.text
    # What a crew does before it starts may add inputs of its own.
    if open_names and not crew.before_kickoff_callbacks:
        names = ", ".join(f"{{{name}}}" for name in sorted(open_names))
        example = ", ".join(f'"{name}": …' for name in sorted(open_names))
        raise RunError(
            f"the crew's tasks and agents have no input for {names}; give it with the adapter: "
            f"CrewAIAdapter(…, inputs={{{example}}}), or a function of the run's context that returns such a mapping"
        )
    return {name: _plain(value, given) for name, value in given.items()}


def flow_inputs(flow: Any, ctx: RunContext, history: str, own: Inputs | None) -> dict[str, Any]:
    """The inputs of a flow: the author's, and `message` and `history` where its state has fields of these names."""
    fields = getattr(type(flow.state), "model_fields", None)
    said = {"message": ctx.text, "history": history}
    if fields is not None and type(flow.state).model_config.get("extra") != "allow":
        said = {name: value for name, value in said.items() if name in fields}
    return said | dict(_own(ctx, own))


def _given(ctx: RunContext, history: str, own: Inputs | None) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "current_year": str(now.year),
        "current_date": now.date().isoformat(),
        "message": ctx.text,
        "history": history,
        **_own(ctx, own),
    }


def _own(ctx: RunContext, own: Inputs | None) -> Mapping[str, Any]:
    if own is None:
        return {}
    given = own(ctx) if callable(own) else own
    if not isinstance(given, Mapping):
        raise RunError(f"the inputs= of CrewAIAdapter gave a {type(given).__name__}; give a mapping of names to values")
    return given


def _placeholders(crew: Any) -> set[str]:
    texts = [text for task in crew.tasks for text in (task.description, task.expected_output, task.output_file)]
    texts += [text for agent in crew.agents for text in (agent.role, agent.goal, agent.backstory)]
    return {name for text in texts for name in re.findall(rf"\{{({_NAME})}}", text or "")}


def _members(text: str) -> Mapping[str, Any]:
    if not text.lstrip().startswith("{"):
        return {}
    try:
        loaded = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _plain(value: Any, names: Mapping[str, Any]) -> Any:
    # CrewAI fills in one input after the other, so a placeholder that a person typed would be filled in too.
    if not isinstance(value, str):
        return value
    return re.sub(rf"\{{({_NAME})}}", lambda found: f"{{ {found[1]} }}" if found[1] in names else found[0], value)
