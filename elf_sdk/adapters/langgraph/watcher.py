"""What a graph does, as events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from elf_sdk.adapters.base import Bridge
from elf_sdk.adapters.tools import NO_JSON, called, failed, returned
from elf_sdk.runs.events import Step, TextDelta, Usage

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.messages.ai import UsageMetadata
    from langchain_core.outputs import LLMResult

__all__ = ["Answer", "Steps", "watcher"]


class Answer:
    """The answer as it grows; a blank line separates what different messages said."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._message: str | None = None
        self.begun = False

    async def add(self, message: Any) -> None:
        """Take a piece of a message of the answering node."""
        text = str(message.text)
        if not text:
            return
        if self.begun and message.id != self._message:
            await self._bridge.put(TextDelta("\n\n"))
        self._message = message.id
        await self.text(text)

    async def text(self, text: str) -> None:
        """Say it."""
        if text:
            self.begun = True
            await self._bridge.put(TextDelta(text))


class Steps:
    """Nodes of the graph itself, and of its subgraphs under their parents' names, as steps."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def task(self, namespace: tuple[str, ...], data: Mapping[str, Any]) -> None:
        """Take what LangGraph's stream of tasks says of one."""
        name = "/".join([*(part.partition(":")[0] for part in namespace), str(data["name"])])
        # A task is announced with its input, and reported with its result.
        await self._bridge.put(Step(name, "start" if "input" in data else "end"))


def _usage(model: str, usage: UsageMetadata) -> Usage:
    took, gave = usage.get("input_token_details") or {}, usage.get("output_token_details") or {}
    return Usage(
        model,
        usage["input_tokens"],
        usage["output_tokens"],
        cached_tokens=took.get("cache_read") or 0,
        reasoning_tokens=gave.get("reasoning") or 0,
    )


def watcher(bridge: Bridge, model: str) -> BaseCallbackHandler:
    """LangChain's callbacks as events: every model call and tool call, in whatever node, subgraph or thread."""
    from langchain_core.callbacks import BaseCallbackHandler

    class Watcher(BaseCallbackHandler):
        run_inline = True  # in order, and not on another thread
        raise_error = True  # so that a closed run ends

        def on_llm_end(self, response: LLMResult, **_: Any) -> None:
            for generation in (one for several in response.generations for one in several):
                message = getattr(generation, "message", None)
                usage = getattr(message, "usage_metadata", None)
                if usage:
                    bridge.push(_usage(model, usage))
                for call in getattr(message, "invalid_tool_calls", ()):
                    # LangChain sets it aside, and begins no call.
                    call_id = str(call["id"])
                    bridge.push(called(call_id, str(call["name"]), call["args"]))
                    bridge.push(failed(call_id, NO_JSON))

        def on_tool_start(
            self,
            serialized: dict[str, Any],
            input_str: str,
            *,
            run_id: UUID,
            inputs: dict[str, Any] | None = None,
            **_: Any,
        ) -> None:
            given = {"input": input_str} if inputs is None else inputs
            bridge.push(called(str(run_id), str((serialized or {}).get("name", "tool")), given))

        def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
            is_error = getattr(output, "status", "") == "error"
            bridge.push(returned(str(run_id), str(getattr(output, "content", output)), is_error=is_error))

        def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
            from langgraph.errors import GraphBubbleUp

            if not isinstance(error, GraphBubbleUp):  # which is a question, or a way to another graph
                bridge.push(failed(str(run_id), error))

    return Watcher()
