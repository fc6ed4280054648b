"""CrewAI's own LLM for a team's model, whose connections can be cut from another thread."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from elf_sdk.adapters.base import Closed, need
from elf_sdk.models.llm import Endpoint

if TYPE_CHECKING:
    import httpx
    from crewai.llms.base_llm import BaseLLM

__all__ = ["Lines", "crew_llm"]


class Lines:
    """The connections of one run to its model, so that a cancel can cut them from another thread."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._client: Any = None
        self._cut = False
        self._lock = threading.Lock()

    def watch(self, client: Any) -> None:
        """Follow the connections of an OpenAI client, by httpx's trace extension."""
        self._client = client
        http: httpx.Client = client._client
        http.event_hooks = {"request": [self._on_request], "response": []}

    def _on_request(self, request: httpx.Request) -> None:
        if self._cut:
            raise Closed
        request.extensions = {**request.extensions, "trace": self._trace}

    def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        if name in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            with self._lock:
                self._sockets.append(info["return_value"].get_extra_info("socket"))
            if self._cut:
                self.cut()

    def cut(self) -> None:
        """End all connections at once; a thread that waits for the model wakes up with an error."""
        self._cut = True
        with self._lock:
            for line in self._sockets:
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give back what the run used."""
        if self._client is not None:
            self._client.close()


def crew_llm(endpoint: Endpoint, lines: Lines) -> BaseLLM:
    """CrewAI's own LLM for the team's model.

    Raises:
        Missing: the provider's package is not installed.
    """
    from crewai import LLM

    # CrewAI warns at every call to a model whose tokens it cannot count beforehand.
    logger = logging.getLogger("crewai.llms.base_llm")
    if _not_about_counting not in logger.filters:
        logger.addFilter(_not_about_counting)
    settings: dict[str, Any] = {
        "api_key": endpoint.api_key,
        "temperature": endpoint.temperature,
        "timeout": endpoint.timeout,
        "max_retries": endpoint.retries,
        "stream": True,
    }
    if endpoint.provider == "anthropic":
        need("anthropic", "crewai[anthropic]")
        return LLM(model=endpoint.model, provider="anthropic", base_url=endpoint.base_url, **settings)
    # The prefix is taken off again; without it, it would be taken off a name such as openrouter's openai/gpt-4o.
    llm = LLM(model=f"openai/{endpoint.model}", custom_openai=True, base_url=endpoint.base_url, **settings)
    lines.watch(llm._get_sync_client())  # type: ignore[attr-defined]
    return llm


def _not_about_counting(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Using an approximate input token count")
