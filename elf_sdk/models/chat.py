"""A minimal client for OpenAI-compatible chat completions, for teams without a framework.

Source of the format: OpenAI's API reference, "Create chat completion" with `stream: true`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import orjson

from elf_sdk.models.llm import Endpoint

__all__ = ["ChatClient", "TokenCount"]

_LONGEST_WAIT: Final = 30.0


@dataclass(frozen=True, slots=True)
class TokenCount:
    """What one call used, in tokens.

    Attributes:
        input: all that was read.
        output: all that was written.
        cached: of the input, those that the provider had in its cache.
        reasoning: of the output, those that were thought and not said.
    """

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0


class ChatClient:
    """Talks to one endpoint over kept-alive connections; close it when the run ends."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        # Anthropic's own API has the OpenAI-compatible one beside it, under /v1.
        base = f"{endpoint.base_url}/v1" if endpoint.provider == "anthropic" else endpoint.base_url
        self._url = f"{base}/chat/completions"
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {endpoint.api_key}"}, timeout=httpx.Timeout(endpoint.timeout)
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def stream(self, messages: Sequence[Mapping[str, Any]]) -> AsyncGenerator[str | TokenCount, None]:
        """The answer in pieces as they arrive, then what it used, if the model says so.

        A call that fails before its first piece is tried again, `retries` times, when trying again may help.

        Raises:
            httpx.HTTPStatusError: the model refused; the response's body has been read.
            httpx.TransportError: it could not be reached, or the connection broke, or a timeout passed.
        """
        tries = self._endpoint.retries
        for attempt in range(tries + 1):
            begun = False
            try:
                async for piece in self._once(messages):
                    begun = True
                    yield piece
                return
            except (httpx.HTTPStatusError, httpx.TransportError) as error:
                if begun or attempt == tries or not _may_help(error):
                    raise
                await asyncio.sleep(_wait(error, attempt))

    async def _once(self, messages: Sequence[Mapping[str, Any]]) -> AsyncGenerator[str | TokenCount, None]:
        body = {
            "model": self._endpoint.model,
            "messages": list(messages),
            "temperature": self._endpoint.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        async with self._http.stream("POST", self._url, json=body) as response:
            if response.is_error:
                await response.aread()
                response.raise_for_status()
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or data == "[DONE]":
                    continue
                chunk = orjson.loads(data)
                for choice in chunk.get("choices") or ():
                    if text := (choice.get("delta") or {}).get("content"):
                        yield text
                if usage := chunk.get("usage"):
                    yield _counted(usage)


def _counted(usage: Mapping[str, Any]) -> TokenCount:
    # The details, and each of their numbers, may be absent or null.
    took, gave = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    return TokenCount(
        input=int(usage.get("prompt_tokens") or 0),
        output=int(usage.get("completion_tokens") or 0),
        cached=int(took.get("cached_tokens") or 0),
        reasoning=int(gave.get("reasoning_tokens") or 0),
    )


def _may_help(error: httpx.HTTPStatusError | httpx.TransportError) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status in (408, 409, 429) or status >= 500
    return True


def _wait(error: httpx.HTTPStatusError | httpx.TransportError, attempt: int) -> float:
    after = error.response.headers.get("Retry-After", "") if isinstance(error, httpx.HTTPStatusError) else ""
    if after.isdecimal():
        return min(float(after), _LONGEST_WAIT)
    return min(0.5 * 2.0**attempt, _LONGEST_WAIT) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
