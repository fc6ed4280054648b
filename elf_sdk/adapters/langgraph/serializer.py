"""Values of a graph's state as bytes, and back, without calling anything that the bytes name but plain data classes."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

import ormsgpack
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from elf_sdk.runs.adapter import RunError

__all__ = ["StrictSerializer"]

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

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """As `SerializerProtocol.dumps_typed`.

        Raises:
            RunError: it could not be read again; the message says what it is.
            TypeError: it cannot be written at all.
        """
        kind, data = self._strict.dumps_typed(obj)
        if kind == "msgpack" and not isinstance(obj, _PLAIN):
            self._admit(data)
        return kind, data

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """As `SerializerProtocol.loads_typed`.

        Raises:
            RunError: it holds something that must not or cannot be built here.
        """
        if data[0] == "msgpack":
            self._admit(data[1])
        return self._strict.loads_typed(data)

    def _admit(self, data: bytes) -> None:
        new = _types(data) - self._known
        if not new:
            return
        for module, name in new:
            if not (_is_safe(module, name) or _is_data(module, name)):
                raise RunError(
                    f"a {module}.{name} could not be built again; dataclasses, pydantic models and enumerations can, "
                    "when they stand at the top of a module that the team imports"
                )
        self._known |= new
        self._strict = self._strict.with_msgpack_allowlist(self._unsafe(new))

    @staticmethod
    def _unsafe(types: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
        return sorted(one for one in types if not _is_safe(*one))


def _types(data: bytes) -> set[tuple[str, str]]:
    """Module and name of all that the bytes would have built."""
    found: set[tuple[str, str]] = set()

    def look(code: int, payload: bytes) -> None:
        inner = ormsgpack.unpackb(payload, ext_hook=look, option=ormsgpack.OPT_NON_STR_KEYS)
        if code in _NAMED and isinstance(inner, list | tuple) and len(inner) > 1:
            found.add((str(inner[0]), str(inner[1])))

    ormsgpack.unpackb(data, ext_hook=look, option=ormsgpack.OPT_NON_STR_KEYS)
    return found


def _is_safe(module: str, name: str) -> bool:
    return (module, name) in SAFE_MSGPACK_TYPES


def _is_data(module: str, name: str) -> bool:
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and (
        dataclasses.is_dataclass(found)
        or issubclass(found, BaseModel | Enum)
        or (issubclass(found, tuple) and hasattr(found, "_fields"))
    )
