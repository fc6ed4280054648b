"""One run of a crew: begun, or gone on with after a question or a crash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from elf_sdk.adapters.base import Bridge
from elf_sdk.adapters.crewai.kept import FinishedTasks, rewind
from elf_sdk.adapters.crewai.questions import Reviewer
from elf_sdk.adapters.crewai.watcher import step_name
from elf_sdk.runs.adapter import RunContext
from elf_sdk.runs.events import Rewound, Step

__all__ = ["run_crew"]


def run_crew(
    crew: Any,
    ctx: RunContext,
    bridge: Bridge,
    finished: FinishedTasks,
    reviewer: Reviewer,
    inputs: Mapping[str, Any],
) -> str:
    """Kick the crew off, without those of its tasks that were finished before.

    Returns:
        The answer.

    Raises:
        Asked: the run waits for a person.
        Exception: whatever went wrong in the crew.
    """
    outputs = finished.outputs()
    accepted = reviewer.watch(crew.tasks)
    if ctx.attempt > 1:
        _say_what_is_repeated(crew, ctx, bridge, outputs)
    for place, task in enumerate(crew.tasks):
        if place in outputs:
            _answer_with(task, outputs[place])
        elif place in accepted:
            _do_with(task, accepted[place])
    crew.stream = False  # it gives back a stream instead of an output
    return str(crew.kickoff(inputs=dict(inputs)).raw)


def _say_what_is_repeated(crew: Any, ctx: RunContext, bridge: Bridge, outputs: Mapping[int, Any]) -> None:
    # The last task's text is said again whatever was kept: how much of it was stored is not known here.
    last = len(crew.tasks) - 1
    again = {step_name(task) for place, task in enumerate(crew.tasks) if place not in outputs or place == last}
    to_seq, holding = rewind(ctx.before, again)
    bridge.push(Rewound(to_seq))
    shown = {one.event.name for one in holding if isinstance(one.event, Step) and one.event.phase == "end"}
    for place, output in outputs.items():
        name = step_name(crew.tasks[place])
        if name not in shown:
            bridge.push(Step(name, "start", output.agent))
            bridge.push(Step(name, "end", output.agent))


def _answer_with(task: Any, output: Any) -> None:
    """Let a task that was finished before give its output, without doing anything."""

    def done(*_: Any, **__: Any) -> Any:
        return output

    def soon(*_: Any, **__: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(output)
        return future

    task.output = output
    object.__setattr__(task, "execute_sync", done)
    object.__setattr__(task, "execute_async", soon)


def _do_with(task: Any, text: str) -> None:
    """Let a task's agent answer once with what a person has accepted; guardrails and all that follows come as ever."""
    work: Callable[..., Any] = task._execute_core

    def accepted(agent: Any, context: Any, tools: Any) -> Any:
        executed, left = agent.execute_task, [text]

        def execute(task: Any, *arguments: Any, **named: Any) -> Any:
            return left.pop() if left and task is given else executed(task, *arguments, **named)

        object.__setattr__(agent, "execute_task", execute)
        try:
            return work(agent, context, tools)
        finally:
            object.__delattr__(agent, "execute_task")

    given = task
    object.__setattr__(task, "_execute_core", accepted)
