"""CrewAI's own LLM for a team's model, on the run's own line."""

from __future__ import annotations

import functools
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from elf_sdk.adapters.base import need
from elf_sdk.models.answer import ModelFailed, unanswered
from elf_sdk.models.llm import Endpoint

if TYPE_CHECKING:
    from crewai.llms.base_llm import BaseLLM

    from elf_sdk.models.line import Line

__all__ = ["crew_llm", "line_of"]


def line_of(endpoint: Endpoint, deadline: float | None) -> Line:
    """The connections of one run to its models; a cancel cuts them from another thread."""
    # With it comes the HTTP client.
    from elf_sdk.models.line import Line

    return Line(endpoint, deadline)


def crew_llm(endpoint: Endpoint, line: Line) -> BaseLLM:
    """CrewAI's own LLM for the team's model. It tries nothing again by itself: the line does.

    Call it in the context in which the crew runs.

    Raises:
        Missing: the provider's package is not installed.
    """
    from crewai.llms.retry import _active_llm_rate_limit_retry

    # CrewAI tries each call three times when it meets a 429, whatever `max_retries` says, and waits up to 8 s; but not
    # where it believes that it does so already. Its threads get a copy of this context.
    _active_llm_rate_limit_retry.set(True)
    # It also warns at every call to a model whose tokens it cannot count beforehand.
    logger = logging.getLogger("crewai.llms.base_llm")
    if _not_about_counting not in logger.filters:
        logger.addFilter(_not_about_counting)
    _line.set(line)
    settings: dict[str, Any] = {
        "model": endpoint.model,
        "api_key": endpoint.key(),
        "base_url": endpoint.base_url,
        "temperature": endpoint.temperature,
        "timeout": endpoint.timeout,
        "max_retries": 0,
        "stream": True,
    }
    llm: BaseLLM
    if endpoint.provider == "anthropic":
        need("anthropic", "crewai[anthropic]")
        llm = _anthropic()(provider="anthropic", **settings)
    else:
        llm = _openai()(provider="openai", custom_openai=True, **settings)
    return llm


_line: ContextVar[Line] = ContextVar("_line")
"""The line of the run that goes on here."""


_finish: ContextVar[str] = ContextVar("_finish", default="")
"""Why the model stopped in the call that goes on here."""


class _OnLine:
    """Mixed into CrewAI's own LLMs: what the line could not mend ends the crew.

    CrewAI has each agent do its task up to three times, whatever went wrong, so that all tries of the line would come
    three times. What it takes for a deliberate stop it leaves alone.
    """

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """See `BaseLLM.call`."""
        try:
            return _said(super().call(*args, **kwargs))  # type: ignore[misc] # of the class that this is mixed into
        except Exception as error:
            raise _stop(error) from error

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """See `BaseLLM.acall`."""
        try:
            return _said(await super().acall(*args, **kwargs))  # type: ignore[misc] # the same
        except Exception as error:
            raise _stop(error) from error

    def _emit_call_completed_event(self, *args: Any, **kwargs: Any) -> None:
        _finish.set(str(kwargs.get("finish_reason") or ""))
        super()._emit_call_completed_event(*args, **kwargs)  # type: ignore[misc] # the same


def _said(answer: Any) -> Any:
    if answer is None or answer == "":
        raise unanswered(_finish.get(), _line.get().answered())
    return answer


def _stop(error: Exception) -> Exception:
    """The error as CrewAI leaves it alone, where it is about the model and not about the request.

    A conversation that is too long, CrewAI shortens; a parameter that a model does not know, it leaves out.
    """
    import httpx
    from crewai.hooks.dispatch import HookAborted

    link: BaseException | None = error
    while link is not None:
        status = getattr(link, "status_code", None)
        connection = isinstance(link, httpx.TransportError) or type(link).__name__ == "APIConnectionError"
        if isinstance(link, ModelFailed) or connection or (isinstance(status, int) and status not in (400, 413, 422)):
            return HookAborted(str(error), source="the model")
        link = link.__cause__
    return error


# CrewAI makes a client of its own with each LLM, sooner than another could be given to it, and each of them reads the
# certificates of the system, for 20 ms.
@functools.cache
def _openai() -> Any:
    from crewai.llms.providers.openai.completion import OpenAICompletion
    from openai import AsyncOpenAI, OpenAI

    class Completion(_OnLine, OpenAICompletion):
        def _build_sync_client(self) -> Any:
            return OpenAI(**self._get_client_params(), http_client=_line.get().synchronous())

        def _build_async_client(self) -> Any:
            # CrewAI begins a loop here and a loop there.
            return AsyncOpenAI(**self._get_client_params(), http_client=_line.get().asynchronous(one_loop=False))

    return Completion


@functools.cache
def _anthropic() -> Any:
    from anthropic import Anthropic, AsyncAnthropic
    from crewai.llms.providers.anthropic.completion import AnthropicCompletion

    class Completion(_OnLine, AnthropicCompletion):
        def _build_sync_client(self) -> Any:
            return Anthropic(**self._get_client_params(), http_client=_line.get().synchronous())

        def _build_async_client(self) -> Any:
            return AsyncAnthropic(**self._get_client_params(), http_client=_line.get().asynchronous(one_loop=False))

    return Completion


def _not_about_counting(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Using an approximate input token count")
