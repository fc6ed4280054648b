"""One run of a flow: begun, or gone on with after a question."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from elf_sdk.adapters.base import Bridge
from elf_sdk.adapters.crewai.kept import Kept
from elf_sdk.adapters.crewai.questions import Asked
from elf_sdk.runs.adapter import RunContext, RunError
from elf_sdk.runs.events import Answered, InputRequired, Rewound, holding

if TYPE_CHECKING:
    from crewai.flow.persistence.base import FlowPersistence

__all__ = ["latest_output", "run_flow"]


def run_flow(
    flow: Any,
    ctx: RunContext,
    bridge: Bridge,
    kept: Kept,
    store: FlowPersistence,
    inputs: Mapping[str, Any],
) -> str:
    """Kick the flow off; or resume it, where a person has answered what it asked.

    Returns:
        The answer; empty where the last method gave nothing back.

    Raises:
        Asked: the run waits for a person.
        RunError: the flow was cut off before it asked anything, or reads the console.
        Exception: whatever went wrong in the flow.
    """
    _refuse_console(flow)
    if not any(method.is_start for method in flow._definition.methods.values()):
        raise RunError(f"the flow {type(flow).__name__} has no method to begin with; decorate one with @start()")
    flow.stream = False  # it gives back a stream instead of a result
    pending = kept.get("flow/pending")
    if pending is not None and pending["question_id"] not in ctx.answers:
        _ask(bridge, pending)
    if ctx.attempt > 1:
        if pending is None:
            raise RunError(
                "the work was cut off, and a flow can go on only from a question that it has asked; start it again",
                code="interrupted",
                retryable=True,
            )
        answers = (one.seq for one in holding(ctx.before) if isinstance(one.event, Answered))
        bridge.push(Rewound(max(answers, default=0)))
    if pending is None:
        result = flow.kickoff(inputs=dict(inputs))
    else:
        result = asyncio.run(_resumed(flow, store, pending, ctx.answers[pending["question_id"]]))
    if type(result).__name__ == "HumanFeedbackPending":
        context = result.context
        question = {
            "question_id": f"{context.method_name}-{len(ctx.answers) + 1}",
            "prompt": _prompt(context),
            # The model that reads the answer is taken from the flow again, so that no key of it is kept.
            "context": context.to_dict() | {"llm": None},
            "state": flow._copy_and_serialize_state(),
        }
        kept.save("flow/pending", question)
        _ask(bridge, question)
    return _text(result)


async def _resumed(flow: Any, store: FlowPersistence, pending: Mapping[str, Any], answer: str) -> Any:
    def built(persistence: FlowPersistence) -> Any:
        flow.persistence = persistence
        return flow

    # CrewAI restores an instance of the class; the author's factory has made one already, with what it needs.
    type(flow).from_pending.__func__(built, pending["context"]["flow_id"], store)
    asked = flow._definition.methods[pending["context"]["method_name"]].human_feedback
    flow.pending_feedback.llm = asked.llm if asked is not None else None
    return await flow.resume_async(answer)


def _ask(bridge: Bridge, question: Mapping[str, Any]) -> None:
    bridge.push(InputRequired(question["question_id"], question["prompt"]))
    raise Asked


def _prompt(context: Any) -> str:
    parts = [context.message, _text(context.method_output)]
    if context.emit:
        parts.append(f"Possible outcomes: {', '.join(context.emit)}.")
    return "\n\n".join(part for part in parts if part)


def _refuse_console(flow: Any) -> None:
    from crewai.flow.async_feedback.providers import ConsoleProvider

    methods = flow._definition.methods
    asking = [str(name) for name, method in methods.items() if method.human_feedback is not None]
    at_console = [name for name in asking if isinstance(methods[name].human_feedback.provider, ConsoleProvider)]
    if at_console or isinstance(flow.input_provider, ConsoleProvider):
        where = f"the method {at_console[0]}" if at_console else "the flow"
        raise RunError(f"{where} asks at the console, where nobody is; leave the ConsoleProvider out")


def latest_output(flow: Any) -> str:
    """What a method of the flow gave back at last: the last one may only have written a file."""
    return _text(next((output for output in reversed(flow.method_outputs) if output is not None), None))


def _text(result: Any) -> str:
    if result is None or isinstance(result, str):
        return result or ""
    if hasattr(result, "feedback") and hasattr(result, "outcome"):
        return _text(result.output)
    if isinstance(getattr(result, "raw", None), str):
        return str(result.raw)
    if hasattr(result, "model_dump_json"):
        return str(result.model_dump_json())
    if isinstance(result, dict | list | tuple):
        return orjson.dumps(result, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return str(result)
