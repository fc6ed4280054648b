"""LangChain's own client for a team's model."""

from __future__ import annotations

import functools
import importlib
import ssl
from typing import TYPE_CHECKING

from elf_sdk.adapters.base import need
from elf_sdk.models.llm import Endpoint

if TYPE_CHECKING:
    import httpx
    from langchain_core.language_models import BaseChatModel

__all__ = ["chat_model", "connections"]


@functools.cache
def _certificates() -> ssl.SSLContext:
    import httpx

    return httpx.create_ssl_context()  # costs tens of milliseconds, so once and not for each run


def connections(endpoint: Endpoint) -> httpx.AsyncClient:
    """The connections of one run, closed with it; LangChain's own are never closed, and outlive their event loop."""
    import httpx

    return httpx.AsyncClient(verify=_certificates(), timeout=endpoint.timeout, follow_redirects=True)


def chat_model(endpoint: Endpoint, client: httpx.AsyncClient | None = None) -> BaseChatModel:
    """LangChain's own client for the team's model.

    Args:
        endpoint: the model.
        client: carries the asynchronous calls; by default LangChain's shared one.

    Raises:
        Missing: the provider's LangChain package is not installed.
    """
    if endpoint.provider == "anthropic":
        need("langchain_anthropic", "langchain-anthropic")
        # Not among the extras, so there is nothing to type-check against.
        model: BaseChatModel = importlib.import_module("langchain_anthropic").ChatAnthropic(
            model_name=endpoint.model,
            base_url=endpoint.base_url,
            api_key=endpoint.api_key,
            temperature=endpoint.temperature,
            timeout=endpoint.timeout,
            max_retries=endpoint.retries,
        )
        return model
    need("langchain_openai", "elf-sdk[langgraph]")
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    return ChatOpenAI(
        model=endpoint.model,
        base_url=endpoint.base_url,
        api_key=SecretStr(endpoint.api_key),
        temperature=endpoint.temperature,
        timeout=endpoint.timeout,
        max_retries=endpoint.retries,
        streaming=True,
        http_async_client=client,
        # LangChain leaves usage off for any address but OpenAI's own.
        stream_usage=True,
        use_responses_api=False,
    )
