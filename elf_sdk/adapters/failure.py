"""What went wrong in a run, as one sentence for who called.

Needed when a run fails, and not before: it knows the HTTP client's errors, and so loads the HTTP client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import httpx

from elf_sdk.adapters.origin import author_line
from elf_sdk.errors import ElfError
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import RunContext, RunError

__all__ = ["said"]


def said(error: BaseException, ctx: RunContext) -> ElfError:
    """`error` as an error whose message is one sentence for the caller, without secrets.

    Looks through the chain of causes for what an HTTP client says about the model: a status, a timeout, a broken
    connection. Everything else is the team's own error, named by its type, its text and the line that raised it.
    """
    for link in _chain(error):
        if isinstance(link, ElfError):
            return link
        status = _status(link)
        if status is not None:
            return _model_error(status, link, ctx.endpoint)
        name = type(link).__name__
        if name == "APITimeoutError" or isinstance(link, httpx.TimeoutException):
            text = f"the model at {_host(ctx.endpoint)} did not answer within {ctx.endpoint.timeout:g} s"
            return RunError(f"{text}; try again, or raise llm.timeout", code="model", retryable=True)
        if name == "APIConnectionError" or isinstance(link, httpx.TransportError):
            text = f"the connection to the model at {_host(ctx.endpoint)} broke or could not be made"
            return RunError(f"{text}; try again, or check llm.base_url and the network", code="model", retryable=True)
    where = author_line(error)
    text = _without_key(" ".join(str(error).split())[:500], ctx.endpoint)
    return RunError(f"{type(error).__name__}: {text}{where}" if text else f"{type(error).__name__}{where}")


_HINTS: Final = {
    400: "did not accept the request",
    401: "refused the key; check the provider's API key",
    403: "does not allow this key to do that; check the key's rights",
    404: "knows no such model or address; check llm.model and llm.base_url",
    413: "says that the conversation is too long for it",
    429: "is asked too often; try again later",
}


def _model_error(status: int, error: BaseException, endpoint: Endpoint) -> RunError:
    hint = _HINTS.get(status, "failed; try again later" if status >= 500 else "did not accept the request")
    text = f"the model {endpoint.model!r} at {_host(endpoint)} {hint} (HTTP {status})"
    if status in (400, 413, 422):
        text += f": {_without_key(' '.join(_model_text(error).split())[:300], endpoint)}"
    return RunError(text, code="model", retryable=status in (408, 409, 429) or status >= 500)


def _model_text(error: BaseException) -> str:
    """What the model itself says, in the shape of OpenAI's errors, else the client's words."""
    response = getattr(error, "response", None)
    try:
        said_by_model = response.json()["error"]["message"] if isinstance(response, httpx.Response) else str(error)
    except (ValueError, KeyError, TypeError, httpx.StreamError):
        return str(error)
    return str(said_by_model)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _status(error: BaseException) -> int | None:
    for holder in (error, getattr(error, "response", None)):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int) and status >= 400:
            return status
    return None


def _host(endpoint: Endpoint) -> str:
    return httpx.URL(endpoint.base_url).netloc.decode()


def _without_key(text: str, endpoint: Endpoint) -> str:
    if len(endpoint.api_key) >= 8:
        text = text.replace(endpoint.api_key, "…")
    return re.sub(r"\b(sk-|Bearer )[\w.*-]{8,}", r"\1…", text)
