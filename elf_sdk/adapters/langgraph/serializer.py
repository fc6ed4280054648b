"""Values of a graph's state as bytes, and back, without calling anything that the bytes name but plain data classes."""

from __future__ import annotations

import dataclasses
import logging
import sys
from enum import Enum
from typing import Any, Final

import ormsgpack
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from elf_sdk.runs.adapter import RunError

__all__ = ["StrictSerializer"]

log = logging.getLogger("elf.adapters")

_PLAIN: Final = (str, int, float, bool, type(None))
_NAMED: Final = frozenset(range(6))
"""LangGraph's extension codes whose payload begins with a module and a name."""


class StrictSerializer:
    """LangGraph's own format, in its strict mode whatever `LANGGRAPH_STRICT_MSGPACK` says, and never pickle.

    Beside the types that LangGraph calls safe, only those are built that hold nothing but data (dataclasses, models of
    pydantic, enumerations, named tuples) and that this process has imported already. So bytes from a database can
    neither import a module nor call a function.
    """

    def __init__(self) -> None:
        self._strict = JsonPlusSerializer(pickle_fallback=False, allowed_msgpack_modules=None)
        self._known: set[tuple[str, str]] = set()
        self._warned: set[tuple[str, str]] = set()

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """As `SerializerProtocol.dumps_typed`. What could not be read again is written, and warned of.

        Raises:
            RunError: it is a secret.
            TypeError: it cannot be written.
        """
        kind, data = self._strict.dumps_typed(obj)
        if kind == "msgpack" and not _is_plain(obj):
            for module, name in self._unknown(data) - self._warned:
                if module == "pydantic.types" and name.startswith("Secret"):
                    raise RunError("it is a secret, which does not belong into a database")
                self._warned.add((module, name))
                log.warning("a graph's state holds %s; if its run has to go on later, it fails", _unbuilt(module, name))
        return kind, data

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """As `SerializerProtocol.loads_typed`.

        Raises:
            RunError: it holds something that must not or cannot be built here.
        """
        if data[0] == "msgpack":
            for module, name in sorted(self._unknown(data[1])):
                raise RunError(f"the run cannot go on, because the graph's state holds {_unbuilt(module, name)}")
        return self._strict.loads_typed(data)

    def _unknown(self, data: bytes) -> set[tuple[str, str]]:
        """What must not or cannot be built; all else is admitted."""
        new = _types(data) - self._known
        if not new:
            return new
        good = {one for one in new if one in SAFE_MSGPACK_TYPES or _is_data(*one)}
        self._known |= good
        self._strict = self._strict.with_msgpack_allowlist(sorted(good - SAFE_MSGPACK_TYPES))
        return new - good


def _is_plain(obj: Any) -> bool:
    """Whether there is nothing in it that would have to be looked at: it takes less time than to look."""
    if isinstance(obj, _PLAIN):
        return True
    if type(obj) is list:
        return all(_is_plain(item) for item in obj)
    if type(obj) is dict:
        return all(_is_plain(item) for item in obj.values())
    return type(obj) in (AIMessage, HumanMessage)


def _types(data: bytes) -> set[tuple[str, str]]:
    """Module and name of all that the bytes would have built."""
    found: set[tuple[str, str]] = set()

    def look(code: int, payload: bytes) -> None:
        inner = ormsgpack.unpackb(payload, ext_hook=look, option=ormsgpack.OPT_NON_STR_KEYS)
        if code in _NAMED and isinstance(inner, list | tuple) and len(inner) > 1:
            found.add((str(inner[0]), str(inner[1])))

    ormsgpack.unpackb(data, ext_hook=look, option=ormsgpack.OPT_NON_STR_KEYS)
    return found


def _unbuilt(module: str, name: str) -> str:
    return (
        f"{module}.{name}, which cannot be built again; dataclasses, pydantic models and enumerations can, when they "
        "stand at the top of a module that the team imports"
    )


def _is_data(module: str, name: str) -> bool:
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and (
        dataclasses.is_dataclass(found)
        or issubclass(found, BaseModel | Enum)
        or (issubclass(found, tuple) and hasattr(found, "_fields"))
    )
