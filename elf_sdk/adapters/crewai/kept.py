"""What a run of CrewAI keeps, so that another process can go on with it: finished tasks, questions, a flow's state.

CrewAI's own checkpoints are not used: they hold the whole crew, with its model's key. Here only what was said is kept.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from elf_sdk.runs.checkpoints import Checkpoints
from elf_sdk.runs.events import Answered, LoggedEvent, Step, holding

if TYPE_CHECKING:
    from crewai.flow.persistence.base import FlowPersistence
    from crewai.tasks.task_output import TaskOutput

__all__ = ["FinishedTasks", "Kept", "flow_store", "rewind"]

_PREFIX: Final = "crewai/"


class Kept:
    """JSON by key, for one run, written through from any thread but the loop's.

    Args:
        checkpoints: of the run.
        loop: on which they are used.
        entries: those there are.
    """

    def __init__(
        self, checkpoints: Checkpoints, loop: asyncio.AbstractEventLoop, entries: Mapping[str, bytes] | None = None
    ) -> None:
        self._checkpoints = checkpoints
        self._loop = loop
        self._entries = dict(entries or {})

    @classmethod
    async def load(cls, checkpoints: Checkpoints) -> Kept:
        """What the run has kept."""
        return cls(checkpoints, asyncio.get_running_loop(), await checkpoints.load(_PREFIX))

    def get(self, key: str) -> Any:
        """The value, or None."""
        data = self._entries.get(_PREFIX + key)
        return None if data is None else orjson.loads(data)

    def save(self, key: str, value: Any) -> None:
        """Keep `value`, which is durable when this returns. What JSON does not know becomes text.

        Raises:
            ElfError: see `Checkpoints.save`.
        """
        data = orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)
        asyncio.run_coroutine_threadsafe(self._checkpoints.save({_PREFIX + key: data}), self._loop).result()
        self._entries[_PREFIX + key] = data


class FinishedTasks:
    """The outputs of a crew's finished tasks.

    Args:
        kept: what the run keeps.
        tasks: the crew's, before it begins. Outputs of a crew with other tasks are not these.
    """

    def __init__(self, kept: Kept, tasks: Sequence[Any]) -> None:
        self._kept = kept
        self._tasks = tasks
        parts = [[task.name, task.description, task.expected_output, _role(task)] for task in tasks]
        self._crew = hashlib.sha256(orjson.dumps(parts)).hexdigest()
        self._places = {str(task.id): place for place, task in enumerate(tasks)}

    def save(self, task: Any, output: TaskOutput) -> None:
        """Keep the output of a task, if it is one of the crew's own."""
        place = self._places.get(str(getattr(task, "id", "")))
        if place is not None:
            shown = output.pydantic.model_dump(mode="json") if output.pydantic is not None else None
            plain = {"raw": output.raw, "json_dict": output.json_dict, "agent": output.agent, "name": output.name}
            self._kept.save(f"task/{place:04d}", plain | {"crew": self._crew, "pydantic": shown})

    def outputs(self) -> dict[int, TaskOutput]:
        """Those there are, by the task's place in the crew."""
        found = ((place, self._kept.get(f"task/{place:04d}")) for place in range(len(self._tasks)))
        return {place: self._output(place, data) for place, data in found if data and data["crew"] == self._crew}

    def _output(self, place: int, data: Mapping[str, Any]) -> TaskOutput:
        from crewai.tasks.task_output import TaskOutput

        task = self._tasks[place]
        model = task.output_pydantic
        return TaskOutput(
            name=data["name"],
            description=task.description,
            expected_output=task.expected_output,
            raw=data["raw"],
            json_dict=data["json_dict"],
            pydantic=model.model_validate(data["pydantic"]) if model and data["pydantic"] is not None else None,
            agent=data["agent"],
            output_format=task._get_output_format(),
        )


def flow_store(kept: Kept) -> FlowPersistence:
    """Where a flow keeps its state: with the run."""
    store: FlowPersistence = _store_class()(kept)
    return store


@functools.cache
def _store_class() -> Any:
    from crewai.flow.async_feedback.types import PendingFeedbackContext
    from crewai.flow.persistence.base import FlowPersistence
    from pydantic import PrivateAttr

    class RunStore(FlowPersistence):
        persistence_type: str = "elf"
        _kept: Kept = PrivateAttr()

        def __init__(self, kept: Kept) -> None:
            super().__init__()
            self._kept = kept

        def init_db(self) -> None: ...

        def save_state(self, flow_uuid: str, method_name: str, state_data: Any) -> None:
            self._kept.save(f"flow/state/{flow_uuid}", state_data)

        def load_state(self, flow_uuid: str) -> dict[str, Any] | None:
            state: dict[str, Any] | None = self._kept.get(f"flow/state/{flow_uuid}")
            return state

        def load_pending_feedback(self, flow_uuid: str) -> tuple[dict[str, Any], PendingFeedbackContext] | None:
            pending = self._kept.get("flow/pending")
            return (pending["state"], PendingFeedbackContext.from_dict(pending["context"])) if pending else None

    return RunStore


def rewind(before: Sequence[LoggedEvent], again: Iterable[str]) -> tuple[int, list[LoggedEvent]]:
    """Where the steps named in `again` first began since the last answer, and what was logged until there.

    Returns:
        The number of the last event that still holds, and all events that hold until there. The log's last number,
        where nothing of it is done again.
    """
    standing = holding(before)
    answered = max((logged.seq for logged in standing if isinstance(logged.event, Answered)), default=0)
    names = set(again)
    begun = (
        logged.seq
        for logged in standing
        if logged.seq > answered and isinstance(logged.event, Step) and logged.event.name in names
    )
    last = before[-1].seq if before else 0
    to_seq = next((seq - 1 for seq in begun), last)
    return to_seq, [logged for logged in standing if logged.seq <= to_seq]


def _role(task: Any) -> str:
    return str(getattr(task.agent, "role", "")).strip()


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) else str(value)
