"""Answers of a model that are none: empty, filtered, broken off by an error, or a tool call that nobody can read."""

from __future__ import annotations

from elf_sdk.errors import Failure
from elf_sdk.models.llm import Endpoint

__all__ = ["ModelFailed", "broken_off", "unanswered", "unreadable"]


class ModelFailed(Failure):
    """The model answered, and what it said cannot be used. The message goes on after the model's name.

    Attributes:
        endpoint: the model that said it.
        retryable: whether the same request may succeed later.
    """

    def __init__(self, message: str, endpoint: Endpoint, *, retryable: bool) -> None:
        super().__init__(message)
        self.endpoint = endpoint
        self.retryable = retryable


def unanswered(finish: str, endpoint: Endpoint) -> ModelFailed:
    """What an answer without content means, by the model's reason to finish."""
    if finish in ("content_filter", "refusal"):
        return ModelFailed("refused to answer: its filter let nothing pass", endpoint, retryable=False)
    if finish in ("length", "max_tokens"):
        return ModelFailed("had no room left for an answer; ask for more output tokens", endpoint, retryable=False)
    return ModelFailed("gave an empty answer; try again", endpoint, retryable=True)


def unreadable(tool: str, endpoint: Endpoint) -> ModelFailed:
    """A tool was called with arguments that are not JSON."""
    said = f"called the tool {tool!r} with arguments that are not JSON; try again"
    return ModelFailed(said, endpoint, retryable=True)


def broken_off(message: str, endpoint: Endpoint) -> ModelFailed:
    """An error came in the middle of the answer, where a status would have been too late."""
    return ModelFailed(f"broke off in the middle of its answer: {message}", endpoint, retryable=True)
