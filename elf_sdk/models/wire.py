"""How an answer of the offline model looks on the wire, in the two APIs that it speaks. Decides without I/O.

Nothing is random and no clock is read: the same request gets the same bytes.

Sources: OpenAI's API reference, "Create chat completion"; Anthropic's, "Create a Message", "Streaming messages" and
"Errors".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

import orjson

from elf_sdk.models.script import text_of

__all__ = ["FINGERPRINT", "Answer", "Completions", "Messages", "Wire", "as_completion"]

FINGERPRINT: Final = "elf-offline"
_LIMIT: Final = 8192
"""Tokens that the model claims to take, where the script has it say that there were more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be said.

    Attributes:
        digest: of the request, hexadecimal; ids are made of it.
        model: as the request names it.
        text: all of it.
        calls: tools with their arguments as text.
        finish: why the model stops, in OpenAI's words, or empty for the usual reason.
        counts: whether a stream is to tell the usage.
    """

    digest: str
    model: str
    text: str
    calls: tuple[tuple[str, str], ...]
    finish: str
    counts: bool


class Wire(Protocol):
    """An API: what a stream is made of, a whole answer, and an error. Items of a stream are its frames."""

    def opening(self) -> Iterator[bytes]:
        """What a stream begins with."""
        ...

    def piece(self, part: int, text: str) -> Iterator[bytes]:
        """The next piece of a part: -1 is the text, and others are tool calls by their number."""
        ...

    def closing(self, read: int, written: int) -> Iterator[bytes]:
        """What a stream ends with; tokens as counted."""
        ...

    def whole(self, read: int, written: int) -> Mapping[str, Any]:
        """The answer in one piece."""
        ...


def _frame(data: Mapping[str, Any] | bytes, event: str = "") -> bytes:
    named = b"event: " + event.encode() + b"\n" if event else b""
    return named + b"data: " + (data if isinstance(data, bytes) else orjson.dumps(data)) + b"\n\n"


class Completions:
    """OpenAI's chat completions."""

    @staticmethod
    def error(status: int, message: str, kind: str) -> Mapping[str, Any]:
        """The body of an error."""
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}

    @staticmethod
    def too_long(tokens: int) -> Mapping[str, Any]:
        """The body of the error about a conversation that is too long."""
        text = f"This model's maximum context length is {_LIMIT} tokens. Your messages have {_LIMIT + tokens} tokens."
        kind = {"type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}
        return {"error": {"message": text, **kind}}

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._head = {
            "id": f"chatcmpl-{answer.digest[:24]}",
            "created": 0,
            "model": answer.model,
            "system_fingerprint": FINGERPRINT,
        }
        self._finish = answer.finish or ("tool_calls" if answer.calls else "stop")
        self._calls = [
            {"id": _id("call", answer, number), "type": "function", "function": {"name": name, "arguments": arguments}}
            for number, (name, arguments) in enumerate(answer.calls)
        ]
        self._opened: set[int] = set()

    def opening(self) -> Iterator[bytes]:
        """See `Wire.opening`."""
        yield self._chunk({"role": "assistant", "content": ""})

    def piece(self, part: int, text: str) -> Iterator[bytes]:
        """See `Wire.piece`."""
        if part < 0:
            yield self._chunk({"content": text})
            return
        if part not in self._opened:
            self._opened.add(part)
            call = self._calls[part]
            head = {**call, "index": part, "function": {"name": self._answer.calls[part][0], "arguments": ""}}
            yield self._chunk({"tool_calls": [head]})
        yield self._chunk({"tool_calls": [{"index": part, "function": {"arguments": text}}]})

    def closing(self, read: int, written: int) -> Iterator[bytes]:
        """See `Wire.closing`."""
        yield self._chunk({}, finish=self._finish)
        if self._answer.counts:
            usage = {"object": "chat.completion.chunk", "choices": [], "usage": self._usage(read, written)}
            yield _frame(self._head | usage)
        yield _frame(b"[DONE]")

    def whole(self, read: int, written: int) -> Mapping[str, Any]:
        """See `Wire.whole`."""
        message: dict[str, Any] = {"role": "assistant", "content": self._answer.text or None, "refusal": None}
        if self._calls:
            message["tool_calls"] = self._calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish}
        return self._head | {"object": "chat.completion", "choices": [choice], "usage": self._usage(read, written)}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _frame(self._head | {"object": "chat.completion.chunk", "choices": [choice]})

    def _usage(self, read: int, written: int) -> dict[str, int]:
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


class Messages:
    """Anthropic's messages."""

    _FINISH: ClassVar = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
    _KINDS: ClassVar = {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        529: "overloaded_error",
    }

    @classmethod
    def error(cls, status: int, message: str, kind: str) -> Mapping[str, Any]:
        """The body of an error; its type follows from the status."""
        return {"type": "error", "error": {"type": cls._KINDS.get(status, "api_error"), "message": message}}

    @classmethod
    def too_long(cls, tokens: int) -> Mapping[str, Any]:
        """The body of the error about a conversation that is too long."""
        return cls.error(400, f"prompt is too long: {_LIMIT + tokens} tokens > {_LIMIT} maximum", "")

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._stop = self._FINISH.get(answer.finish, "tool_use" if answer.calls else "end_turn")
        self._block = -1
        self._part: int | None = None

    def opening(self) -> Iterator[bytes]:
        """See `Wire.opening`."""
        message = self._message([], None) | {"usage": self._usage(0, 0)}
        yield _frame({"type": "message_start", "message": message}, "message_start")

    def piece(self, part: int, text: str) -> Iterator[bytes]:
        """See `Wire.piece`."""
        if part != self._part:
            yield from self._close()
            self._part, self._block = part, self._block + 1
            block = {"type": "text", "text": ""} if part < 0 else self._tool(part) | {"input": {}}
            start = {"type": "content_block_start", "index": self._block, "content_block": block}
            yield _frame(start, "content_block_start")
        delta = {"type": "text_delta", "text": text} if part < 0 else {"type": "input_json_delta", "partial_json": text}
        yield _frame({"type": "content_block_delta", "index": self._block, "delta": delta}, "content_block_delta")

    def closing(self, read: int, written: int) -> Iterator[bytes]:
        """See `Wire.closing`."""
        yield from self._close()
        delta = {"stop_reason": self._stop, "stop_sequence": None}
        yield _frame({"type": "message_delta", "delta": delta, "usage": self._usage(read, written)}, "message_delta")
        yield _frame({"type": "message_stop"}, "message_stop")

    def whole(self, read: int, written: int) -> Mapping[str, Any]:
        """See `Wire.whole`. Arguments that are no JSON become none: a whole answer of this API cannot hold them."""
        content: list[dict[str, Any]] = [{"type": "text", "text": self._answer.text}] if self._answer.text else []
        for number, (_, written_arguments) in enumerate(self._answer.calls):
            try:
                arguments = orjson.loads(written_arguments)
            except orjson.JSONDecodeError:
                arguments = {}
            content.append(self._tool(number) | {"input": arguments})
        return self._message(content, self._stop) | {"usage": self._usage(read, written)}

    def _message(self, content: Sequence[Mapping[str, Any]], stop: str | None) -> dict[str, Any]:
        return {
            "id": f"msg_{self._answer.digest[:24]}",
            "type": "message",
            "role": "assistant",
            "model": self._answer.model,
            "content": list(content),
            "stop_reason": stop,
            "stop_sequence": None,
        }

    def _tool(self, number: int) -> dict[str, Any]:
        name = self._answer.calls[number][0]
        return {"type": "tool_use", "id": _id("toolu", self._answer, number), "name": name}

    def _close(self) -> Iterator[bytes]:
        if self._part is not None:
            yield _frame({"type": "content_block_stop", "index": self._block}, "content_block_stop")

    @staticmethod
    def _usage(read: int, written: int) -> dict[str, int]:
        return {"input_tokens": read, "output_tokens": written}


def _id(prefix: str, answer: Answer, number: int) -> str:
    return f"{prefix}_{answer.digest[24:40]}{number or ''}"


def as_completion(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request of Anthropic's API in the shape of OpenAI's, as far as scripts look at it.

    Raises:
        AttributeError, KeyError, TypeError: it has not the shape of the API.
    """
    messages: list[dict[str, Any]] = []
    if body.get("system"):
        messages.append({"role": "system", "content": body["system"]})
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        calls = [
            {
                "id": block["id"],
                "type": "function",
                "function": {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()},
            }
            for block in blocks
            if block["type"] == "tool_use"
        ]
        results = [block for block in blocks if block["type"] == "tool_result"]
        messages += [
            {"role": "tool", "tool_call_id": result["tool_use_id"], "content": text_of(result)} for result in results
        ]
        text = [block for block in blocks if block["type"] == "text"]
        if text or calls or not results:
            told = {"role": message["role"], "content": text or None}
            messages.append(told | ({"tool_calls": calls} if calls else {}))
    tools = [{"type": "function", "function": {"name": tool["name"]}} for tool in body.get("tools") or ()]
    return {**body, "messages": messages, "tools": tools}
