"""LangChain's own client for a team's model, on the run's own line."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from elf_sdk.adapters.base import need
from elf_sdk.errors import Missing
from elf_sdk.models.answer import ModelFailed, unanswered, unreadable
from elf_sdk.models.llm import Endpoint

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from elf_sdk.models.line import Line

__all__ = ["chat_model", "line_of", "unusable"]


def line_of(endpoint: Endpoint, deadline: float | None) -> Line:
    """The connections of one run, closed with it; LangChain's own are never closed, and outlive their event loop."""
    # With it comes the HTTP client.
    from elf_sdk.models.line import Line

    return Line(endpoint, deadline)


def chat_model(endpoint: Endpoint, line: Line | None = None) -> BaseChatModel:
    """LangChain's own client for the team's model. It tries nothing again by itself: the line does.

    Args:
        endpoint: the model.
        line: carries the calls; by default one of its own, without a deadline, that nobody closes.

    Raises:
        Missing: the provider's LangChain package is not installed, or not in a version that can be used.
    """
    if endpoint.provider == "anthropic":
        need("langchain_anthropic", _ANTHROPIC)
        return _anthropic(endpoint, line or line_of(endpoint, None))
    need("langchain_openai", "elf-sdk[langgraph]")
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    line = line or line_of(endpoint, None)
    return ChatOpenAI(
        model=endpoint.model,
        base_url=endpoint.base_url,
        api_key=SecretStr(endpoint.key()),
        temperature=endpoint.temperature,
        timeout=endpoint.timeout,
        max_retries=0,
        streaming=True,
        http_client=line.synchronous(),
        http_async_client=line.asynchronous(),
        # LangChain leaves usage off for any address but OpenAI's own.
        stream_usage=True,
        use_responses_api=False,
    )


def unusable(message: Any, line: Line) -> ModelFailed | None:
    """What is wrong with a model's last message that says nothing; None where it was not a model that said nothing.

    A graph whose last message is a tool call that nobody can read, or an answer that a filter took away, has failed
    and not finished.
    """
    metadata = getattr(message, "response_metadata", None) or {}
    finish = metadata.get("finish_reason") or metadata.get("stop_reason")
    if not finish or str(message.text) or getattr(message, "tool_calls", None):
        return None
    served = line.answered(str(metadata.get("model_name") or ""))
    broken = getattr(message, "invalid_tool_calls", None)
    return unreadable(str(broken[0].get("name")), served) if broken else unanswered(str(finish), served)


_ANTHROPIC = "langchain-anthropic' 'anthropic<1"


def _anthropic(endpoint: Endpoint, line: Line) -> BaseChatModel:
    import httpx

    # Not among the extras, so there is nothing to type-check against.
    anthropic = importlib.import_module("anthropic")
    if not issubclass(anthropic.DefaultHttpxClient, httpx.Client):
        raise Missing(
            f"anthropic {anthropic.__version__} has another HTTP client than the rest; run: pip install '{_ANTHROPIC}'"
        )
    model: Any = importlib.import_module("langchain_anthropic").ChatAnthropic(
        model_name=endpoint.model,
        base_url=endpoint.base_url,
        api_key=endpoint.key(),
        temperature=endpoint.temperature,
        timeout=endpoint.timeout,
        max_retries=0,
        streaming=True,
        stream_usage=True,
    )
    # It takes no HTTP client, but makes its own clients only when they are first asked for.
    settings = model._client_params
    model.__dict__["_client"] = anthropic.Anthropic(**settings, http_client=line.synchronous())
    model.__dict__["_async_client"] = anthropic.AsyncAnthropic(**settings, http_client=line.asynchronous())
    return model  # type: ignore[no-any-return]
