"""A minimal client for OpenAI-compatible chat completions, for teams without a framework.

Source of the format: OpenAI's API reference, "Create chat completion" with `stream: true`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from elf_sdk.models.answer import broken_off, unanswered
from elf_sdk.models.dialect import Dialect, address
from elf_sdk.models.line import Line
from elf_sdk.models.llm import Endpoint

__all__ = ["ChatClient", "TokenCount"]


@dataclass(frozen=True, slots=True)
class TokenCount:
    """What one call used, in tokens.

    Attributes:
        model: the provider's name of the model that answered.
        provider: of a fallback that answered; empty for the team's own model.
        input: all that was read.
        output: all that was written.
        cached: of the input, those that the provider had in its cache.
        reasoning: of the output, those that were thought and not said.
    """

    model: str
    provider: str
    input: int
    output: int
    cached: int = 0
    reasoning: int = 0


class ChatClient:
    """Talks to one endpoint and its fallbacks over kept-alive connections; close it when the run ends.

    Args:
        endpoint: the model.
        deadline: of the run, by the monotonic clock; None where it has none.
    """

    def __init__(self, endpoint: Endpoint, deadline: float | None = None) -> None:
        self._endpoint = endpoint
        self._url = address(endpoint, Dialect.COMPLETIONS)
        self._line = Line(endpoint, deadline)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._line.aclose()

    async def stream(self, messages: Sequence[Mapping[str, Any]]) -> AsyncGenerator[str | TokenCount, None]:
        """The answer in pieces as they arrive, then what it used, if the model says so.

        Raises:
            ModelFailed: the answer is none.
            httpx.HTTPStatusError: the model refused, and so did its fallbacks; the response's body has been read.
            httpx.TransportError: it could not be reached, or the connection broke, or a timeout passed.
        """
        body = {
            "model": self._endpoint.model,
            "messages": list(messages),
            "temperature": self._endpoint.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        said, finish, named = False, "", ""
        async with self._line.asynchronous().stream("POST", self._url, json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or data == "[DONE]":
                    continue
                chunk = orjson.loads(data)
                named = str(chunk.get("model") or named)
                if error := chunk.get("error"):
                    said_by_model = error.get("message") if isinstance(error, Mapping) else error
                    raise broken_off(str(said_by_model), self._line.answered(named))
                for choice in chunk.get("choices") or ():
                    finish = choice.get("finish_reason") or finish
                    if text := (choice.get("delta") or {}).get("content"):
                        said = True
                        yield text
                if usage := chunk.get("usage"):
                    yield _counted(usage, *self._line.named(named))
        if not said:
            raise unanswered(finish, self._line.answered(named))


def _counted(usage: Mapping[str, Any], model: str, provider: str) -> TokenCount:
    # The details, and each of their numbers, may be absent or null.
    took, gave = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    return TokenCount(
        model,
        provider,
        input=int(usage.get("prompt_tokens") or 0),
        output=int(usage.get("completion_tokens") or 0),
        cached=int(took.get("cached_tokens") or 0),
        reasoning=int(gave.get("reasoning_tokens") or 0),
    )
