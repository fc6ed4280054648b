"""LangGraph's own errors, as one sentence that says what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from langgraph.errors import EmptyInputError, GraphRecursionError, InvalidUpdateError
from langgraph.store.base import BaseStore
from typing_extensions import is_typeddict

from elf_sdk.adapters.langgraph.shape import Shape
from elf_sdk.runs.adapter import RunError
from elf_sdk.runs.places import raised_place

__all__ = ["explained", "lacking"]

_LIMIT: Final = re.compile(r"limit of (\d+)")
_TASK: Final = re.compile(r"During task with name '([^']*)'")
_NONE: Final = re.compile(r"'NoneType' object has no attribute '(\w+)'")
_CIRCLE: Final = 6
"""Nodes that are named of a circle."""


def explained(error: Exception, shape: Shape, visited: Sequence[str]) -> RunError | None:
    """What an error of LangGraph means; None where it is another's.

    Args:
        error: raised by a graph's run.
        shape: of the graph.
        visited: its latest nodes, in order.
    """
    if isinstance(error, GraphRecursionError):
        limit = _LIMIT.search(str(error))
        nodes = list(dict.fromkeys(visited[-20:]))
        circle = ", ".join(nodes[:_CIRCLE]) + (", …" if len(nodes) > _CIRCLE else "")
        return RunError(
            f"the graph took {limit[1] if limit else 'too many'} steps without coming to an end, the last of them in "
            f"{circle}: end that circle, or allow more steps with graph.with_config(recursion_limit=…)"
        )
    if isinstance(error, InvalidUpdateError):
        said = " ".join(str(error).partition("\nFor troubleshooting")[0].split())
        return RunError(f"{_node(error)}the graph's state cannot be updated: {said}")
    if isinstance(error, EmptyInputError):
        names = ", ".join(shape.fields or ())
        return RunError(
            f"the input of the graph gives none of its fields ({names}); look at input= of LangGraphAdapter, which has "
            "to return at least one of them"
        )
    return None


def lacking(error: Exception, graph: Any, context: object) -> RunError | None:
    """What an error of a graph's own code means where it looked into a context or a store that there is not.

    Args:
        error: raised by a graph's run.
        graph: compiled.
        context: that it was given.
    """
    found = _NONE.search(str(error)) if isinstance(error, AttributeError) else None
    if found is None:
        return None
    place = f" ({place})" if (place := raised_place(error)) else ""
    schema = getattr(graph, "context_schema", None)
    looked = dir(dict) if is_typeddict(schema) else getattr(schema, "__annotations__", ())
    if context is None and found[1] in looked:
        return RunError(
            f"the graph's code looks into its context{place}, and was given none; give it: "
            f"LangGraphAdapter(…, context=lambda ctx: {getattr(schema, '__name__', '')}(…))"
        )
    if graph.store is None and hasattr(BaseStore, found[1]) and found[1] not in dir(dict):
        return RunError(
            f"the graph's code calls {found[1]} of its store{place}, and was compiled without one; compile it with a "
            "store: compile(store=…)"
        )
    return None


def _node(error: Exception) -> str:
    for note in getattr(error, "__notes__", ()):
        if found := _TASK.search(note):
            return f"after the node {found[1]!r} "
    return ""
