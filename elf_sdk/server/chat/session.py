"""One conversation between a person and a team: its runs, its delegations, and the frames that tell of them.

A session does no socket work: it takes the client's frames and puts the server's into an outbox, in the order in
which they are to be seen. Runs and delegations outlive it; they are in the store.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from elf_sdk.errors import BadInput, Conflict, ElfError, Forbidden
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import (
    Answered,
    AuthRequired,
    Cancelled,
    DelegationProposed,
    Failed,
    InputRequired,
    LoggedEvent,
    Rewound,
    Step,
    TextDelta,
    ToolCall,
)
from elf_sdk.runs.run import IdempotencyKey, Run, RunRequest
from elf_sdk.server.auth import Principal
from elf_sdk.server.chat.frames import (
    CODE_LENGTH,
    Answer,
    ClientFrame,
    Confirm,
    DelegationPreview,
    DelegationUpdate,
    Message,
    Question,
    Reject,
    ServerFrame,
    Stop,
)
from elf_sdk.server.courier import Courier, Progress
from elf_sdk.server.preview import Preview, preview_of

__all__ = ["ChatSession", "PreviewHook"]

log = logging.getLogger("elf.chat")

_OUTBOX: Final = 512
"""Frames that may wait for a slow reader; then the session stops reading its runs."""
_CONFIRMED: Final = "confirmed"
_PREVIEWS: Final = 200
"""Delegations that a session shows; a person reads no more, and each is kept until the end of the session."""


@dataclass(frozen=True, slots=True)
class _Result:
    """What came back from another team since the last turn; the manager is told with the next message."""

    team: str
    title: str
    text: str

    def as_json(self) -> dict[str, str]:
        return {"team": self.team, "title": self.title, "text": self.text}


PreviewHook = Callable[[Preview], Awaitable[Preview]]
"""Has the last word on a preview: `TeamServer.on_delegate`."""


class ChatSession:
    """A conversation.

    Args:
        principal: who talks.
        engine: runs the team.
        courier: delivers what is confirmed.
        environment: which environment this is; enters each preview.
        on_delegate: the team's hook.
    """

    def __init__(
        self,
        principal: Principal,
        engine: Engine,
        courier: Courier,
        *,
        environment: str,
        on_delegate: PreviewHook,
    ) -> None:
        self.id = f"session-{uuid.uuid4().hex}"
        self.principal = principal
        self.outbox: asyncio.Queue[ServerFrame] = asyncio.Queue(_OUTBOX)
        self.messages = 0
        self._engine = engine
        self._courier = courier
        self._environment = environment
        self._on_delegate = on_delegate
        self._previews: dict[str, Preview] = {}
        self._decided: dict[str, str] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._questions: dict[str, str] = {}  # which question each run waits for, the oldest first
        self._results: list[_Result] = []
        self._closed = False

    @property
    def delegations(self) -> int:
        """How many were confirmed; one that was confirmed again counts once."""
        return sum(decision == _CONFIRMED for decision in self._decided.values())

    async def handle(self, frame: ClientFrame) -> None:
        """Do what the client asked. What cannot be done becomes an error frame."""
        try:
            match frame:
                case Message():
                    await self._say(frame)
                case Answer():
                    await self._answer(frame)
                case Confirm():
                    await self._confirm(self._find(frame.hash))
                case Reject():
                    await self._reject(self._find(frame.hash), frame.reason)
                case Stop():
                    await self.stop()
                case _:
                    raise BadInput(f"a {frame.type} frame means nothing here")
        except ElfError as error:
            await self._fail(type(error).__name__, str(error))

    async def stop(self) -> None:
        """Cancel what runs in this session; delegations that were confirmed go on."""
        for run_id in list(self._runs):
            try:
                await self._engine.cancel(run_id, self.principal.owner, "stopped by the user")
            except Conflict:
                log.debug("run %s ended before it could be stopped", run_id)

    async def close(self) -> None:
        """Stop telling. Runs go on. What waits in the outbox stays there for a last word."""
        self._closed = True
        tasks = list(self._runs.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Nobody reads the outbox any more, so whoever waits for room in it would wait without end.
        self.outbox, left = asyncio.Queue(), self.outbox
        while not left.empty():
            self.outbox.put_nowait(left.get_nowait())
            await asyncio.sleep(0)

    async def progress(self, news: Progress) -> None:
        """News of a delegation that was confirmed in this session."""
        if self._closed:
            return
        frame: DelegationUpdate = {
            "type": "delegation_update",
            "delegation_id": news.delegation_id,
            "target": news.target,
            "state": news.state.value,
        }
        if news.delta:
            frame["delta"] = news.delta
        if news.detail:
            frame["detail"] = news.detail
        if news.result is not None:
            frame["result"] = news.result
            title = next((p.title for p in self._previews.values() if p.delegation_id == news.delegation_id), "")
            self._results.append(_Result(news.target, title, news.result or news.detail))
        await self.outbox.put(frame)

    async def _say(self, message: Message) -> None:
        self.messages += 1
        results, self._results = self._results, []
        metadata = {"results": [result.as_json() for result in results]} if results else {}
        request = RunRequest(self._engine.spec.name, self.principal.owner, self.id, message.text, metadata)
        key = IdempotencyKey("chat", "message", f"{self.id}:{message.message_id}") if message.message_id else None
        run = await self._engine.start(request, key)
        if run.id not in self._runs and self._runs.keys() - self._questions.keys():
            await self._status(run, "queued", "this waits until the answer before it is complete")
        if run.id not in self._runs:
            task = asyncio.create_task(self._follow(run), name=f"chat of run {run.id}")
            self._runs[run.id] = task
            task.add_done_callback(lambda _: self._runs.pop(run.id, None))

    async def _answer(self, answer: Answer) -> None:
        self.messages += 1
        if answer.run_id is not None and answer.question_id is not None:
            run_id, question_id = answer.run_id, answer.question_id
        elif self._questions:
            run_id, question_id = next(iter(self._questions.items()))
        else:
            raise Conflict("nothing was asked here that is not answered; send it as a message")
        if run_id not in self._runs:
            raise Conflict(f"the run {run_id!r} waits for no answer in this session")
        await self._engine.answer(run_id, self.principal.owner, question_id, answer.text)

    async def _follow(self, run: Run) -> None:
        said: list[tuple[int, str]] = []
        try:
            async for logged in self._engine.subscribe(run.id, self.principal.owner):
                match logged.event:
                    case TextDelta(text=text):
                        said.append((logged.seq, text))
                    case Rewound(to_seq=to_seq) if said and said[-1][0] > to_seq:
                        said = [piece for piece in said if piece[0] <= to_seq]
                        await self._replace(run, "".join(text for _, text in said))
                await self._tell(run, logged)
        except ElfError as error:
            await self._fail(type(error).__name__, str(error))
        except Exception:
            # The team's own hook, or a fault of ours; without this the client would wait for the end of the answer.
            log.exception("run %s could not be told of in %s", run.id, self.id)
            await self._fail("Failure", "the rest of the answer cannot be shown; the server's log says why")
        self._questions.pop(run.id, None)
        await self.outbox.put({"type": "message", "run_id": run.id, "delta": "", "done": True})

    async def _tell(self, run: Run, logged: LoggedEvent) -> None:
        match logged.event:
            case TextDelta(text=text):
                await self.outbox.put({"type": "message", "run_id": run.id, "delta": text, "done": False})
            case Step(name=name, phase="start", agent=agent):
                await self._status(run, "step", f"{agent}: {name}" if agent else name)
            case ToolCall(name=name):
                await self._status(run, "tool", name)
            case InputRequired() as question:
                # Of several one is shown: its answer makes the run go on, and the others are asked again then.
                if self._questions.setdefault(run.id, question.question_id) == question.question_id:
                    await self._ask(run, question)
            case Answered():
                self._questions.pop(run.id, None)
            case DelegationProposed() as proposed:
                await self._propose(run, proposed)
            case Failed(code=code, message=text):
                await self._fail(code, text)
            case Cancelled(reason=reason):
                await self._status(run, "cancelled", reason)

    async def _replace(self, run: Run, text: str) -> None:
        await self.outbox.put({"type": "message", "run_id": run.id, "delta": text, "done": False, "replaces": True})

    async def _ask(self, run: Run, question: InputRequired) -> None:
        frame: Question = {
            "type": "question",
            "run_id": run.id,
            "question_id": question.question_id,
            "prompt": question.prompt,
            "answer_with": "/answer TEXT",
        }
        if isinstance(question, AuthRequired) and question.url:
            frame["url"] = question.url
        await self.outbox.put(frame)

    async def _status(self, run: Run, state: str, detail: str) -> None:
        await self.outbox.put({"type": "status", "state": state, "run_id": run.id, "detail": detail})

    def _title(self, target: str) -> str:
        title = next((d.title for d in self._engine.delegates if d.name == target), None)
        if title is None:
            raise Forbidden(f"{self._engine.spec.name} does not manage {target!r}, so nothing can be delegated to it")
        return title

    def _held_to(self, own: Preview, changed: Preview) -> Preview:
        """What the hook made of a preview, without what is not the hook's: where, for whom, and whether to ask."""
        return replace(
            changed,
            session_id=own.session_id,
            user=own.user,
            environment=own.environment,
            run_id=own.run_id,
            proposal_id=own.proposal_id,
            target_title=self._title(changed.target),
            route=(*own.route[:-1], changed.target),
            approval=own.approval if own.approval != "none" else changed.approval,
        )

    async def _propose(self, run: Run, proposed: DelegationProposed) -> None:
        try:
            title = self._title(proposed.target)
        except Forbidden as error:
            await self._fail("Forbidden", str(error))
            return
        if len(self._previews) >= _PREVIEWS:
            raise Conflict(f"a session shows at most {_PREVIEWS} delegations; start another for more")
        own = preview_of(
            proposed,
            self._engine.spec,
            session_id=self.id,
            user=self.principal.owner.subject,
            environment=self._environment,
            run_id=run.id,
            target_title=title,
        )
        preview = self._held_to(own, await self._on_delegate(own))
        self._previews[preview.hash] = preview
        if self._engine.spec.delegation.preview:
            await self.outbox.put(_preview_frame(preview))
        if preview.approval == "none":
            await self._confirm(preview)

    async def _fail(self, code: str, message: str) -> None:
        await self.outbox.put({"type": "error", "code": code, "message": message})

    def _find(self, code: str) -> Preview:
        found = [preview for digest, preview in self._previews.items() if digest.startswith(code)]
        if len(found) != 1:
            raise BadInput(f"no delegation was shown here under {code!r}; use the hash of a preview of this session")
        return found[0]

    def _decide(self, preview: Preview, decision: str) -> None:
        """The same decision twice is one; a second, different one is refused."""
        before = self._decided.setdefault(preview.hash, decision)
        if before != decision:
            raise Conflict(f"the delegation {preview.title!r} is {before} already")

    async def _confirm(self, preview: Preview) -> None:
        if preview.target not in {delegate.name for delegate in self._engine.delegates}:
            raise Conflict(f"{preview.target} is not managed by this team any more; nothing was sent")
        self._decide(preview, _CONFIRMED)
        row = await self._courier.confirm(preview, self.principal.owner)
        await self._update(preview, row.state.value, _CONFIRMED)

    async def _reject(self, preview: Preview, reason: str) -> None:
        self._decide(preview, "rejected")
        self._results.append(
            _Result(preview.target, preview.title, f"the user refused this delegation. {reason}".strip())
        )
        await self._update(preview, "rejected", reason)

    async def _update(self, preview: Preview, state: str, detail: str) -> None:
        frame: DelegationUpdate = {
            "type": "delegation_update",
            "delegation_id": preview.delegation_id,
            "target": preview.target,
            "state": state,
            "detail": detail,
        }
        await self.outbox.put(frame)


def _preview_frame(preview: Preview) -> DelegationPreview:
    code = preview.hash[:CODE_LENGTH]
    return {
        "type": "delegation_preview",
        "run_id": preview.run_id,
        "delegation_id": preview.delegation_id,
        "hash": preview.hash,
        "title": preview.title,
        "description": preview.description,
        "requirements": list(preview.requirements),
        "priority": preview.priority,
        "deadline": preview.deadline,
        "constraints": list(preview.constraints),
        "success_criteria": list(preview.success_criteria),
        "target": preview.target,
        "target_title": preview.target_title,
        "route": list(preview.route),
        "approval": preview.approval,
        "confirm_with": f"/confirm {code}",
        "reject_with": f"/reject {code}",
    }
