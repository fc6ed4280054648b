"""What went wrong in a run, as one sentence for who called.

Needed when a run fails, and not before: it knows the HTTP client's errors, and so loads the HTTP client.
"""

from __future__ import annotations

import math
import re
import socket
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import orjson

from elf_sdk.errors import ElfError
from elf_sdk.models.answer import ModelFailed
from elf_sdk.models.call import Setback, Verdict
from elf_sdk.models.line import LONGEST_ANSWER, EndlessAnswer
from elf_sdk.models.llm import NO_KEY, Endpoint
from elf_sdk.models.variables import NAME_IT, found_no_key
from elf_sdk.runs.adapter import RunContext, RunError
from elf_sdk.runs.places import chain, raised_place

__all__ = ["said"]


def said(error: BaseException, ctx: RunContext) -> ElfError:
    """`error` as an error whose message is one sentence for the caller, without secrets.

    Looks through the chain of causes for what is known of the model: a status, a timeout, a broken connection, an
    answer that is none. Anything else is the team's own error, named by its type, its text and the line that raised it.
    """
    for link in chain(error):
        if isinstance(link, ModelFailed):
            text = f"the model {link.endpoint.model!r} at {_host(link.endpoint.base_url)} {link}"
            return RunError(_without_key(text, ctx.endpoint), code="model", retryable=link.retryable)
        if isinstance(link, ElfError):
            return link
        if (found := _model_error(link, ctx.endpoint)) is not None:
            return found
    where = f" ({place})" if (place := raised_place(error)) else ""
    if any(found_no_key(link) for link in chain(error)):
        return RunError(f"{NAME_IT}{where}", code="model")
    # A group says how many there are; what went wrong is said by the first of them.
    link = next(link for link in chain(error) if not isinstance(link, BaseExceptionGroup))
    text = _without_key(" ".join(str(link).split())[:500], ctx.endpoint)
    return RunError(f"{type(link).__name__}: {text}{where}" if text else f"{type(link).__name__}{where}")


_HINTS: Final = {
    401: "refused the key; check the provider's API key",
    402: "wants to be paid first; check the provider's account",
    403: "does not allow this key to do that; check the key's rights",
    404: "knows no such model or address; check llm.model and llm.base_url",
}
_TOO_LONG: Final = re.compile(
    r"context_length_exceeded|request_too_large|context (length|window)|(maximum|exceeds? the( available)?) context"
    r"|(prompt|input) is too long|too many (input )?tokens",
    re.IGNORECASE,
)
"""How providers say that a conversation has more tokens than the model takes."""


def _model_error(link: BaseException, endpoint: Endpoint) -> RunError | None:
    """What a client's error says of the model; None where it says nothing."""
    kinds = {kind.__name__ for kind in type(link).__mro__}
    response = getattr(link, "response", None)
    status = getattr(link, "status_code", None) or getattr(response, "status_code", None)
    if isinstance(status, int) and status >= 400:
        return _refused(status, link, response, endpoint)
    model = _asked(link, endpoint)
    if isinstance(link, EndlessAnswer):
        return RunError(f"{model} wrote more than {LONGEST_ANSWER} bytes in one answer", code="model")
    if isinstance(link, httpx.TimeoutException) or "APITimeoutError" in kinds:
        text = f"{model} gave no sign of life for {endpoint.timeout:g} s"
        return RunError(f"{text}; try again, or raise llm.timeout", code="model", retryable=True)
    if isinstance(link, httpx.TransportError) or "APIConnectionError" in kinds:
        if any(isinstance(cause, socket.gaierror) for cause in chain(link)):
            text = f"the name of the host of {model} is not known"
            return RunError(f"{text}; check llm.base_url and the name service", code="model", retryable=True)
        text = f"the connection to {model} broke or could not be made"
        return RunError(f"{text}; try again, or check llm.base_url and the network", code="model", retryable=True)
    if "APIError" in kinds:
        # The answer had begun, so the error had no status any more.
        text = _without_key(" ".join(_model_text(link).split())[:300], endpoint)
        return RunError(f"{model} broke off in the middle of its answer: {text}", code="model", retryable=True)
    return None


def _refused(status: int, error: BaseException, response: Any, endpoint: Endpoint) -> RunError:
    model = _asked(error, endpoint)
    text = _without_key(" ".join(_model_text(error).split())[:300], endpoint)
    setback = Setback(status)
    if isinstance(response, httpx.Response):
        with suppress(httpx.StreamError):
            setback = Setback.of(status, response.headers, response.content, datetime.now(UTC))
    if status in (400, 413, 422) and _TOO_LONG.search(f"{setback.code} {text}"):
        return RunError(f"the conversation is too long for {model} (HTTP {status}): {text}", code="input")
    passing = setback.verdict is Verdict.PASSING
    if status == 429:
        hint = "is asked too often; try again later"
        if not passing:
            hint = "has no quota left for this account; check the provider's plan and billing"
        elif setback.retry_after:
            hint = f"is asked too often; try again in {math.ceil(setback.retry_after)} s"
    else:
        hint = _HINTS.get(status, "failed; try again later" if passing else "did not accept the request")
    whole = f"{model} {hint} (HTTP {status})"
    if status in (400, 413, 422):
        whole += f": {text}"
    return RunError(whole, code="model", retryable=passing)


def _asked(error: BaseException, endpoint: Endpoint) -> str:
    """The model that was asked last. It may be a fallback, which only the request that was sent tells."""
    for link in chain(error):
        # A framework's own error without a response names the request that it made, and not the one that was sent.
        holder = link if isinstance(link, httpx.HTTPError) else getattr(link, "response", None)
        request = _request(holder)
        if request is None:
            continue
        try:
            name = orjson.loads(request.content)["model"]
        except (orjson.JSONDecodeError, KeyError, TypeError, httpx.StreamError):
            name = endpoint.model
        return f"the model {name!r} at {request.url.netloc.decode()}"
    return f"the model {endpoint.model!r} at {_host(endpoint.base_url)}"


def _request(holder: object) -> httpx.Request | None:
    try:
        request = getattr(holder, "request", None)
    except RuntimeError:
        # httpx's way to say that there is none.
        return None
    return request if isinstance(request, httpx.Request) else None


def _model_text(error: BaseException) -> str:
    """What the model itself says, in the shape of OpenAI's or Anthropic's errors, else the client's words."""
    response = getattr(error, "response", None)
    try:
        said_by_model = response.json()["error"]["message"] if isinstance(response, httpx.Response) else str(error)
    except (ValueError, KeyError, TypeError, httpx.StreamError):
        return str(getattr(error, "message", "") or error)
    return str(said_by_model)


def _host(url: str) -> str:
    return httpx.URL(url).netloc.decode()


def _without_key(text: str, endpoint: Endpoint) -> str:
    for model in endpoint.chain():
        for key in (model.api_key, model.key()):
            if len(key) >= 8 and key != NO_KEY:
                text = text.replace(key, "…")
    return re.sub(r"\b(sk-|Bearer )[\w.*-]{8,}", r"\1…", text)
